"""Binary masks as COCO run lengths: column-major, compressed to a string."""

from __future__ import annotations

import math
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


def usable(segmentation: Any, height: int, width: int) -> Any:
    """A COCO segmentation of an H x W image without its polygons of fewer than three points, or with a point cut off.

    The COCO tools take those for boxes, or fail; detectron2 leaves them out. ``None`` where nothing is left.

    Raises:
        ValueError: neither polygons nor run lengths, damaged, or of another size than the image.
    """
    from hotcoco import mask

    try:
        if isinstance(segmentation, dict):
            size = [int(side) for side in segmentation["size"]]
            if size != [height, width]:
                raise ValueError(f"its size is {size}, the image's is {[height, width]}")
            mask.area(mask.frPyObjects(segmentation, height, width))  # walks the runs: damage shows here
            return segmentation
        kept = [polygon for polygon in segmentation or () if len(polygon) % 2 == 0 and len(polygon) >= 6]
        if not all(math.isfinite(number) for polygon in kept for number in polygon):
            raise ValueError("a polygon has coordinates that are not finite")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"expected polygons or run lengths of a {height} x {width} mask: {error}") from None
    return kept or None


def to_rle(segmentation: Any, height: int, width: int) -> Rle:
    """Any COCO segmentation of an H x W image: polygons, uncompressed or compressed run lengths.

    Raises:
        ValueError: as for `usable`, or no polygon has three points.
    """
    from hotcoco import mask

    region = usable(segmentation, height, width)
    if region is None:
        raise ValueError(f"expected polygons of three points or more, got {segmentation!r:.60}")
    rle = mask.frPyObjects(region, height, width)
    return _text(rle if isinstance(region, dict) else mask.merge(rle))


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
