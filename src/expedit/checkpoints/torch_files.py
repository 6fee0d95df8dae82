"""Where ``torch.save`` puts things: an archive with a pickle and a file for each storage, or, before 2020, a stream."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from mmap import mmap
from typing import IO

import numpy as np

from .arrays import STORAGES, Storages, storage_of
from .foreign import NotCheckpoint, archive_kind
from .pickles import Reference, Unpickled, unpickle

MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""What the old format begins with, after two bytes: a number, pickled."""

HEADER = struct.Struct("<26xHH")
"""Of a file in an archive: lengths of its name and of what stands after that."""

MOST_SHOWN = 100
"""Letters of a name in a message."""

LENGTH = struct.Struct("<q")
"""Before each storage of the old format: how many numbers it has."""


def read_archive(file: IO[bytes], data: mmap) -> tuple[Unpickled, Storages]:
    """What a zip archive of ``torch.save`` holds; its storages are not read before they are asked for.

    Args:
        file, data: the same, opened and mapped.

    Raises:
        NotCheckpoint: an archive of another kind.
        Exception: of any kind where it is damaged.
    """
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
        if len(roots) != 1 or roots[0] + "constants.pkl" in entries:
            raise NotCheckpoint(archive_kind(entries))
        claimed = sum(entry.file_size for entry in entries.values())
        if claimed > len(data):
            raise ValueError(f"{claimed} bytes are packed in {len(data)}; torch does not pack")
        order = roots[0] + "byteorder"
        if order in entries and archive.read(order) != b"little":
            raise ValueError("its numbers are big-endian, which is not supported")
        content = unpickle(io.BytesIO(archive.read(roots[0] + "data.pkl")))
    checked: set[str] = set()

    def storage(key: str) -> memoryview:
        name = f"{roots[0]}data/{key}"
        if name not in entries:
            raise ValueError(f"{name[:MOST_SHOWN]} in the archive, which is cut short")
        entry = entries[name]
        start = entry.header_offset + HEADER.size + sum(HEADER.unpack_from(data, entry.header_offset))
        part = memoryview(data)[start : start + entry.file_size]
        if key not in checked and zlib.crc32(part) != entry.CRC:
            part.release()
            raise ValueError(f"the numbers that were written, but the checksum of {name} differs: it is damaged")
        checked.add(key)
        return part

    return content, storage


def read_stream(data: mmap) -> tuple[Unpickled, Storages]:
    """What the old format of ``torch.save`` holds: pickles, and the numbers of all storages after them.

    Raises:
        Exception: of any kind where it is damaged.
    """
    data.seek(data.find(MAGIC) + len(MAGIC))  # the caller has seen it
    _, system = unpickle(data), unpickle(data)
    if isinstance(system.content, dict) and system.content.get("little_endian") is False:
        raise ValueError("its numbers are big-endian, which is not supported")
    references: list[Reference] = []
    content = unpickle(data, references)
    if content.refused is not None:
        return content, lambda key: memoryview(b"")
    order = unpickle(data)
    sizes = {}
    for kind, key in map(storage_of, references):
        sizes[key] = np.dtype(STORAGES[kind.name]).itemsize
    places, at = {}, data.tell()
    for key in map(str, order.content):
        length = LENGTH.unpack_from(data, at)[0] * sizes[key]
        places[key] = slice(at + LENGTH.size, at + LENGTH.size + length)
        at += LENGTH.size + length
    return content, lambda key: memoryview(data)[places[key]]
