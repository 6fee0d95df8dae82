"""Reads images wherever they lie; archives are opened once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock

import numpy as np

from ..data.archives import ARCHIVES
from ..data.decode import decode_image, most_bytes, read_image
from .remote import is_url, open_remote, read_remote
from .sources import Source

ReadMember = Callable[[str], bytes]


class Reader:
    """Decodes images, from any number of threads."""

    def __init__(self) -> None:
        self._archives: dict[str, ReadMember] = {}
        self._lock = Lock()

    def __call__(self, source: Source) -> np.ndarray:
        """``(H, W, 3)`` uint8 RGB.

        Raises:
            OSError: it cannot be read.
            ValueError: as ``decode_image``, or it is larger than any image that would be decoded.
        """
        if source.member is not None:
            return decode_image(self._archive(source.place)(source.member), source.path)
        if is_url(source.place):
            fs, path = open_remote(source.place)
            return decode_image(read_remote(fs, path, source.place), source.place)
        return read_image(Path(source.place))

    def _archive(self, place: str) -> ReadMember:
        with self._lock:
            if place not in self._archives:
                self._archives[place] = _remote_members(place) if is_url(place) else _members(place)
            return self._archives[place]


def _members(place: str) -> ReadMember:
    archive = ARCHIVES[Path(place).suffix.lower()](Path(place))

    def read(member: str) -> bytes:
        if archive.size(member) > most_bytes():
            raise ValueError(f"{place}/{member}: expected at most {most_bytes()} bytes; --max-pixels allows more")
        return archive.read(member)

    return read


def _remote_members(place: str) -> ReadMember:
    """One after the other: fsspec reads all members of an archive through one open file."""
    (fs, _), lock = open_remote(place), Lock()

    def read(member: str) -> bytes:
        with lock:
            return read_remote(fs, member, f"{place}/{member}")

    return read
