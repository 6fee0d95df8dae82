"""Tensors and arrays as files hold them: where their bytes lie, read when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .pickles import Record, Reference

Storages = Callable[[str], memoryview]
"""Bytes of a torch storage by its key, to be released by whoever asked; an error if they are not there."""

STORAGES: Mapping[str, str] = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": "<i2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "|i1",
    "torch.ByteStorage": "|u1",
    "torch.BoolStorage": "|b1",
    "torch.ComplexFloatStorage": "<c8",
    "torch.ComplexDoubleStorage": "<c16",
}
"""Kinds of torch storages, and their numbers. numpy has no bfloat16: its bits are read as integers."""

NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
"""Numbers of fixed size; no objects, no text, no records."""

ORDERS = ("<", ">", "|", "=")
"""Orders of bytes."""


@dataclass(frozen=True)
class Stored:
    """A tensor in a file.

    Attributes:
        shape: its sizes.
        itemsize: bytes of each number.
        read: makes it, in memory of its own; ValueError if the file does not hold what it claims.
    """

    shape: tuple[int, ...]
    itemsize: int
    read: Callable[[], Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes it claims to have; not torch's own count, whose 64 bits wrap around."""
        return prod(self.shape) * self.itemsize


def stored(value: Any, storages: Storages) -> Stored | None:
    """The tensor or array that a record stands for; ``None`` for anything else.

    Raises:
        ValueError: it is one, but not of plain numbers, or its parts do not belong together.
    """
    while isinstance(value, Record) and value.name.startswith("torch._utils._rebuild_parameter"):
        value = next(iter(value.arguments), None)  # a parameter is a tensor that is trained
    if not isinstance(value, Record):
        return None
    name = value.name.rpartition(".")[2]
    if name == "_reconstruct":
        _, shape, dtype, fortran, raw = _fields(value.state, 5)
        return _array(raw, dtype, shape, bool(fortran))
    if name == "_frombuffer":  # an array in protocol 5
        raw, dtype, shape, order = _fields(value.arguments, 4)
        return _array(raw, dtype, shape, order == "F")
    if name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
        return _tensor(*_fields(value.arguments[:4], 4), storages=storages)
    if name.startswith("_rebuild") or (value.name.startswith("torch.") and name.endswith(("Tensor", "Parameter"))):
        raise ValueError(f"a plain tensor in memory, not what {value.name} makes")
    return None


def _fields(values: Any, count: int) -> tuple[Any, ...]:
    if not isinstance(values, tuple) or len(values) != count:
        raise ValueError(f"{count} values that say what it is")
    return values


def _sizes(values: Any) -> tuple[int, ...]:
    """Sizes, strides or an offset as non-negative integers."""
    if isinstance(values, Record) and values.name == "torch.Size" and values.arguments:
        values = values.arguments[0]
    if not isinstance(values, (tuple, list)) or not all(type(value) is int and value >= 0 for value in values):
        raise ValueError("sizes that are positive integers")
    return tuple(values)


def _array(raw: Any, dtype: Any, shape: Any, fortran: bool) -> Stored:
    """An array of numpy."""
    kind, sizes = _dtype(dtype), _sizes(shape)
    return Stored(sizes, kind.itemsize, partial(_read_array, raw, kind, sizes, fortran))


def _read_array(raw: Any, kind: np.dtype, shape: tuple[int, ...], fortran: bool) -> Tensor:
    data = _bytes(raw)
    if len(data) != prod(shape) * kind.itemsize:
        raise ValueError(f"the bytes of a {kind} array of shape {shape}, not {len(data)}")
    values = np.frombuffer(data, kind).reshape(shape, order="F" if fortran else "C")
    return torch.from_numpy(np.array(values, dtype=kind.newbyteorder("="), order="C"))


def _dtype(record: Any) -> np.dtype:
    """The dtype a record of numpy stands for: a code such as ``f4``, and the byte order that follows in its state."""
    if not isinstance(record, Record) or record.name != "numpy.dtype" or not record.arguments:
        raise ValueError("an array of numbers")
    code, order = str(record.arguments[0]), "="
    if isinstance(record.state, tuple) and len(record.state) > 1:
        order = str(record.state[1])
    if code.lstrip("".join(ORDERS)) not in NUMBERS or order not in ORDERS:
        raise ValueError(f"an array of numbers, not of {code[:20]!r}")
    return np.dtype(code if code[0] in ORDERS else order + code)


def _bytes(raw: Any) -> bytes | bytearray:
    """Bytes as the protocols write them: as they are, as text, as a call that encodes it, or as a call for none."""
    if isinstance(raw, Record) and raw.name == "_codecs.encode" and raw.arguments[1:] in ((), ("latin1",)):
        raw = raw.arguments[0]
    elif isinstance(raw, Record) and raw.name.endswith(".bytes") and not raw.arguments:
        raw = b""
    if isinstance(raw, str):
        raw = raw.encode("latin1")
    if not isinstance(raw, (bytes, bytearray)):
        raise ValueError("an array with values")
    return raw


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *, storages: Storages) -> Stored:
    """A tensor of torch: a view of a storage."""
    kind, key = storage_of(storage)
    if kind.name not in STORAGES:
        raise ValueError(f"a plain tensor in memory, not one with a {kind.name}")
    dtype, sizes, strides, (start,) = np.dtype(STORAGES[kind.name]), _sizes(shape), _sizes(stride), _sizes([offset])
    if len(sizes) != len(strides):
        raise ValueError("as many strides as sizes")
    read = partial(_read_tensor, partial(storages, key), dtype, start, sizes, strides)
    if kind.name == "torch.BFloat16Storage":
        return Stored(sizes, dtype.itemsize, lambda: read().view(torch.bfloat16))
    return Stored(sizes, dtype.itemsize, read)


def storage_of(reference: Any) -> tuple[type[Record], str]:
    """Kind and key of the storage that a reference names."""
    identity = reference.identity if isinstance(reference, Reference) else None
    if isinstance(identity, tuple) and len(identity) >= 3:
        what, kind, key = identity[:3]
        if what == "storage" and isinstance(kind, type) and issubclass(kind, Record):
            return kind, str(key)
    raise ValueError("a tensor with a storage in the file")


def _read_tensor(
    data: Callable[[], memoryview], dtype: np.dtype, start: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> Tensor:
    steps = tuple(stride * dtype.itemsize for stride in strides)
    with data() as part:
        if 0 in shape:  # numpy looks for the first number even where there is none
            return torch.from_numpy(np.empty(shape, dtype))
        try:
            values = np.array(np.ndarray(shape, dtype, part, start * dtype.itemsize, steps), order="C")
        except (TypeError, ValueError):
            raise ValueError(f"{shape} numbers, the file has less; it is damaged or cut short") from None
    return torch.from_numpy(values.astype(dtype.newbyteorder("="), copy=False))
