"""``torch.save`` files without trust: tensors and plain values come in, code stays out."""

from __future__ import annotations

import argparse
import re
import warnings
import zipfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .pickles import TIED

STATE_KEYS = ("model", "state_dict")
"""Where trainers put the weights: the official Segmenter, and mmsegmentation."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The weights of a ``torch.save`` file, floats as fp32, as copies that keep nothing else of the file in memory.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, not a dictionary of plain tensors, or it would run code when read; the message says which.
    """
    content = _unpickle(path)
    if isinstance(content, Mapping):
        inner = (content[key] for key in STATE_KEYS if isinstance(content.get(key), Mapping))
        content = next(inner, content)
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path}: expected a dictionary of tensors, got {type(content).__name__}")
    wrong = [str(name) for name, value in content.items() if not _plain(value)]
    if wrong:
        where = " or ".join(map(repr, STATE_KEYS))
        raise ValueError(f"{path}: expected plain tensors only, at the top or under {where}, got also {wrong[:8]}")
    # Not torch's own nbytes: its 64 bits wrap around.
    total, size = sum(prod(value.shape) * value.element_size() for value in content.values()), path.stat().st_size
    if total > TIED * size:
        raise ValueError(
            f"{path}: expected tensors of at most {TIED} times the {size} bytes of the file, got {total}: save "
            "copies of them (clone), not views of one another"
        )
    return {str(name): _copy(value) for name, value in content.items()}


def _plain(value: Any) -> bool:
    """Whether it is a tensor of numbers in memory: not sparse, nested, quantized or without values."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not (value.is_nested or value.is_quantized)
    )


def _copy(value: Tensor) -> Tensor:
    value = value.detach().clone(memory_format=torch.contiguous_format)
    return value.float() if value.is_floating_point() else value


def _unpickle(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    is_archive = zipfile.is_zipfile(path)
    try:
        if is_archive:
            _check_sizes(path)
        with torch.serialization.safe_globals(_harmless()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols, which are refused below if they matter
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"it asks for {wanted[1]!r}" if wanted else "it holds something else"
        raise ValueError(
            f"{path}: expected tensors and plain values, but {what}; it was not opened any further, nothing was run"
        ) from None
    except Exception as error:  # damaged files make the reader fail in any way there is
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: expected a whole torch checkpoint; it is damaged or cut short ({reason})") from None


def _check_sizes(path: Path) -> None:
    """ValueError if the archive claims to unpack to more than the file holds: torch stores, it does not compress."""
    with zipfile.ZipFile(path) as archive:
        claimed = sum(entry.file_size for entry in archive.infolist())
    if claimed > path.stat().st_size:
        raise ValueError(f"{claimed} bytes are packed in {path.stat().st_size}")


def _harmless() -> list[Any]:
    """What official checkpoints hold besides tensors: numpy scalars of the optimizer, by their old and new name."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = ("float64", "float32", "int64", "int32", "bool")
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(kind)) for kind in kinds),
        argparse.Namespace,
    ]
