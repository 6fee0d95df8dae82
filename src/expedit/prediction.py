"""The one result type of every task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .data.class_list import Color
from .models.card import Task


@dataclass(frozen=True)
class Segment:
    """One thing or one stretch of stuff.

    Attributes:
        id: its value in ``Prediction.labels`` (panoptic), or its place in ``Prediction.masks`` (instance, video).
        category: class index.
        score: confidence in 0..1.
        is_thing: whether the class is countable.
    """

    id: int
    category: int
    score: float
    is_thing: bool = True


@dataclass(frozen=True)
class Prediction:
    """What a model finds in an image, at the image's own size.

    Attributes:
        task: semantic, panoptic, instance or video.
        classes: class names by index.
        palette: RGB colours by class index.
        labels: ``(H, W)`` int32. Semantic: class index per pixel. Panoptic: segment id, 0 is nothing. Else ``None``.
        segments: panoptic segments, instances by falling score, or tracks.
        masks: ``(n, H, W)`` bool of the instances, ``(n, frames, H, W)`` of the tracks, else ``None``.

    Example:
        >>> import expedit, numpy
        >>> labels = numpy.array([[0, 1], [1, 1]], numpy.int32)
        >>> prediction = expedit.Prediction("semantic", ("road", "sky"), ((90, 90, 90), (120, 170, 240)), labels)
        >>> float((prediction.labels == prediction.classes.index("sky")).mean())
        0.75
    """

    task: Task
    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    labels: np.ndarray | None = None
    segments: tuple[Segment, ...] = ()
    masks: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.task in ("semantic", "panoptic"):
            if self.labels is None or self.labels.ndim != 2:
                raise ValueError(f"Prediction: a {self.task} result needs labels of shape (H, W)")
        elif self.masks is None or len(self.masks) != len(self.segments):
            raise ValueError(f"Prediction: a {self.task} result needs one mask for each of its segments")
