"""What a model must say beside its weights: what its classes are and how its images were prepared."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from ..data.class_list import Color

Task = Literal["semantic", "panoptic", "instance", "video", "depth", "features"]
Resampling = Literal["opencv", "pillow"]
Output = Literal["pixels", "queries", "depth", "features"]
Depth = Literal["metric", "inverse"]


@dataclass(frozen=True)
class Card:
    """The inference protocol a model was made for.

    Attributes:
        task: what ``expedit.predict`` makes of it.
        classes: class names by index.
        palette: RGB colours by class index, 0..255.
        mean, std: of the pixels, RGB, on the 0..255 scale: ``(pixel - mean) / std``.
        resize: (long max, short max) in pixels; an image is scaled by ``min(long max / long, short max / short)``.
            ``None`` takes images as they are.
        crop: side of the sliding window in pixels, ``None`` for whole images.
        stride: its step in pixels.
        resampling: "opencv" (bilinear without antialias, the Segmenter protocol) or "pillow" (antialiased).
        things: class indices that are things, where the task knows things and stuff.
        source: where the weights come from.
        multiple: images are padded with zeros, at the right and the bottom, to multiples of this many pixels.
        output: what the model returns: class logits of every "pixels", class and mask logits of its "queries", "depth",
            or "features" of its tokens.
        score_threshold: panoptic segments come from queries with a higher score.
        overlap_threshold: a query that owns a smaller share of its mask makes no panoptic segment.
        instances: most instances of an image, or tracks of a clip.
        depth: what a depth says: "metric" is metres, "inverse" is larger the nearer, up to a scale and a shift.
    """

    task: Task
    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    resize: tuple[int, int] | None = None
    crop: int | None = None
    stride: int | None = None
    resampling: Resampling = "opencv"
    things: tuple[int, ...] = ()
    source: str = ""
    multiple: int = 1
    output: Output = "pixels"
    score_threshold: float = 0.8
    overlap_threshold: float = 0.8
    instances: int = 100
    depth: Depth = "metric"

    def __post_init__(self) -> None:
        for name, kind in (("task", Task), ("resampling", Resampling), ("output", Output), ("depth", Depth)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name}: expected one of {get_args(kind)}, got {getattr(self, name)!r}")
        if len(self.palette) != len(self.classes):
            raise ValueError(f"palette: expected {len(self.classes)} colours, one per class, got {len(self.palette)}")
        if len(self.mean) != 3 or len(self.std) != 3:
            raise ValueError(f"mean and std: expected three numbers each, got {self.mean} and {self.std}")
        if (self.crop is None) != (self.stride is None):
            raise ValueError(f"crop and stride belong together, got {self.crop} and {self.stride}")
        if self.crop is not None and self.stride is not None and not 1 <= self.stride <= self.crop:
            raise ValueError(f"stride: expected 1..{self.crop}, or windows leave gaps, got {self.stride}")
        if self.multiple < 1:
            raise ValueError(f"multiple: expected at least 1 pixel, got {self.multiple}")


def card_of(model: nn.Module) -> Card:
    """The card of a model, accelerated or not; ValueError for a module that has none."""
    card = getattr(model, "card", None)
    if not isinstance(card, Card):
        raise ValueError(
            f"{type(model).__name__} has no card, which says what its classes are and how its images are prepared: "
            "expected a model from expedit.load, or one whose attribute `card` is an expedit.models.card.Card"
        )
    return card


def generic_card(classes: int, crop: int) -> Card:
    """The Segmenter protocol with numbered classes, for weights that come without a card."""
    names = tuple(f"class {index}" for index in range(classes))
    return Card("semantic", names, distinct_colors(classes), resize=(4 * crop, crop), crop=crop, stride=crop)


def distinct_colors(count: int) -> tuple[Color, ...]:
    """``count`` colours, those of neighbours in the list easy to tell apart: golden-angle hues at alternating value."""
    colors = []
    for index in range(count):
        r, g, b = colorsys.hsv_to_rgb(index * 0.61803 % 1, 0.55 + 0.15 * (index % 3), 0.95 - 0.2 * (index % 2))
        colors.append((round(255 * r), round(255 * g), round(255 * b)))
    return tuple(colors)
