"""A model over a semantic data set, on one process or many."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.samples import Sample, SemanticData
from ..inference import labels_of, predict_prepared
from ..metrics import SemanticScores, confusion
from ..models.card import Card
from ..prepare import prepared
from .pipeline import Pace, check_classes, number_of_images, pace, work
from .processes import Processes
from .resume import Partial

SAVE_IMAGES, SAVE_SECONDS = 8, 5.0
"""The state on disk is written after so many images, or so many seconds, whichever comes first."""


@dataclass(frozen=True)
class Protocol:
    """How images are evaluated.

    Attributes:
        window_batch: sliding windows that run together.
        scales: image sizes, relative to the card's; several are averaged as softmax maps.
        flip: average with the mirrored image.
        workers: threads that read, decode and resize ahead.
    """

    window_batch: int = 1
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    workers: int = 2

    def __post_init__(self) -> None:
        if self.window_batch < 1 or self.workers < 1:
            raise ValueError(f"expected at least 1 window and 1 worker, got {self.window_batch} and {self.workers}")
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"scales: expected positive numbers such as 0.5 1.0 1.5, got {self.scales}")


@dataclass(frozen=True)
class Evaluation(Pace):
    """What came out, the same in every process.

    Attributes:
        classes: names by index.
        counts: ``(classes, classes)`` int64 pixels, rows ground truth, columns prediction; zeros without ground truth.
        agreement: the same with the predictions of the model compared with as rows; zeros without one.
    """

    classes: tuple[str, ...]
    counts: np.ndarray
    agreement: np.ndarray

    @property
    def scores(self) -> SemanticScores:
        """Figures against the ground truth; nan where there is none."""
        return SemanticScores(self.counts)

    @property
    def likeness(self) -> SemanticScores:
        """Figures against the other model's predictions; nan where there is none."""
        return SemanticScores(self.agreement)

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values, shares in 0..1, None where there is no figure."""
        scores, likeness = self.scores, self.likeness
        return {
            "miou": _figure(scores.miou()),
            "miou_labelled": _figure(scores.miou("labelled")),
            "miou_all": _figure(scores.miou("all")) if self.counts.any() else None,
            "pixel_accuracy": _figure(scores.pixel_accuracy),
            "class_accuracy": _figure(scores.class_accuracy),
            "iou": {name: _figure(iou) for name, iou in zip(self.classes, scores.iou.tolist(), strict=True)},
            "against_pixel_agreement": _figure(likeness.pixel_accuracy),
            "against_miou": _figure(likeness.miou()),
            **super().as_json(),
            "confusion": self.counts.tolist(),
        }


def _figure(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


_Item = tuple[int, Sample, list[Tensor]]
"""Place of an image, the image, and its views prepared for the model."""


@dataclass
class _Tally:
    """Images scored by this process and their counts, ``(2, classes, classes)``: against truth, against a model."""

    counts: np.ndarray
    save: Callable[[list[int], np.ndarray], None]
    done: list[int] = field(default_factory=list)
    saved: int = 0
    saved_at: float = field(default_factory=time.monotonic)

    def add(self, item: _Item, found: tuple[Tensor, Tensor | None]) -> None:
        """Score one image, its labels and those of the model compared with, and write the state when it is due."""
        index, sample, _ = item
        labels, other = found
        prediction = labels.cpu().numpy()
        classes = self.counts.shape[1]
        try:
            if sample.label is not None:
                self.counts[0] += confusion(prediction, sample.label, classes)
            if other is not None:
                self.counts[1] += confusion(prediction, other.cpu().numpy(), classes, ignore=classes)
        except ValueError as error:
            raise ValueError(f"{sample.name}: {error}") from None
        self.done.append(index)
        fresh = len(self.done) - self.saved
        if fresh >= SAVE_IMAGES or time.monotonic() - self.saved_at >= SAVE_SECONDS:
            self.keep()

    def keep(self) -> None:
        """Write the state."""
        self.save(self.done, self.counts)
        self.saved, self.saved_at = len(self.done), time.monotonic()


def evaluate(
    model: nn.Module,
    data: SemanticData,
    *,
    against: nn.Module | None = None,
    limit: int | None = None,
    protocol: Protocol | None = None,
    processes: Processes | None = None,
    partial: Partial | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Segment and score the images of a data set by the protocol of the model's card.

    Args:
        model: from ``expedit.load``, possibly accelerated, on its device.
        data: with ground truth, unless ``against`` is given.
        against: a model to compare the predictions with, usually the same one not accelerated.
        limit: only the first so many images.
        protocol: windows, scales, workers.
        processes: those that share the work: process r takes every world-th image from r on.
        partial: state on disk, to write and to go on from.
        progress: called with images done and images to do in this process.

    Raises:
        ValueError: model and data have different classes, an image has no or the wrong ground truth (it is named), no
            images, or the state on disk is of another evaluation.
    """
    protocol, processes = protocol or Protocol(), processes or Processes()
    card: Card = model.card  # type: ignore[assignment]
    images = _checked(card, data, limit, protocol)
    shape = (2, len(card.classes), len(card.classes))
    done, before = partial.read(shape) if partial else (set(), np.zeros(shape, np.int64))
    run = partial.next_run() if partial else 0
    processes.barrier()  # nobody writes before all have read
    mine = [index for index in range(images) if index not in done][processes.rank :: processes.world]

    def save(indices: list[int], counts: np.ndarray) -> None:
        if partial and indices:
            partial.write(run, processes.rank, indices, counts)

    tally = _Tally(np.zeros(shape, np.int64), save)
    seconds, waiting = _work(model, against, card, data, mine, protocol, tally, progress)
    tally.keep()
    counts = before + processes.total(tally.counts)
    taken = pace(processes, images, len(mine), seconds, waiting)
    return Evaluation(**vars(taken), classes=card.classes, counts=counts[0], agreement=counts[1])


def _checked(card: Card, data: SemanticData, limit: int | None, protocol: Protocol) -> int:
    """Number of images to evaluate; ValueError if model and data do not go together."""
    if card.task != "semantic":
        raise ValueError(f"expected a model for semantic segmentation, got one for {card.task} segmentation")
    if card.output == "queries" and (protocol.flip or protocol.scales != (1.0,)):
        raise ValueError("several scales and flips are for models that return class logits of pixels, not queries")
    check_classes(card, data.classes)
    return number_of_images(len(data), limit)


def _work(
    model: nn.Module,
    against: nn.Module | None,
    card: Card,
    data: SemanticData,
    indices: Sequence[int],
    protocol: Protocol,
    tally: _Tally,
    progress: Callable[[int, int], None],
) -> tuple[float, float]:
    """Run the model over the images of this process; seconds it took, and those in which it had to wait for one."""

    def load(index: int) -> _Item:
        sample = data[index]
        if sample.label is None and against is None:
            raise ValueError(f"{sample.name}: expected a ground truth; without one, compare with another model")
        return index, sample, prepared(sample.image, card, protocol.scales)

    def segment(network: nn.Module, sample: Sample, views: list[Tensor]) -> Tensor:
        size = sample.image.shape[:2]
        if card.output == "queries":
            return torch.from_numpy(predict_prepared(network, views, size).labels)
        return labels_of(network, views, size, card, protocol.window_batch, protocol.flip)

    def predict(item: _Item) -> tuple[Tensor, Tensor | None]:
        _, sample, views = item
        other = None if against is None else segment(against, sample, views)
        return segment(model, sample, views), other

    return work(load, predict, tally.add, indices, protocol.workers, progress)
