"""The one result type of every task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .data.class_list import Color
from .models.card import Depth, Task


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


MAPS: dict[Task, tuple[str, str]] = {
    "semantic": ("labels", "HW"),
    "panoptic": ("labels", "HW"),
    "depth": ("depth", "HW"),
    "features": ("features", "hwc"),
}
"""The array that a result of each task needs, and its axes; of all others it is the masks."""


@dataclass(frozen=True)
class Prediction:
    """What a model finds in an image, at the image's own size.

    Attributes:
        task: semantic, panoptic, instance, video, depth or features.
        classes: class names by index.
        palette: RGB colours by class index.
        labels: ``(H, W)`` int32. Semantic: class index per pixel. Panoptic: segment id, 0 is nothing. Else ``None``.
        segments: panoptic segments, instances by falling score, or tracks.
        masks: ``(n, H, W)`` bool of the instances, ``(n, frames, H, W)`` of the tracks, else ``None``.
        depth: ``(H, W)`` float32, else ``None``.
        depth_kind: what it says: "metric" is metres, "inverse" is larger the nearer, up to a scale and a shift.
        features: ``(h, w, c)`` float32 of the patches that the model saw, else ``None``. A processor that crops the
            image shows it a part only.

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
    depth: np.ndarray | None = None
    depth_kind: Depth = "metric"
    features: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.task in MAPS:
            name, shape = MAPS[self.task]
            array: np.ndarray | None = getattr(self, name)
            if array is None or array.ndim != len(shape):
                raise ValueError(f"Prediction: a {self.task} result needs {name} of shape ({', '.join(shape)})")
        elif self.masks is None or len(self.masks) != len(self.segments):
            raise ValueError(f"Prediction: a {self.task} result needs one mask for each of its segments")
