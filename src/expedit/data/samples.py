"""What data sets hand out: one picture or clip with its ground truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .class_list import Color
from .rle import decode, to_rle

IGNORE = 255
"""Label value of pixels that count neither in training nor in evaluation."""


@dataclass(frozen=True)
class Sample:
    """One picture with the class of every pixel.

    Attributes:
        name: unique within the data set and safe as a file name.
        image: ``(H, W, 3)`` uint8, RGB.
        label: ``(H, W)`` uint8 class index, ``IGNORE`` where not labelled; ``None`` without ground truth.
    """

    name: str
    image: np.ndarray
    label: np.ndarray | None


class SemanticData(Protocol):
    """A finite, indexable collection; ``classes[i]`` and ``palette[i]`` (RGB, 0..255) describe label value i."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the label values."""

    @property
    def palette(self) -> tuple[Color, ...]:
        """One RGB colour per class."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class DepthSample:
    """One picture with its depth.

    Attributes:
        name: unique within the data set and safe as a file name.
        image: ``(H, W, 3)`` uint8, RGB.
        depth: ``(H, W)`` float32 metres, 0 where it is not known.
    """

    name: str
    image: np.ndarray
    depth: np.ndarray


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

    Attributes:
        id: its value in the map of ids, 1 or more.
        category: class index.
        area: in pixels, as the file states it.
        iscrowd: a group of things that are not separated; predictions on it are forgiven.
    """

    id: int
    category: int
    area: int
    iscrowd: bool = False


@dataclass(frozen=True)
class PanopticSample:
    """One picture with its segments.

    Attributes:
        name: unique within the data set and safe as a file name.
        image_id: as in the annotation file.
        image: ``(H, W, 3)`` uint8, RGB.
        ids: ``(H, W)`` int32, the segment each pixel belongs to, 0 where not labelled.
        segments: what the ids are.
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

    Attributes:
        name: unique within the data set and safe as a file name.
        image_id: as in the annotation file.
        image: ``(H, W, 3)`` uint8, RGB.
        instances: the objects.
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
    """Frames of a clip, decoded one by one: ``frames[t]`` is ``(H, W, 3)`` uint8 RGB."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray: ...

    def __iter__(self) -> Iterator[np.ndarray]: ...


@dataclass(frozen=True)
class VideoClip:
    """One clip with its tracks; neither frames nor masks are decoded before they are asked for.

    Attributes:
        name: folder of its frames.
        video_id: as in the annotation file.
        size: (H, W) in pixels, as the file states it.
        frames: decoded one by one.
        tracks: the objects; none where the ground truth is not public.
    """

    name: str
    video_id: int | str
    size: tuple[int, int]
    frames: Frames
    tracks: tuple[TrueTrack, ...] = ()


@dataclass(frozen=True)
class TrueTrack:
    """One object through a clip: ``segmentations[t]`` is a COCO segmentation, or ``None`` where it is absent."""

    category: int
    segmentations: tuple[Any, ...]
    iscrowd: bool = False

    def masks(self, height: int, width: int) -> np.ndarray:
        """``(T, H, W)`` bool."""
        empty = np.zeros((height, width), dtype=bool)
        return np.stack([decode(to_rle(one, height, width)) if one else empty for one in self.segmentations])
