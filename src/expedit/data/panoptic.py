"""What panoptic, instance and video data sets hand out, and the PNG code of segment ids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .rle import decode, to_rle

MAX_ID = 256**3 - 1
"""The largest segment id a PNG can hold."""


class SegmentLike(Protocol):
    """What counts as a segment of a prediction: its value in the map of ids, and its class index."""

    @property
    def id(self) -> int:
        """Its value in the map of ids."""

    @property
    def category(self) -> int:
        """Its class index."""


@dataclass(frozen=True)
class TrueSegment:
    """One segment of a panoptic ground truth.

    id: its value in the map of ids, 1 or more; category: class index; area: in pixels, as the file states it;
    iscrowd: a group that is not told apart; predictions on it are forgiven
    """

    id: int
    category: int
    area: int
    iscrowd: bool = False


@dataclass(frozen=True)
class PanopticSample:
    """One picture with its ground truth.

    name: unique within the data set and safe as a file name; image_id: as in the annotation file
    image: (H, W, 3) uint8, RGB
    ids: (H, W) int32, the segment each pixel belongs to, 0 = not labelled
    """

    name: str
    image_id: int | str
    image: np.ndarray
    ids: np.ndarray
    segments: tuple[TrueSegment, ...]


@dataclass(frozen=True)
class TrueInstance:
    """One object: class index, crowd flag and its COCO segmentation (polygons or run lengths)."""

    category: int
    segmentation: Any
    iscrowd: bool = False


@dataclass(frozen=True)
class InstanceSample:
    """One picture with its objects; the masks are decoded when asked for.

    name: unique within the data set and safe as a file name; image_id: as in the annotation file
    image: (H, W, 3) uint8, RGB
    """

    name: str
    image_id: int | str
    image: np.ndarray
    instances: tuple[TrueInstance, ...]

    def masks(self) -> np.ndarray:
        """``(n, H, W)`` bool."""
        height, width = self.image.shape[:2]
        masks = [decode(to_rle(one.segmentation, height, width)) for one in self.instances]
        return np.stack(masks) if masks else np.zeros((0, height, width), dtype=bool)


class Frames(Protocol):
    """Frames of a clip, decoded one by one: `frames[t]` is (H, W, 3) uint8 RGB."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray: ...

    def __iter__(self) -> Iterator[np.ndarray]: ...


@dataclass(frozen=True)
class VideoClip:
    """One clip with its tracks; neither frames nor masks are decoded before they are asked for.

    name: folder of its frames; video_id: as in the annotation file; size: (H, W) in pixels, as the file states it
    frames: decoded one by one; tracks: class index and a segmentation, or None, per frame
    """

    name: str
    video_id: int
    size: tuple[int, int]
    frames: Frames
    tracks: tuple[TrueTrack, ...] = ()


@dataclass(frozen=True)
class TrueTrack:
    """One object through a clip: `segmentations[t]` is a COCO segmentation, or None where it is absent."""

    category: int
    segmentations: tuple[Any, ...]
    iscrowd: bool = False

    def masks(self, height: int, width: int) -> np.ndarray:
        """``(T, H, W)`` bool."""
        empty = np.zeros((height, width), dtype=bool)
        return np.stack([decode(to_rle(one, height, width)) if one else empty for one in self.segmentations])


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


def box_of(mask: np.ndarray) -> list[int]:
    """``(H, W)`` bool, not empty, to ``[x, y, width, height]``."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1]
