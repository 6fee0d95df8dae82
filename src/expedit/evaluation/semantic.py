"""Mean IoU of semantic models, and how often they say what another model says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from ..data.samples import Sample
from ..inference import labels_of
from ..metrics import SemanticScores, confusion
from ..prediction import Prediction
from ..prepare import Views, views_of
from .judge import Judge, Metric, Record, Scores, Shares


@dataclass(frozen=True)
class SemanticJudge(Judge):
    """Mean IoU against the ground truth, and against the predictions of another model.

    Attributes:
        window_batch: sliding windows that run together.
        scales: image sizes, relative to the card's; several are averaged as softmax maps.
        flip: average with the mirrored image.
    """

    window_batch: int = 1
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    task: ClassVar[str] = "semantic"
    headline: ClassVar[Metric] = Metric("miou", "mIoU", "mean intersection over union with the ground truth")
    agreement: ClassVar[Metric | None] = Metric(
        "pixel_agreement", "agreement", "pixels that get the dense model's class, right or wrong"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window_batch < 1:
            raise ValueError(f"window_batch: expected at least 1 window, got {self.window_batch}")
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"scales: expected positive numbers such as 0.5 1.0 1.5, got {self.scales}")
        if self.card.output == "queries" and (self.flip or tuple(self.scales) != (1.0,)):
            raise ValueError("several scales and flips are for models that return class logits of pixels, not queries")
        if self.submission is not None:
            raise ValueError("submission: semantic models have no submission files; write label pictures with predict")

    def prepare(self, model: nn.Module, sample: Sample) -> Views:
        """One view per scale."""
        return views_of(model, sample.image, self.scales)

    def predict(self, model: nn.Module, sample: Sample, views: Views) -> Tensor:
        """Class of every pixel ``(H, W)`` int32, on the model's device."""
        height, width = sample.image.shape[:2]
        return labels_of(model, views, (height, width), self.card, self.window_batch, self.flip)

    def record(self, sample: Sample, prediction: Tensor, reference: Tensor | None) -> Record:
        """The cells of the confusion matrices that are not 0; rows: ground truth, or the other model's prediction."""
        if sample.label is None and reference is None:
            raise ValueError(f"{sample.name}: expected a ground truth; without one, compare with another model")
        labels, classes, found = prediction.cpu().numpy(), len(self.card.classes), {}
        try:
            if sample.label is not None:
                found["truth"] = _cells(confusion(labels, sample.label, classes))
            if reference is not None:
                found["reference"] = _cells(confusion(labels, reference.cpu().numpy(), classes, ignore=classes))
        except ValueError as error:
            raise ValueError(f"{sample.name}: {error}") from None
        return found

    def scores(self, records: Sequence[Record]) -> Scores:
        """Per class: of the ground truth, or else of the other model's predictions."""
        truth, other = (self._total(records, key) for key in ("truth", "reference"))
        shown = SemanticScores(truth if truth.any() else other)
        per_class = {
            name: {"IoU": iou, "accuracy": None if np.isnan(accuracy) else accuracy}
            for name, iou, accuracy in zip(self.card.classes, shown.iou.tolist(), shown.accuracy.tolist(), strict=True)
            if not np.isnan(iou)
        }
        return Scores(_overall(truth), per_class, _agreement(other), {"confusion": truth.tolist()})

    def picture(self, sample: Sample, prediction: Tensor) -> Prediction:
        """The labels."""
        return self._labelled(prediction.cpu().numpy())

    def truth(self, sample: Sample) -> Prediction | None:
        """The labels."""
        return None if sample.label is None else self._labelled(sample.label)

    def _labelled(self, labels: np.ndarray) -> Prediction:
        return Prediction("semantic", self.card.classes, self.card.palette, labels)

    def _total(self, records: Sequence[Record], key: str) -> np.ndarray:
        classes = len(self.card.classes)
        total = np.zeros(classes * classes, np.int64)
        for record in records:
            cells, counts = record.get(key, ((), ()))
            total[np.array(cells, np.int64)] += np.array(counts, np.int64)
        return total.reshape(classes, classes)


def _cells(counts: np.ndarray) -> tuple[list[int], list[int]]:
    """Places, row by row, and values of what is not 0."""
    places = np.flatnonzero(counts)
    return places.tolist(), counts.ravel()[places].tolist()


def _overall(counts: np.ndarray) -> Shares:
    if not counts.any():
        return {}
    scores = SemanticScores(counts)
    return {
        "miou": scores.miou(),
        "miou_labelled": scores.miou("labelled"),
        "miou_all": scores.miou("all"),
        "pixel_accuracy": scores.pixel_accuracy,
        "class_accuracy": scores.class_accuracy,
    }


def _agreement(counts: np.ndarray) -> Shares:
    if not counts.any():
        return {}
    scores = SemanticScores(counts)
    return {"pixel_agreement": scores.pixel_accuracy, "miou": scores.miou()}
