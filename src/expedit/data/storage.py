"""A read-only file tree over a folder, an archive, or a folder that holds archives.

Nothing is ever unpacked to disk. Names are relative, with forward slashes, and never leave the tree: members of an
archive with absolute paths or ``..`` do not exist here, and asking for such a name is an error.
"""

from __future__ import annotations

import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

MEMBER_LIMIT = 1 << 28
"""Largest file that is read unless the caller allows more, in bytes."""

BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)
"""What ``zipfile`` raises on damage, passwords and what it does not know (``NotImplementedError``)."""


class Archive(Protocol):
    """One archive file: what it holds, and the bytes of a member."""

    path: Path

    @property
    def members(self) -> Mapping[str, object]:
        """Name in the tree of every file."""

    def size(self, name: str) -> int:
        """Bytes that ``read(name)`` will return."""

    def read(self, name: str) -> bytes:
        """The whole member."""


class ZipArchive:
    """A .zip file; every process that reads from it opens it anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: tuple[int, zipfile.ZipFile] | None = None
        infos = [info for info in self._zip().infolist() if not info.is_dir()]
        self.members: dict[str, str] = {
            name: info.filename for info in infos if (name := _tidy(info.filename)) is not None
        }

    def _zip(self) -> zipfile.ZipFile:
        # A forked worker shares the parent's file position, so a handle is good in its own process only.
        if self._handle is None or self._handle[0] != os.getpid():
            try:
                self._handle = os.getpid(), zipfile.ZipFile(self.path)
            except BROKEN_ZIP as error:
                raise ValueError(
                    f"{self.path}: expected a zip archive, but it is damaged or cut short ({error})"
                ) from None
        return self._handle[1]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_handle": None}

    def size(self, name: str) -> int:
        """As the directory of the archive states it; reading never returns more."""
        return self._zip().getinfo(self.members[name]).file_size

    def read(self, name: str) -> bytes:
        """The whole member, checked against its checksum; never is more unpacked than ``size`` says."""
        archive, where = self._zip(), f"{self.path}/{name}"
        info = archive.getinfo(self.members[name])
        # Python unpacks other kinds whole and then cuts them to the size they state.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(
                f"{where}: expected a file packed by deflate or not at all, got compression type {info.compress_type}; "
                "unpack the archive"
            )
        try:
            with archive.open(info.filename) as member:
                return member.read(info.file_size)
        except (*BROKEN_ZIP, OSError) as error:
            raise ValueError(f"{where}: cannot be read from the archive ({error})") from None


class TarArchive:
    """An uncompressed .tar file, as PASCAL VOC ships: members are read from their offset."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.members: dict[str, tuple[int, int]] = {}
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    name = _tidy(member.name)
                    if name is not None and member.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
                        self.members[name] = member.offset_data, member.size
        except tarfile.TarError as error:
            raise ValueError(f"{path}: expected an uncompressed tar archive that is not damaged ({error})") from None

    def size(self, name: str) -> int:
        """As its header states it."""
        return self.members[name][1]

    def read(self, name: str) -> bytes:
        """The whole member."""
        offset, size = self.members[name]
        with self.path.open("rb") as file:
            file.seek(offset)
            content = file.read(size)
        if len(content) != size:
            raise ValueError(f"{self.path}/{name}: expected {size} bytes in the archive, got {len(content)}")
        return content


ARCHIVES: dict[str, Callable[[Path], Archive]] = {".zip": ZipArchive, ".tar": TarArchive}


class Tree:
    """The files under ``root``: a folder, a .zip or .tar, or a folder with such archives directly in it.

    Where a folder is there as well as an archive that holds it, the folder is read. Archives are opened when first
    needed. A tree can be pickled, for the workers of a data loader.

    Raises:
        FileNotFoundError: ``root`` does not exist.
        ValueError: ``root`` is neither a folder nor such an archive, or an archive is damaged.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._archives: tuple[Archive, ...] | None = None
        if not self.root.exists():
            raise FileNotFoundError(f"{root}: no such folder or archive")
        if self.root.is_dir():
            self.archive_paths = tuple(sorted(p for p in self.root.iterdir() if p.suffix.lower() in ARCHIVES))
        elif self.root.suffix.lower() in ARCHIVES:
            self.archive_paths = (self.root,)
        else:
            raise ValueError(f"{root}: expected a folder, a .zip or a .tar")

    @property
    def archives(self) -> tuple[Archive, ...]:
        """The archives of this tree, opened."""
        if self._archives is None:
            self._archives = tuple(ARCHIVES[path.suffix.lower()](path) for path in self.archive_paths)
        return self._archives

    def where(self, name: str) -> str:
        """``name`` as a path that tells a user where it lies or should lie."""
        if not (self.root / name).exists():
            for archive in self.archives:
                if name in archive.members or _beneath(archive, name):
                    return f"{archive.path}/{name}"
        return str(self.root / name)

    def has(self, folder: str) -> bool:
        """Whether there is a folder of that name ("" is the root)."""
        path = self.root / inside(folder)
        return path.is_dir() or any(_beneath(archive, folder) for archive in self.archives)

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        path = self.root / inside(name)
        return path.is_file() or any(name in archive.members for archive in self.archives)

    def files(self, folder: str) -> list[str]:
        """Names of all files below ``folder``, at any depth, sorted; hidden ones are left out."""
        if (self.root / inside(folder)).is_dir():
            return sorted(self._walk(folder))
        return sorted({name for archive in self.archives for name in _beneath(archive, folder)})

    def folders(self) -> list[str]:
        """Names of the folders directly in the root, sorted."""
        names = {name.split("/")[0] for archive in self.archives for name in archive.members if "/" in name}
        if self.root.is_dir():
            names |= {path.name for path in self.root.iterdir() if path.is_dir() and not path.name.startswith(".")}
        return sorted(names)

    def read(self, name: str, limit: int = MEMBER_LIMIT) -> bytes:
        """The bytes of a file.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the name leaves the tree, or the file is damaged or larger than ``limit`` bytes.
        """
        path = self.root / inside(name)
        if path.is_file():
            self._fits(name, path.stat().st_size, limit)
            return path.read_bytes()
        for archive in self.archives:
            if name in archive.members:
                self._fits(name, archive.size(name), limit)
                return archive.read(name)
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

    def _fits(self, name: str, size: int, limit: int) -> None:
        if size > limit:
            raise ValueError(f"{self.where(name)}: expected at most {limit} bytes, got {size}")

    def _walk(self, folder: str) -> list[str]:
        names, seen = [], set()
        for top, below, files in os.walk(self.root / folder, followlinks=True):
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
    if name and _tidy(name, hidden=True) != name:
        raise ValueError(f"expected a relative path inside the data set, with forward slashes, got {name!r}")
    return name


def _tidy(name: str, hidden: bool = False) -> str | None:
    """A member's name without ``./``; None for names that leave the archive, and for what file managers add."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts or not parts or parts[0].endswith(":"):
        return None
    if not hidden and any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return None
    return "/".join(parts)


def _beneath(archive: Archive, folder: str) -> list[str]:
    prefix = f"{folder}/" if folder else ""
    return [name for name in archive.members if name.startswith(prefix)]
