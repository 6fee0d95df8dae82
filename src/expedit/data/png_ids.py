"""Segment ids as the colours of a PNG: ``R + 256 G + 256² B``."""

from __future__ import annotations

import numpy as np

MAX_ID = 256**3 - 1
"""The largest segment id a PNG can hold."""


def ids_from_png(pixels: np.ndarray) -> np.ndarray:
    """``(H, W, 3)`` uint8 to ``(H, W)`` int32 segment ids: ``R + 256 G + 256² B``."""
    if pixels.ndim != 3 or pixels.shape[2] < 3 or pixels.dtype != np.uint8:
        raise ValueError(f"expected an RGB picture of segment ids, got shape {pixels.shape} of {pixels.dtype}")
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    return red + 256 * green + 256**2 * blue


def ids_to_png(ids: np.ndarray) -> np.ndarray:
    """``(H, W)`` segment ids to ``(H, W, 3)`` uint8; ValueError where one does not fit three bytes."""
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) <= MAX_ID:
        raise ValueError(f"expected segment ids in 0..{MAX_ID}, got {ids.min()}..{ids.max()}")
    return np.stack([ids // 256**power % 256 for power in range(3)], axis=-1).astype(np.uint8)
