"""A read-only file tree over a folder, an archive, or a folder that holds archives.

Nothing is ever unpacked to disk. Names are relative, with forward slashes, and never leave the tree: members of an
archive with absolute paths or ``..`` do not exist here, and asking for such a name is an error. Composed and decomposed
spellings of a name (NFC and NFD) mean the same file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unicodedata import normalize

from .archives import ARCHIVES, Archive, tidy

MEMBER_LIMIT = 1 << 28
"""Largest file that is read unless the caller allows more, in bytes."""


class Tree:
    """The files under ``root``: a folder, a .zip or .tar, or a folder with such archives directly in it.

    Where a folder is there as well as an archive that holds it, the folder is read. Archives are opened one by one
    while something is not found; one that cannot be read is left out, with a remark. A tree can be pickled, for the
    workers of a data loader.

    Raises:
        FileNotFoundError: ``root`` does not exist.
        ValueError: ``root`` is neither a folder nor such an archive, or is a damaged one.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._opened: dict[Path, Archive] = {}
        self._unreadable: dict[Path, str] = {}
        self._spellings: dict[Path, dict[str, str]] = {}
        if not self.root.exists():
            raise FileNotFoundError(f"{root}: no such folder or archive")
        if self.root.is_dir():
            self._paths = tuple(sorted(p for p in self.root.iterdir() if p.suffix.lower() in ARCHIVES and p.is_file()))
        elif self.root.suffix.lower() in ARCHIVES:
            self._paths = (self.root,)
        else:
            raise ValueError(f"{root}: expected a folder, a .zip or a .tar")

    @property
    def archives(self) -> Iterator[Archive]:
        """The archives of this tree, each opened when its turn comes."""
        for path in self._paths:
            if path not in self._opened and path not in self._unreadable:
                try:
                    self._opened[path] = ARCHIVES[path.suffix.lower()](path)
                except (ValueError, OSError) as error:
                    if path == self.root:
                        raise
                    self._unreadable[path] = str(error)
            if path in self._opened:
                yield self._opened[path]

    @property
    def remarks(self) -> tuple[str, ...]:
        """Archives that could not be read, and members that are left out, as far as archives were needed."""
        skipped = [
            f"{path}: {len(archive.skipped)} members are left out, links or names that leave the archive, such as "
            f"{archive.skipped[0]!r}"
            for path, archive in self._opened.items()
            if archive.skipped
        ]
        return (*(f"{error}; it is left out" for error in self._unreadable.values()), *skipped)

    def where(self, name: str) -> str:
        """``name`` as a path that shows a user where it lies or should lie."""
        path = self._path(name)
        if not path.exists():
            for archive in self.archives:
                if normalize("NFC", name) in archive.members or _beneath(archive, name):
                    return f"{archive.path}/{name}"
        unread = "; ".join(self._unreadable.values())
        return f"{path} ({unread})" if unread and not path.exists() else str(path)

    def has(self, folder: str) -> bool:
        """Whether there is a folder of that name ("" is the root)."""
        return self._path(inside(folder)).is_dir() or any(_beneath(archive, folder) for archive in self.archives)

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return self._path(inside(name)).is_file() or any(
            normalize("NFC", name) in archive.members for archive in self.archives
        )

    def files(self, folder: str) -> list[str]:
        """Names of all files below ``folder``, at any depth, sorted; hidden ones are left out."""
        if self._path(inside(folder)).is_dir():
            return sorted(self._walk(folder))
        return sorted({name for archive in self.archives for name in _beneath(archive, folder)})

    def folders(self) -> Iterator[str]:
        """Names of the folders directly in the root, some of them twice; those on disk first."""
        if self.root.is_dir():
            yield from sorted(p.name for p in self.root.iterdir() if p.is_dir() and not p.name.startswith("."))
        for archive in self.archives:
            yield from sorted({name.split("/")[0] for name in archive.members if "/" in name})

    def read(self, name: str, limit: int = MEMBER_LIMIT) -> bytes:
        """The bytes of a file.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the name leaves the tree, or the file is damaged or larger than ``limit`` bytes.
        """
        path = self._path(inside(name))
        if path.is_file():
            self._fits(name, path.stat().st_size, limit)
            return path.read_bytes()
        member = normalize("NFC", name)
        for archive in self.archives:
            if member in archive.members:
                self._fits(name, archive.size(member), limit)
                return archive.read(member)
        raise FileNotFoundError(f"{self.where(name)}: no such file")

    def lines(self, name: str) -> list[str]:
        """The lines of a text file without blank ones.

        Raises:
            FileNotFoundError: no such file.
            ValueError: no line, a line twice, or not text.
        """
        try:
            lines = [line.strip() for line in self.read(name).decode("utf-8-sig").splitlines()]
        except UnicodeDecodeError:
            raise ValueError(f"{self.where(name)}: expected text with one entry per line") from None
        lines = [line for line in lines if line]
        if not lines:
            raise ValueError(f"{self.where(name)}: expected one entry per line, got an empty list")
        if len(set(lines)) != len(lines):
            twice = next(line for i, line in enumerate(lines) if line in lines[:i])
            raise ValueError(f"{self.where(name)}: {twice!r} is listed twice")
        return lines

    def _path(self, name: str) -> Path:
        """Where the file or folder lies on disk, however its name is composed there."""
        path = self.root / name
        if name.isascii() or path.exists():
            return path
        path = self.root
        for part in name.split("/"):
            if not (path / part).exists():
                if path not in self._spellings:
                    names = os.listdir(path) if path.is_dir() else []
                    self._spellings[path] = {normalize("NFC", one): one for one in names}
                part = self._spellings[path].get(normalize("NFC", part), part)
            path /= part
        return path

    def _fits(self, name: str, size: int, limit: int) -> None:
        if size > limit:
            raise ValueError(f"{self.where(name)}: expected at most {limit} bytes, got {size}")

    def _walk(self, folder: str) -> list[str]:
        names, seen = [], set()
        for top, below, files in os.walk(self._path(folder), followlinks=True):
            real = os.path.realpath(top)
            # A link to one of its own parents would never end.
            below[:] = [] if real in seen else [name for name in below if not name.startswith(".")]
            if real not in seen:
                base = Path(top).relative_to(self.root)
                names += [(base / name).as_posix() for name in files if not name.startswith(".")]
            seen.add(real)
        return names


def inside(name: str) -> str:
    """``name`` itself, if it is a plain relative path.

    Raises:
        ValueError: it is absolute, contains ``..`` or a backslash.
    """
    if name and tidy(name) != normalize("NFC", name):
        raise ValueError(f"expected a relative path inside the data set, with forward slashes, got {name!r}")
    return name


def _beneath(archive: Archive, folder: str) -> list[str]:
    prefix = f"{normalize('NFC', folder)}/" if folder else ""
    return [name for name in archive.members if name.startswith(prefix)]
