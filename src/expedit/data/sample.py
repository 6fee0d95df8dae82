"""What every semantic data set hands out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

IGNORE = 255
"""Label value of pixels that count neither in training nor in evaluation."""


@dataclass(frozen=True)
class Sample:
    """One picture with its ground truth.

    name:  unique within the data set and safe as a file name
    image: (H, W, 3) uint8, RGB
    label: (H, W) uint8 class index, `IGNORE` = not labelled; None when there is no ground truth
    """

    name: str
    image: np.ndarray
    label: np.ndarray | None


class SemanticData(Protocol):
    """A finite, indexable collection of samples; `classes[i]` and `palette[i]` (RGB, 0..255) describe label value i."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the label values."""

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...]:
        """One RGB colour per class."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...
