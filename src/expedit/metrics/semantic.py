"""Mean intersection over union and its relatives, all read off one matrix of pixel counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..data.samples import IGNORE

Average = Literal["present", "labelled", "all"]


def confusion(prediction: np.ndarray, label: np.ndarray, classes: int, ignore: int = IGNORE) -> np.ndarray:
    """Count the pixels of one picture by what they are and what they are taken for.

    Matrices add up: over pictures, and over processes.

    Args:
        prediction: class index per pixel, integers in ``0..classes - 1``, any shape.
        label: class index per pixel or ``ignore``, of the same shape. Ignored pixels count nowhere.
        classes: number of classes.
        ignore: label value, at least 0, of pixels without ground truth.

    Returns:
        ``(classes, classes)`` int64, rows ground truth, columns prediction.

    Raises:
        ValueError: shapes differ, or a value is out of range; the message names the values.
    """
    if prediction.shape != label.shape:
        raise ValueError(f"prediction: expected the shape of the label {label.shape}, got {prediction.shape}")
    if not label.size:
        return np.zeros((classes, classes), np.int64)
    if prediction.min() < 0 or prediction.max() >= classes:
        raise ValueError(f"prediction: expected 0..{classes - 1}, got {_strays(prediction, classes)}")
    rows = max(256, classes, ignore + 1)
    problem = f"label: expected 0..{classes - 1} or {ignore}, got "
    if label.min() < 0 or label.max() >= rows:
        raise ValueError(problem + str(_strays(label, classes, ignore)))
    place = np.multiply(label, classes, dtype=np.int64)
    place += prediction
    counts = np.bincount(place.ravel(), minlength=rows * classes).reshape(rows, classes)
    counts[ignore] = 0
    if counts[classes:].any():
        raise ValueError(problem + str(_strays(label, classes, ignore)))
    return counts[:classes].astype(np.int64)


def _strays(values: np.ndarray, classes: int, ignore: int | None = None) -> list[int]:
    """Up to eight distinct values that are no class."""
    found = np.unique(values)
    return [int(value) for value in found if not 0 <= value < classes and value != ignore][:8]


@dataclass(frozen=True)
class SemanticScores:
    """The figures of a confusion matrix; all are shares in 0..1.

    Attributes:
        counts: ``(classes, classes)`` int64, rows ground truth, columns prediction.
    """

    counts: np.ndarray

    @property
    def labelled(self) -> np.ndarray:
        """``(classes,)`` bool: the class occurs in the ground truth."""
        occurs: np.ndarray = self.counts.sum(1) > 0
        return occurs

    @property
    def present(self) -> np.ndarray:
        """``(classes,)`` bool: the class occurs in the ground truth or in a prediction at a labelled pixel."""
        return self._union > 0

    @property
    def _union(self) -> np.ndarray:
        union: np.ndarray = self.counts.sum(0) + self.counts.sum(1) - self.counts.diagonal()
        return union

    @property
    def iou(self) -> np.ndarray:
        """``(classes,)`` float64 intersection over union, nan for classes that occur nowhere."""
        return _ratio(self.counts.diagonal(), self._union)

    @property
    def accuracy(self) -> np.ndarray:
        """``(classes,)`` float64 share of a class's pixels that are found, nan for classes without ground truth."""
        return _ratio(self.counts.diagonal(), self.counts.sum(1))

    def miou(self, over: Average = "present") -> float:
        """Mean IoU; nan if there is nothing to average.

        Args:
            over: "present": classes that occur in ground truth or prediction, the convention of mmsegmentation and of
                the published tables. "labelled": classes that occur in the ground truth, as detectron2 does it. "all":
                every class, those that occur nowhere count 0, as the ADE20K benchmark does it.
        """
        if over == "all":
            return _mean(np.nan_to_num(self.iou))
        return _mean(self.iou[self.present if over == "present" else self.labelled])

    @property
    def pixel_accuracy(self) -> float:
        """Share of the labelled pixels that are right; nan without any."""
        return float(_ratio(np.array(self.counts.trace()), np.array(self.counts.sum())))

    @property
    def class_accuracy(self) -> float:
        """Mean over the labelled classes of the share of their pixels that is found; nan without any."""
        return _mean(self.accuracy[self.labelled])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, nan where there is no whole."""
    ratio: np.ndarray = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return ratio


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
