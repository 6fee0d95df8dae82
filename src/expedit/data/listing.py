"""Which files of a folder count: one rule for data sets, for folders of photographs and for folders of frames.

Hidden files and results of an earlier run are left out. Two pictures of one name are refused: one of them is likely the
mask of the other. Names are compared composed (NFC), so files that a Mac has written match those of others.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from .decode import IMAGE_ENDINGS
from .writing import NEAR, is_marked

RESULT_KINDS = ("labels", "mask", "overlay", "legend", "panoptic", "depth", "features", "tokens")
"""``NAME_<kind>.png`` are the pictures that ``expedit predict`` writes of an image NAME."""

RESULT = re.compile(rf"(?P<name>.+)_(?:{'|'.join(RESULT_KINDS)})\.png")
NUMBER = re.compile(r"\d+")


class Listing(NamedTuple):
    """The pictures of a folder in natural order, and the results of an earlier run that were left out."""

    pictures: list[Path]
    results: list[Path]


def list_pictures(folder: Path) -> Listing:
    """The pictures that lie directly in a folder.

    Raises:
        FileNotFoundError: the folder has no pictures.
        ValueError: two pictures have one name.
    """
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not (entry.name.startswith(".") or entry.is_dir())]
    results = results_among(names, lambda name: _head(folder / name))
    found = by_key([name for name in names if name not in results], IMAGE_ENDINGS, lambda name: str(folder / name))
    if not found:
        raise FileNotFoundError(f"{folder}: no pictures in this folder; looked for {' '.join(IMAGE_ENDINGS)}")
    return Listing([folder / name for name in found.values()], [folder / name for name in sorted(results)])


def by_key(
    names: Sequence[str], endings: Sequence[str], where: Callable[[str], str], later_wins: bool = False
) -> dict[str, str]:
    """The names with one of the endings, by what stands before it (NFC), in natural order.

    Args:
        names: with "/" between folders.
        endings: in lower or upper case.
        where: a name as the path that messages show.
        later_wins: of two files that differ only in the ending, the later ending is taken.

    Raises:
        ValueError: two files have the same key.
    """
    found: dict[str, str] = {}
    lowered = [name.lower() for name in names]
    for ending in endings:
        for name, low in zip(names, lowered, strict=True):
            if not low.endswith(ending.lower()):
                continue
            key = normalize("NFC", name[: -len(ending)])
            if key in found and not later_wins:
                raise ValueError(
                    f"{where(name)}: expected one file of that name, but {where(found[key])} is there too; masks "
                    "belong in a folder of their own"
                )
            found[key] = name
    return {key: found[key] for key in sorted(found, key=natural)}


def results_among(names: Collection[str], head: Callable[[str], bytes]) -> set[str]:
    """Those of the names that an earlier ``expedit predict`` has written; ``head`` reads the beginning of a file.

    Only files beside their image, or beside the JSON of a result, are looked into.
    """
    known = {posixpath.splitext(name)[0] for name in names}
    results = set()
    for name in names:
        match = RESULT.fullmatch(posixpath.basename(name))
        if match and posixpath.join(posixpath.dirname(name), match["name"]) in known and is_marked(head(name)):
            results.add(name)
    return results


def natural(name: str) -> tuple[str, str]:
    """Sorts names by the numbers in them, also where these have no leading zeros: frame 2 before frame 10."""
    return NUMBER.sub(_with_length, name), name


def by_stem(name: str) -> tuple[tuple[str, str], str]:
    """Sorts names of files naturally, the ending last: x.png before x2.png."""
    return natural(posixpath.splitext(name)[0]), name


def _with_length(number: re.Match[str]) -> str:
    """Texts with their length in front sort like the numbers in them, however long these are."""
    digits = number[0].lstrip("0")
    return chr(len(digits)) + digits


def _head(path: Path) -> bytes:
    """Nothing of what is no regular file, such as a pipe that nobody writes to, or may not be read."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(NEAR)
    except OSError:
        return b""


def walk_pictures(folder: Path, spared: Path | None, broken: Callable[[str, OSError], object]) -> Iterator[str]:
    """Names of the pictures at any depth below ``folder``, relative to it, with "/" between folders.

    Those of a folder come before those of the folders in it, both in natural order. Links are followed, and a folder
    that several lead to is read once. Two pictures may have one name.

    Args:
        folder: where to look.
        spared: a folder that is left out, such as that of the results.
        broken: called with a folder that cannot be read, and why.
    """
    seen, waiting = {os.path.realpath(spared)} if spared and spared.exists() else set(), [""]
    seen.discard(os.path.realpath(folder))
    while waiting:
        inner = waiting.pop()
        here = folder / inner
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(here) as entries:
                listed = {entry.name: _is_dir(entry) for entry in entries if not entry.name.startswith(".")}
        except OSError as error:
            broken(str(here), error)
            continue
        names = [name for name, is_dir in listed.items() if not is_dir]
        results = results_among(names, lambda name, here=here: _head(here / name))  # type: ignore[misc]
        pictures = (name for name in names if name.lower().endswith(IMAGE_ENDINGS) and name not in results)
        yield from (posixpath.join(inner, name) for name in sorted(pictures, key=by_stem))
        deeper = (name for name, is_dir in listed.items() if is_dir)
        waiting += (posixpath.join(inner, name) for name in sorted(deeper, key=natural, reverse=True))


def _is_dir(entry: os.DirEntry[str]) -> bool:
    """Links that lead in a circle are no folders."""
    try:
        return entry.is_dir()
    except OSError:
        return False
