"""Files that appear whole or not at all: written beside their place first, then renamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary neighbour of ``path`` to write to; it takes the name of ``path`` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Compact JSON, UTF-8."""
    with whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        json.dump(content, file, separators=(",", ":"), allow_nan=False)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """``(H, W)`` or ``(H, W, 3)`` uint8."""
    with whole(path) as partial:
        Image.fromarray(pixels).save(partial, format="PNG")
