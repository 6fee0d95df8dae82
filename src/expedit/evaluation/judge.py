"""What every evaluation needs of a task: how a model is asked, what an answer is worth, and what all of them come to.

One subclass per task. A record is plain JSON, so that it survives a kill and travels between processes. Records are
added up in the order of the images: the scores do not depend on how many processes made them.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import nn

from ..inference import predict_prepared
from ..models.card import Card
from ..prediction import Prediction
from ..prepare import views_of

Record = Any
Shares = Mapping[str, float | None]
"""Scores by name; ``None`` where there is nothing to measure."""

NUMBERED = re.compile(r"class \d+")
"""What classes without a name are called."""


@dataclass(frozen=True)
class Metric:
    """The score that stands for all others.

    Attributes:
        key: its name among the scores.
        title: what tables call it.
        meaning: what it measures, in words.
        share: whether it is a share in 0..1, shown in per cent.
        higher: whether more of it is better.
    """

    key: str
    title: str
    meaning: str
    share: bool = True
    higher: bool = True


@dataclass(frozen=True)
class Scores:
    """What all records come to.

    Attributes:
        overall: of everything, by their usual names.
        per_class: class name to its scores, for classes that have any.
        agreement: with the predictions of the contestant that the others are compared with; empty without one.
        details: plain values that only the JSON of an evaluation holds.
    """

    overall: Shares
    per_class: Mapping[str, Shares] = field(default_factory=dict)
    agreement: Shares = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Judge(ABC):
    """Scores the predictions of models with one card on one data set.

    ``sample`` is always what the data set hands out. ``prepare`` runs in the threads that read, ``predict`` beside the
    model, ``record`` in a thread of its own.

    Attributes:
        card: of the models.
        data: with ground truth.
        submission: folder for files in the official submission format, of one model.
    """

    card: Card
    data: Any
    submission: Path | None = None

    task: ClassVar[str]
    kind: ClassVar[Any] = object
    """Of the data set."""
    headline: ClassVar[Metric]
    agreement: ClassVar[Metric | None] = None
    """Of ``Scores.agreement``; ``None`` if predictions are not compared with those of another model."""

    def __post_init__(self) -> None:
        if self.card.task != self.task:
            raise ValueError(f"expected a model for {self.task}, got one for {self.card.task}")
        if not isinstance(self.data, self.kind):
            got = type(self.data).__name__
            raise ValueError(f"expected data for {self.task} models ({self.kind.__name__}), got {got}")
        check_classes(self.card, self.data.classes)

    def prepare(self, model: nn.Module, sample: Any) -> Any:
        """What can be done with a sample ahead of the models, by the first of them and without its weights."""
        return views_of(model, sample.image)

    def predict(self, model: nn.Module, sample: Any, views: Any) -> Any:
        """What ``model`` says of a sample, from what ``prepare`` made of it."""
        return predict_prepared(model, views, sample.image.shape[:2])

    @abstractmethod
    def record(self, sample: Any, prediction: Any, reference: Any) -> Record:
        """What one prediction is worth, as plain JSON; ``reference``: what it is compared with, or ``None``."""

    @abstractmethod
    def scores(self, records: Sequence[Record]) -> Scores:
        """What the records of one model come to."""

    def submit(self, records: Sequence[Record]) -> Path | None:
        """Write the submission file if there shall be one; returns its path."""
        return None

    def picture(self, sample: Any, prediction: Any) -> Prediction:
        """A prediction as it can be drawn over ``image(sample)``."""
        drawn: Prediction = prediction
        return drawn

    def truth(self, sample: Any) -> Prediction | None:
        """The ground truth as it can be drawn over ``image(sample)``, where there is any."""
        return None

    def image(self, sample: Any) -> np.ndarray:
        """``(H, W, 3)`` uint8 RGB, what pictures of a sample are drawn over."""
        image: np.ndarray = sample.image
        return image


def check_classes(card: Card, classes: Sequence[str]) -> None:
    """ValueError where a data set's classes are not the model's; a side without names need only be as many."""
    if not classes:
        return
    if len(classes) != len(card.classes):
        raise ValueError(f"expected a data set with the model's {len(card.classes)} classes, got {len(classes)}")
    if any(all(NUMBERED.fullmatch(name) for name in side) for side in (classes, card.classes)):
        return
    for index, (theirs, ours) in enumerate(zip(classes, card.classes, strict=True)):
        if theirs.casefold() != ours.casefold():
            raise ValueError(
                f"class {index} of the data set is {theirs!r}, of the model {ours!r}: expected the same classes in the "
                "same order; evaluate on the data that the model was made for, or correct the data set's class list"
            )
