"""How far a model repeats what the dense model says of photographs, whatever its task; no ground truth is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..data.photographs import Photographs
from ..data.samples import Sample
from ..models.card import Card
from ..prediction import Prediction
from .depth import DepthJudge, depth_difference
from .judge import Judge, Metric, Record, Scores

NOTHING = -1
"""Class of pixels that belong to no segment."""


@dataclass(frozen=True)
class Repetition(Judge):
    """One number per picture: the mean over the pictures is the agreement. Subclasses say which number."""

    kind: ClassVar[Any] = Photographs
    headline: ClassVar[Metric] = Metric("truth", "truth", "photographs have none")
    agreement: ClassVar[Metric | None]

    def measure(self, prediction: Prediction, reference: Prediction) -> float:
        """How far the prediction repeats the reference."""
        raise NotImplementedError

    def record(self, sample: Sample, prediction: Prediction, reference: Prediction | None) -> Record:
        """The number of the picture."""
        if reference is None:
            raise ValueError(f"{sample.name}: photographs have no ground truth, compare with the dense model")
        return {"agreement": self.measure(prediction, reference)}

    def scores(self, records: Sequence[Record]) -> Scores:
        """The mean over the pictures."""
        assert self.agreement is not None, "every repetition is measured"
        return Scores({}, {}, {self.agreement.key: float(np.mean([record["agreement"] for record in records]))})


@dataclass(frozen=True)
class SameClasses(Repetition):
    """Pixels that get the dense model's class."""

    task: ClassVar[str] = "classes of pixels"
    agreement: ClassVar[Metric | None] = Metric(
        "pixel_agreement", "agreement", "pixels that get the dense model's class"
    )

    def __post_init__(self) -> None:
        """Any task whose results are classes of pixels."""

    def measure(self, prediction: Prediction, reference: Prediction) -> float:
        """Share of equal pixels."""
        return float((classes_of(prediction) == classes_of(reference)).mean())


@dataclass(frozen=True)
class SameFeatures(Repetition):
    """Cosine of the features of every patch with those of the dense model."""

    task: ClassVar[str] = "features"
    agreement: ClassVar[Metric | None] = Metric("cosine", "cosine", "mean cosine with the dense model's features")

    def measure(self, prediction: Prediction, reference: Prediction) -> float:
        """Mean over the patches."""
        return float(cosines(prediction, reference).mean())


@dataclass(frozen=True)
class SameDepth(Repetition):
    """Distance from the dense model's depth."""

    task: ClassVar[str] = "depth"
    agreement: ClassVar[Metric | None] = DepthJudge.agreement

    def measure(self, prediction: Prediction, reference: Prediction) -> float:
        """Mean distance over the mean depth."""
        return depth_difference(prediction, reference)


REPETITIONS: Mapping[str, type[Repetition]] = {
    **dict.fromkeys(("semantic", "panoptic", "instance"), SameClasses),
    "features": SameFeatures,
    "depth": SameDepth,
}
"""By task."""


def repetition_of(card: Card, data: Photographs) -> Repetition:
    """The judge of a model on photographs; ValueError for a task without one."""
    if card.task not in REPETITIONS:
        raise ValueError(f"expected a model for {', '.join(REPETITIONS)} to compare on photographs, got {card.task}")
    return REPETITIONS[card.task](card, data)


def classes_of(prediction: Prediction) -> np.ndarray:
    """``(H, W)`` class of every pixel, ``NOTHING`` where there is none; of instances that overlap the surest counts."""
    if prediction.task == "semantic":
        assert prediction.labels is not None
        return prediction.labels
    if prediction.masks is not None:
        found = np.full(prediction.masks.shape[1:], NOTHING)
        for place in np.argsort([segment.score for segment in prediction.segments], kind="stable"):
            found[prediction.masks[place]] = prediction.segments[place].category
        return found
    assert prediction.labels is not None
    table = np.full(int(prediction.labels.max(initial=0)) + 1, NOTHING)
    for segment in prediction.segments:
        if segment.id < len(table):
            table[segment.id] = segment.category
    return np.asarray(table[prediction.labels])


def cosines(prediction: Prediction, reference: Prediction) -> np.ndarray:
    """``(h, w)`` cosine of the features of every patch."""
    one, other = prediction.features, reference.features
    assert one is not None
    assert other is not None
    lengths = np.linalg.norm(one, axis=2) * np.linalg.norm(other, axis=2)
    found: np.ndarray = (one * other).sum(2) / lengths.clip(1e-12)
    return found
