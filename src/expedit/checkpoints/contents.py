"""Files of weights, known by what is in them and not by their endings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from .arrays import Storages, Stored, stored
from .foreign import NotCheckpoint, file_kind
from .pickles import Record, Unpickled, unpickle
from .torch_files import MAGIC, read_archive, read_stream

HEAD = 512
"""Bytes that tell what a file is."""

TEXT = frozenset(b"\t\n\r" + bytes(range(32, 127)))
"""Bytes of plain text."""

LONGEST = 1 << 27
"""Bytes of the header of a safetensors file, less than."""

MOST_SHOWN, LONGEST_MESSAGE = 200, 20_000
"""Letters of one of a file's own words in a message, and of all of it."""

DEEPEST = 4
"""Dictionaries inside one another, at most, to the one with the weights."""

TIED = 2
"""Bytes of weights for each byte of a file, at most: files share some weights between names, but pack none."""


@dataclass(frozen=True)
class Contents:
    """An open file of weights.

    Attributes:
        size: of the file in bytes.
        states: dictionaries of tensors in it, by the keys that lead to each, outermost first.
        beside: the outermost dictionary: what a trainer left beside the weights. Nothing in it is trustworthy.
        metadata: texts in a safetensors file.
    """

    size: int
    states: Mapping[tuple[str, ...], Mapping[str, Stored]]
    beside: Mapping[Any, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def read(self, state: Mapping[str, Stored]) -> dict[str, Tensor]:
        """Tensors of ``state``, floats as fp32, in memory of their own.

        Raises:
            ValueError: they claim more than the file can hold, or a tensor does not fit its bytes.
        """
        claimed = sum(value.nbytes for value in state.values())
        if claimed > TIED * self.size:
            raise ValueError(
                f"expected tensors of at most {TIED} times the {self.size} bytes of the file, got {claimed}: save "
                "copies of them (clone), not views of one another"
            )
        return {name: _read(name, value) for name, value in state.items()}


def _read(name: str, value: Stored) -> Tensor:
    try:
        tensor = value.read()
    except Exception as error:  # the file does not hold what it claims
        raise ValueError(f"{name[:MOST_SHOWN]}: expected {error}") from None
    return tensor.float() if tensor.is_floating_point() else tensor


@contextmanager
def opened(path: Path) -> Iterator[Contents]:
    """What a file of weights holds: safetensors, ``torch.save`` of any age, or pickled arrays, whatever its ending.

    Tensors are read while it is open, and only those that are asked for.

    Raises:
        FileNotFoundError: no such file.
        ValueError: something else (the message says what), damaged, or it asks for code. Also what goes wrong inside
            the block gets the name of the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {'expected a regular file' if path.exists() else 'no such file'}")
    try:
        with path.open("rb") as file:
            head, size = file.read(HEAD), os.fstat(file.fileno()).st_size
            if _is_safetensors(head):
                with _safetensors(path, size) as contents:
                    yield contents
                return
            if kind := file_kind(head):
                raise NotCheckpoint(kind)
            with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
                yield _pickled(file, data, head)
    except NotCheckpoint as error:
        raise ValueError(f"{path}: expected a checkpoint, got {_printable(error)}") from None
    except ValueError as error:
        named = str(error).startswith(str(path))
        raise ValueError(_printable(error) if named else f"{path}: {_printable(error)}") from None


def _printable(error: ValueError) -> str:
    """A message in one line: names in a file may have anything in them, and there may be any number of them."""
    message = str(error)
    more = f" … ({len(message)} letters)" if len(message) > LONGEST_MESSAGE else ""
    letters = (letter if letter.isprintable() else ascii(letter)[1:-1] for letter in message[:LONGEST_MESSAGE])
    return "".join(letters) + more


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name of the first dictionary in a file that has any; see ``opened``."""
    with opened(path) as contents:
        return contents.read(next(iter(contents.states.values())))


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < LONGEST


@contextmanager
def _safetensors(path: Path, size: int) -> Iterator[Contents]:
    try:
        with safe_open(path, "pt") as file:
            state = {name: _sliced(file, name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
            yield Contents(size, {(): state}, metadata=file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"expected a whole safetensors file, but it is damaged or cut short ({error})") from None


def _sliced(file: Any, name: str) -> Stored:
    return Stored(tuple(file.get_slice(name).get_shape()), 1, partial(file.get_tensor, name))


def _pickled(file: Any, data: mmap, head: bytes) -> Contents:
    """What a file of pickles holds."""
    found, storages = _unpickled(file, data, head)
    beside = _mapping(found.content) or {}
    if found.refused is not None:
        for value in (found.content, *beside.values()):
            if isinstance(value, Record) and isinstance(value.state, dict) and "_modules" in value.state:
                name = value.name[:MOST_SHOWN]
                raise NotCheckpoint(
                    f"a whole pickled model ({name}), which could run code; nothing was run: save its state_dict()"
                )
        raise ValueError(
            f"expected tensors and plain values, but it asks for {found.refused[:MOST_SHOWN]!r}, which could run code; "
            "nothing was run"
        )
    if not (states := dict(_states(found.content, storages))):
        raise ValueError(f"expected a dictionary of named tensors, got a {type(found.content).__name__} without any")
    return Contents(len(data), states, beside)


def _unpickled(file: Any, data: mmap, head: bytes) -> tuple[Unpickled, Storages]:
    """The pickle in an archive, in the old format of torch, or alone; ValueError if it is damaged."""
    kind = "torch checkpoint"
    try:
        if head.startswith(b"PK"):
            return read_archive(file, data)
        if MAGIC in head[:32]:
            return read_stream(data)
        kind = "safetensors file, torch checkpoint or pickle of arrays"
        return unpickle(data), _no_storage
    except NotCheckpoint:
        raise
    except Exception as error:  # damaged files make the readers fail in any way there is
        if all(byte in TEXT for byte in head):
            raise NotCheckpoint("a text file, not weights") from None
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise ValueError(f"expected a whole {kind}; it is damaged or cut short ({reason[:MOST_SHOWN]})") from None


def _no_storage(key: str) -> memoryview:
    raise ValueError("arrays of numpy; tensors of torch need torch.save")


def _mapping(value: Any) -> Mapping[Any, Any] | None:
    """The items of a dictionary, also of one that keeps its order."""
    if isinstance(value, Record) and value.name == "collections.OrderedDict":
        listed = value.arguments[0] if value.arguments and isinstance(value.arguments[0], list) else ()  # in Python 2
        pairs = (pair for pair in listed if isinstance(pair, (list, tuple)) and len(pair) == 2)
        return {**{pair[0]: pair[1] for pair in pairs if isinstance(pair[0], str)}, **value}
    return value if isinstance(value, dict) and not isinstance(value, Record) else None


def _states(content: Any, storages: Storages) -> Iterator[tuple[tuple[str, ...], dict[str, Stored]]]:
    """Every dictionary with tensors, and the keys that lead to it, outermost first."""
    level: list[tuple[tuple[str, ...], Any]] = [((), content)]
    seen: set[int] = set()
    for _ in range(DEEPEST):
        inner: list[tuple[tuple[str, ...], Any]] = []
        for path, value in level:
            items = None if id(value) in seen else _mapping(value)
            seen.add(id(value))
            named = {key: item for key, item in (items or {}).items() if isinstance(key, str)}
            if state := {key: tensor for key, item in named.items() if (tensor := _stored(item, storages))}:
                yield path, state
            inner.extend(((*path, key), item) for key, item in named.items() if isinstance(item, dict))
        level = inner


def _stored(value: Any, storages: Storages) -> Stored | None:
    """A tensor; one that is not plain says so when it is read."""
    try:
        return stored(value, storages)
    except Exception as error:  # arguments of any kind
        return Stored((), 0, partial(_refuse, str(error)))


def _refuse(reason: str) -> Tensor:
    raise ValueError(reason)
