"""Where images come from: files, folders, patterns, lists, archives and object stores, in an order that never changes.

Results of an image are called after it. Those of one folder, archive or pattern keep its tree; several of them get a
folder each.
"""

from __future__ import annotations

import os
import posixpath
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from glob import has_magic, iglob
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple, TextIO

from ..data.archives import ARCHIVES
from ..data.decode import IMAGE_ENDINGS
from ..data.listing import by_stem, walk_pictures
from .remote import is_url, list_remote

ADVICE = "give the folder that holds both, or a list (@FILE): their trees are kept"


class Source(NamedTuple):
    """One image.

    Attributes:
        place: path or URL of the file, or of the archive that it is in.
        name: of its results, without ending, "/" between folders; never absolute and never with "..".
        member: what it is called in the archive.
    """

    place: str
    name: str
    member: str | None = None

    @property
    def path(self) -> str:
        """What messages, journals and tables call it."""
        return self.place if self.member is None else f"{self.place}/{self.member}"


class Failure(NamedTuple):
    """An image, or a folder, and why there is no result of it."""

    path: str
    reason: str


class Found(NamedTuple):
    """The images in order, and the folders that could not be read."""

    sources: list[Source]
    failures: list[Failure]


def check_words(words: Sequence[str]) -> None:
    """FileNotFoundError, before a model is read, if one of the places is missing."""
    for word in words:
        place = word[1:] if _is_list(word) else word
        if not (place == "-" or is_url(place) or _is_pattern(word) or Path(place).exists()):
            raise FileNotFoundError(f"{place}: no such file or folder")


def find(words: Sequence[str], spared: Path | None = None, stdin: TextIO | None = None) -> Found:
    """All images that the words name, each once.

    Args:
        words: paths of images, of folders or of .zip and .tar archives, patterns such as "photos/**/*.jpg", URLs of
            any of them, "@FILE" for a file with one of these per line, or "-" for such lines from standard input.
        spared: a folder that is left out: that of the results.
        stdin: what "-" reads; ``None``: standard input.

    Raises:
        FileNotFoundError: a place is missing or holds no pictures.
        ValueError: results of two images would have one name, or an archive is damaged.
        ImportError: a URL needs a library that is missing.
    """
    failures: list[Failure] = []

    def broken(folder: str, error: OSError) -> None:
        failures.append(Failure(folder, f"{folder}: {error.strerror or error}"))

    roots = [root for word in words for root in _roots(word, stdin)]
    several = sum(root.is_tree for root in roots) > 1
    found = [
        Source(place, posixpath.join(folder, inner) if inner else root.name + _ending(place), member)
        for root in roots
        for folder in [root.name if several or root.kept else ""]
        for place, inner, member in _inside(root.place, spared, broken)
    ]
    return Found(_named(found), failures)


Inside = tuple[str, str, str | None]
"""Place of an image, what it is called in what was named (empty where that is the image), and its archive's member."""


class _Root(NamedTuple):
    """A place, what its results, or their folder, are called, and whether that folder is there in any case."""

    place: str
    name: str
    kept: bool = False

    @property
    def is_tree(self) -> bool:
        """Whether there may be several images in it."""
        return os.path.isdir(self.place) or self.place.endswith("/") or is_archive(self.place)


def _roots(word: str, stdin: TextIO | None) -> Iterator[_Root]:
    if word == "-":
        yield from _lines(word, stdin or sys.stdin)
    elif _is_list(word):
        with open(word[1:], encoding="utf-8", errors="surrogateescape") as lines:
            yield from _lines(word[1:], lines)
    elif _is_pattern(word):
        yield from _matches(word)
    else:
        name = posixpath.basename(word.rstrip("/")) if is_url(word) else Path(word).absolute().name
        yield _Root(word, _called(word, name))


def _is_list(word: str) -> bool:
    return word.startswith("@") and len(word) > 1 and not Path(word).exists()


def _is_pattern(word: str) -> bool:
    return has_magic(word) and not is_url(word) and not Path(word).exists()


def _lines(name: str, lines: Iterable[str]) -> Iterator[_Root]:
    """Places line by line; results are called after the whole path, so that no line changes the names of others."""
    places = [line.strip("\r\n") for line in lines if line.strip()]
    if not places:
        raise FileNotFoundError(f"{name}: expected one path per line, got an empty list")
    for place in places:
        yield _Root(place, _called(place, _relative(place)), kept=True)


def _matches(pattern: str) -> Iterator[_Root]:
    """The images and archives of a pattern; their tree begins at the folder before its first sign."""
    parts = Path(pattern).parts
    base = Path(*takewhile(lambda part: not has_magic(part), parts))
    if "**" in parts:
        wanted = parts[len(base.parts) :]
        inside = walk_pictures(base, None, lambda folder, error: None)
        found = [str(base / name) for name in inside if _fits(name.split("/"), wanted)]
    else:
        fitting = (path for path in iglob(pattern) if path.lower().endswith(IMAGE_ENDINGS) or is_archive(path))
        found = sorted(fitting, key=by_stem)
    if not found:
        raise FileNotFoundError(f"{pattern}: no pictures match this pattern; looked for {' '.join(IMAGE_ENDINGS)}")
    for path in found:
        yield _Root(path, _called(path, Path(path).relative_to(base).as_posix()), kept=True)


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path fits a pattern with "**"; Python's own search does not end where links lead in circles."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _inside(place: str, spared: Path | None, broken: Callable[[str, OSError], object]) -> Iterator[Inside]:
    """What lies at a place; FileNotFoundError where that is nothing."""
    found = _tree(place, spared, broken)
    if found is None:
        yield place, "", None
        return
    empty = True
    for one in found:
        empty = False
        yield one
    if empty:
        kind = "folder" if os.path.isdir(place) else "archive" if is_archive(place) else "place"
        raise FileNotFoundError(f"{place}: no pictures in this {kind}; looked for {' '.join(IMAGE_ENDINGS)}")


def _tree(place: str, spared: Path | None, broken: Callable[[str, OSError], object]) -> Iterator[Inside] | None:
    """The images in a folder, an archive or at a URL; ``None``: the place is a file."""
    if is_url(place):
        return list_remote(place)
    if os.path.isdir(place):
        return ((posixpath.join(place, name), name, None) for name in walk_pictures(Path(place), spared, broken))
    if is_archive(place):
        members = ARCHIVES[Path(place).suffix.lower()](Path(place)).members
        pictures = sorted((name for name in members if name.lower().endswith(IMAGE_ENDINGS)), key=by_stem)
        return ((place, name, name) for name in pictures)
    return None


def _named(sources: Iterable[Source]) -> list[Source]:
    """Endings taken off, but of images that have one name otherwise; an image that comes twice is taken once."""
    sources = list(dict.fromkeys(sources))
    stems = Counter(_stem(source.name) for source in sources)
    sources = [one._replace(name=stem) if stems[stem := _stem(one.name)] == 1 else one for one in sources]
    first: dict[str, Source] = {}
    for source in sources:
        if (other := first.setdefault(source.name, source)).path != source.path:
            raise ValueError(
                f"several images are called {source.name!r}: results of {other.path} and {source.path} would overwrite "
                f"one another; {ADVICE}"
            )
    return list(first.values())


def _stem(path: str) -> str:
    return os.path.splitext(path)[0]


def _ending(path: str) -> str:
    return os.path.splitext(path)[1]


def _called(place: str, name: str) -> str:
    """``name`` without its ending, unless the place is a folder."""
    return name if os.path.isdir(place) or place.endswith("/") else _stem(name)


def _relative(path: str) -> str:
    """A path, or a URL, as one inside the folder of results."""
    inner = path.partition("://")[2] if is_url(path) else os.path.splitdrive(path)[1]
    return "/".join(part for part in Path(os.path.normpath(inner)).parts if part not in (os.sep, ".."))


def is_archive(path: str) -> bool:
    """Whether it is called like one that can be read, and is no folder."""
    return Path(path).suffix.lower() in ARCHIVES and (is_url(path) or os.path.isfile(path))
