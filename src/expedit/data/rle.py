"""Binary masks as COCO run lengths: column-major, compressed to a string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Rle = dict[str, Any]
"""``{"size": [H, W], "counts": str}``, ready for JSON."""


def encode(masks: np.ndarray) -> list[Rle]:
    """``(n, H, W)`` bool to n run-length masks."""
    from hotcoco import mask

    if masks.ndim != 3:
        raise ValueError(f"encode: expected masks of shape (n, H, W), got {masks.shape}")
    return [_text(mask.encode(one.astype(bool, copy=False))) for one in masks]


def to_rle(segmentation: Any, height: int, width: int) -> Rle:
    """Any COCO segmentation of an H x W image: polygons, uncompressed or compressed run lengths.

    Raises:
        ValueError: neither of these, damaged, or of another size than the image.
    """
    from hotcoco import mask

    try:
        if isinstance(segmentation, dict):
            size = [int(side) for side in segmentation["size"]]
            if size != [height, width]:
                raise ValueError(f"its size is {size}, the image's is {[height, width]}")
            rle = mask.frPyObjects(segmentation, height, width)
        else:
            rle = mask.merge(mask.frPyObjects(segmentation, height, width))
        mask.decode(rle)  # walks the runs: damage shows here
        return _text(rle)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"expected polygons or run lengths of a {height} x {width} mask: {error}") from None


def decode(rle: Rle) -> np.ndarray:
    """``(H, W)`` bool."""
    from hotcoco import mask

    return mask.decode(rle).astype(bool)


def area(rle: Rle) -> float:
    """Pixels inside."""
    from hotcoco import mask

    return float(mask.area(rle))


def box(rle: Rle) -> list[float]:
    """``[x, y, width, height]`` around the mask in pixels; zeros where it is empty."""
    from hotcoco import mask

    return [float(side) for side in mask.to_bbox(rle)]


def box_of(mask: np.ndarray) -> list[int]:
    """``(H, W)`` bool, not empty, to ``[x, y, width, height]``."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1]


def side_by_side(frames: Sequence[Rle | None], height: int, width: int) -> Rle:
    """One ``H x (T * W)`` mask from T masks of H x W; ``None`` is an empty one.

    Intersections and unions of such masks are those of the tubes, summed over time.
    """
    from hotcoco import mask

    tube = np.zeros((height, width * len(frames)), dtype=np.uint8, order="F")
    for index, frame in enumerate(frames):
        if frame is not None:
            tube[:, index * width : (index + 1) * width] = mask.decode(frame)
    return _text(mask.encode(tube))


def _text(rle: Rle) -> Rle:
    counts = rle["counts"]
    return {"size": list(rle["size"]), "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}
