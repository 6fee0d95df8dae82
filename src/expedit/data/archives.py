"""Archives as read-only files by name: what is in them is checked, and never unpacked to disk."""

from __future__ import annotations

import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol
from unicodedata import normalize

BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)
"""What ``zipfile`` raises on damage, passwords and what it does not know (``NotImplementedError``)."""


LOCAL_HEADER = struct.Struct("<26xHH")
"""What lies before a member of a zip archive; at its end are the lengths of two fields that follow."""

ENCRYPTED = 0x41
"""Flags of members with a password."""


class Archive(Protocol):
    """One archive file: what it holds, the bytes of a member, and the members that are left out."""

    path: Path
    skipped: list[str]

    @property
    def members(self) -> Mapping[str, object]:
        """Name in the tree of every file, composed (NFC)."""

    def size(self, name: str) -> int:
        """Bytes that ``read(name)`` will return."""

    def read(self, name: str) -> bytes:
        """The whole member."""


class ZipArchive:
    """A .zip file. Only its directory is kept: every read opens the file anew, whichever thread or process it is in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.skipped = []
        self.members: dict[str, zipfile.ZipInfo] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                infos = archive.infolist()
        except BROKEN_ZIP as error:
            raise ValueError(f"{path}: expected a zip archive, but it is damaged or cut short ({error})") from None
        for info in infos:
            if info.is_dir():
                continue
            name = tidy(_spelled(info))
            if name is None:
                self.skipped.append(info.filename)
            elif not _is_hidden(name):
                self.members[name] = info

    def size(self, name: str) -> int:
        """As the directory of the archive states it; reading never returns more."""
        return self.members[name].file_size

    def read(self, name: str) -> bytes:
        """The whole member, checked against its checksum; never is more unpacked than ``size`` says."""
        info, where = self.members[name], f"{self.path}/{name}"
        # Python unpacks other kinds whole and then cuts them to the size they state.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(
                f"{where}: expected a file packed by deflate or not at all, got compression type {info.compress_type}; "
                "unpack the archive"
            )
        try:
            with self.path.open("rb") as file, zipfile.ZipExtFile(_at(file, info), "r", info) as member:
                return member.read(info.file_size)
        except (*BROKEN_ZIP, OSError) as error:
            raise ValueError(f"{where}: cannot be read from the archive ({error})") from None


def _at(file: BinaryIO, info: zipfile.ZipInfo) -> BinaryIO:
    """``file`` where the packed bytes of a member begin."""
    if info.flag_bits & ENCRYPTED:
        raise ValueError("it is encrypted")
    file.seek(info.header_offset)
    header = file.read(LOCAL_HEADER.size)
    if len(header) < LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
        raise ValueError("no file begins where the directory says")
    file.seek(sum(LOCAL_HEADER.unpack(header)), os.SEEK_CUR)
    return file


class TarArchive:
    """An uncompressed .tar file, as PASCAL VOC ships: members are read from their offset."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.skipped = []
        self.members: dict[str, tuple[int, int]] = {}
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    name = tidy(member.name)
                    if member.isdir():
                        continue
                    if name is None or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                        self.skipped.append(member.name)
                    elif not _is_hidden(name):
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


def tidy(name: str) -> str | None:
    """A name in an archive, composed and without ``./``; ``None`` for names that leave the archive."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts or not parts or parts[0].endswith(":"):
        return None
    return normalize("NFC", "/".join(parts))


def _is_hidden(name: str) -> bool:
    """Whether it is what file managers add."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _spelled(info: zipfile.ZipInfo) -> str:
    """The name of a member: old programs of Windows write backslashes, those of a Mac UTF-8 without saying so."""
    name = info.filename
    if not info.flag_bits & 0x800:  # "names are UTF-8"; else Python reads them in the code page of DOS
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")
