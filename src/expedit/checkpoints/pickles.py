"""Reading detectron2's pickled arrays without running anything that a pickle may contain.

The few names such files use are answered with stand-ins of our own, so not even numpy's constructors meet hostile
arguments; every other name is refused before it is imported.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

DTYPE = re.compile(r"[<>|=]?([fiu][1248]|b1)")
"""Numbers of fixed size; no objects, no strings, no records."""

DAMAGED = (
    pickle.UnpicklingError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    EOFError,
    ImportError,
    ArithmeticError,
    MemoryError,
    RecursionError,
)
"""What the unpickler raises on files that are cut short, damaged or made to harm."""

TIED = 2
"""Bytes of weights for each byte of a file, at most: files share some weights between names, but pack none."""


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Arrays of a detectron2 ``.pkl`` by name: ``{"model": {name: array}, ...}`` or ``{name: array}``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a pickle: damaged, or it asks for code. The message names what it asks for.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with path.open("rb") as file:
        try:
            # latin1, as in detectron2: arrays pickled by Python 2 keep their bytes.
            content = _Reader(file, encoding="latin1").load()
        except _Refused as error:
            raise ValueError(f"{path}: refused, {error}") from None
        except DAMAGED as error:
            raise ValueError(f"{path}: expected a whole pickle of arrays, but it is damaged ({error})") from None
    try:
        return _tensors(content, TIED * path.stat().st_size)
    except DAMAGED as error:
        raise ValueError(f"{path}: {error}") from None


def _tensors(content: Any, limit: int) -> dict[str, Tensor]:
    if not isinstance(content, dict):
        raise ValueError(f"expected a dictionary of arrays, got {type(content).__name__}")
    arrays = content.get("model", content)
    if not isinstance(arrays, dict) or not arrays:
        raise ValueError(f"expected named arrays under 'model', got {type(arrays).__name__}")
    state, total = {}, 0
    for name, array in arrays.items():
        if not isinstance(name, str) or not isinstance(array, _Array):
            raise ValueError(f"expected an array for each name, got {type(array).__name__} for {name!r}")
        state[name] = torch.from_numpy(array.read())
        total += state[name].nbytes
        if total > limit:
            raise ValueError(
                f"expected arrays of at most {limit} bytes, {TIED} times the file, got more: names share "
                "arrays, save copies"
            )
    return state


class _Refused(Exception):
    """The pickle asks for a name that arrays do not need."""


class _Reader(pickle.Unpickler):
    """Knows the names in ``STAND_INS`` and no others."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for ``module.name``."""
        if (module, name) not in STAND_INS:
            raise _Refused(f"it asks for {module}.{name}, which arrays do not need and which could run code")
        return STAND_INS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """References to things outside the file."""
        raise _Refused("it refers to objects outside the file")


class _Dict(dict[Any, Any]):
    """An ``OrderedDict``; attributes that a pickle sets on it (``_metadata``) are dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


class _DType:
    """``numpy.dtype``: a code such as ``f4``, and the byte order that follows in its state."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = str(code), "="

    def __setstate__(self, state: Any) -> None:
        self.order = str(state[1])

    def resolve(self) -> np.dtype:
        """The dtype; ValueError unless it is a plain number."""
        code = self.code if self.code[:1] in "<>|=" else self.order + self.code
        if not DTYPE.fullmatch(code):
            raise ValueError(f"expected arrays of numbers, got dtype {code!r}")
        return np.dtype(code)


class _Array:
    """``numpy.ndarray`` before its state is checked: raw bytes, a dtype and a shape."""

    raw: Any = None

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.fortran, self.raw = state

    def read(self) -> np.ndarray:
        """The array in native byte order; ValueError if bytes, dtype and shape do not belong together."""
        if self.raw is None or not isinstance(self.dtype, _DType):
            raise ValueError("expected arrays of numbers, got one without values")
        raw = self.raw.encode("latin1") if isinstance(self.raw, str) else self.raw
        dtype = self.dtype.resolve()
        sizes = isinstance(self.shape, tuple) and all(isinstance(n, int) and n >= 0 for n in self.shape)
        if not sizes or not isinstance(raw, (bytes, bytearray)) or len(raw) != prod(self.shape) * dtype.itemsize:
            raise ValueError(f"expected the bytes of a {dtype} array of shape {self.shape!r}")
        values = np.frombuffer(raw, dtype).reshape(self.shape, order="F" if self.fortran else "C")
        return np.array(values, dtype=dtype.newbyteorder("="), order="C")


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """How protocol 5 rebuilds an array."""
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", raw))
    return array


def _scalar(dtype: Any, raw: Any) -> Any:
    """A number beside the arrays, such as a learning rate; nobody asks for it."""
    return None


def _encode(text: Any, encoding: Any = "latin1") -> str:
    """Protocol 2 writes bytes as text that is encoded again: only when an array is read, or copies could pile up."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused(f"it asks for the codec {encoding!r}")
    return text


def _no_bytes() -> bytes:
    """Protocol 2 writes empty bytes as a call without arguments."""
    return b""


STAND_INS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _Dict,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
    ("numpy", "dtype"): _DType,
    ("numpy", "ndarray"): _Array,
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}
"""Everything an honest file names, before numpy 2 and after."""
