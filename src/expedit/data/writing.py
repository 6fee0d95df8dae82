"""Files that appear whole or not at all: written beside their place first, then renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary neighbour of ``path``, this process's own; it takes the name of ``path`` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """UTF-8, line ends as they are."""
    with whole(path) as partial:
        partial.write_text(content, encoding="utf-8", newline="")


def write_json(path: Path, content: Any) -> None:
    """Compact JSON, UTF-8."""
    write_text(path, json.dumps(content, separators=(",", ":"), allow_nan=False))


def write_png(path: Path, pixels: np.ndarray) -> None:
    """``(H, W)`` or ``(H, W, 3)`` uint8."""
    with whole(path) as partial:
        Image.fromarray(pixels).save(partial, format="PNG")


def write_array(path: Path, values: np.ndarray) -> None:
    """``.npy``."""
    with whole(path) as partial, partial.open("wb") as file:
        np.save(file, values, allow_pickle=False)
