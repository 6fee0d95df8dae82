"""Class lists of published data sets, found by the names that a checkpoint gives its classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import ade20k_panoptic, cityscapes, coco
from .annotations import Categories

CITYSCAPES_THINGS = tuple(range(11, 19))
"""Person to bicycle."""

LIKE = 0.5
"""Share of equal names from which on a list is the published one: people spell a few of its classes differently."""


def cityscapes_categories() -> Categories:
    """The 19 classes; a category id is the train id."""
    _, names, palette = zip(*cityscapes.CLASSES, strict=True)
    return Categories(names, palette, tuple(range(len(names))), CITYSCAPES_THINGS)


LISTS: tuple[Callable[[], Categories], ...] = (
    coco.panoptic_categories,
    coco.instance_categories,
    ade20k_panoptic.panoptic_categories,
    ade20k_panoptic.instance_categories,
    cityscapes_categories,
)


def known_classes(names: Sequence[str]) -> Categories | None:
    """The published list that ``names`` are, in their order; of synonyms ("door, double door") the first counts."""
    for listed in (categories() for categories in LISTS):
        if len(listed.names) == len(names):
            equal = sum(_first(one) == _first(other) for one, other in zip(names, listed.names, strict=True))
            if equal > LIKE * len(names):
                return listed
    return None


def _first(name: str) -> str:
    return name.replace(";", ",").partition(",")[0].strip().casefold()
