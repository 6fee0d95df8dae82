"""A panoptic, instance or video model over a data set, on one process or many."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..data.layouts import DataSet
from ..inference import predict_prepared
from ..models.card import Card
from ..prepare import prepared
from .judges import JUDGES, Judge
from .pipeline import Pace, check_classes, number_of_images, pace, work
from .processes import Processes
from .resume import Journal


@dataclass(frozen=True)
class ObjectEvaluation(Pace):
    """What came out, in the first process.

    Attributes:
        task: panoptic, instance or video.
        figures: of everything, 0..1, by their usual names: "PQ", "SQ_th", ... or "AP", "AP50", "APs", "AR100", ...;
            -1 where the ground truth holds nothing to measure.
        per_class: class name to "PQ", "SQ" and "RQ", or to "AP", for classes that have any.
        submission: the file that was written, if any.
    """

    task: str
    figures: dict[str, float]
    per_class: dict[str, dict[str, float]]
    submission: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values, shares in 0..1, None where there is no figure."""
        figures = {name: None if value < 0 else value for name, value in self.figures.items()}
        written = None if self.submission is None else str(self.submission)
        return {"task": self.task, **figures, "classes": self.per_class, **super().as_json(), "submission": written}


def evaluate_objects(
    model: nn.Module,
    data: DataSet,
    *,
    limit: int | None = None,
    workers: int = 2,
    submission: Path | None = None,
    processes: Processes | None = None,
    journal: Journal | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    prepare: Callable[[Any, Card], Any] = lambda sample, card: prepared(sample.image, card),
    find: Callable[[nn.Module, Any, Any], Any] = lambda model, sample, views: predict_prepared(
        model, views, sample.image.shape[:2]
    ),
) -> ObjectEvaluation | None:
    """Find the things and the stuff in the images of a data set and score them by the official metric of the task.

    Args:
        model: from ``expedit.load``, possibly accelerated, on its device.
        data: with ground truth, of the model's task.
        limit: only the first so many images.
        workers: threads that read and decode ahead.
        submission: folder for files in the official submission format.
        processes: those that share the work: process r takes every world-th image from r on.
        journal: state on disk, to write and to go on from.
        progress: called with images done and images to do in this process.
        prepare: what can be done with a sample ahead of the model, in the threads that read.
        find: makes the judge's prediction out of a sample and what was prepared of it.

    Returns:
        The figures in the first process, ``None`` in the others.

    Raises:
        ValueError: model and data have different tasks or classes, no images, an image or its ground truth is damaged
            (it is named), or the state on disk is of another evaluation.
    """
    processes, card = processes or Processes(), model.card
    assert isinstance(card, Card)
    judge, images = judge_of(card, data, submission), number_of_images(len(data), limit)
    check_classes(card, data.classes)
    records = journal.read() if journal else {}
    run = journal.next_run() if journal else 0
    processes.barrier()  # nobody writes before all have read
    mine = [index for index in range(images) if index not in records][processes.rank :: processes.world]
    found: dict[int, Any] = {}

    with journal.writer(run, processes.rank) if journal else nullcontext(lambda index, record: None) as keep:

        def load(index: int) -> tuple[int, Any, Any]:
            sample = data[index]
            return index, sample, prepare(sample, card)

        def segment(item: tuple[int, Any, Any]) -> Any:
            return find(model, *item[1:])

        def score(item: tuple[int, Any, Any], prediction: Any) -> None:
            index, sample, _ = item
            found[index] = judge.record(sample, prediction)
            keep(index, found[index])

        seconds, waiting = work(load, segment, score, mine, workers, progress)
    taken = pace(processes, images, len(mine), seconds, waiting)
    for part in processes.gathered(found):
        records |= part
    if processes.rank:
        return None
    ordered = [records[index] for index in range(images)]
    figures, per_class = judge.figures(ordered)
    written = judge.submit(ordered)
    return ObjectEvaluation(**vars(taken), task=card.task, figures=figures, per_class=per_class, submission=written)


def judge_of(card: Card, data: DataSet, submission: Path | None) -> Judge:
    """Who scores this model on this data; ValueError if they are of different tasks, or of one without a metric."""
    if card.task not in JUDGES:
        raise ValueError(f"expected a model for one of {', '.join(JUDGES)}, got one for {card.task} segmentation")
    kind, judge = JUDGES[card.task]
    if not isinstance(data, kind):
        raise ValueError(f"expected data for {card.task} segmentation ({kind.__name__}), got {type(data).__name__}")
    return judge(data, submission)
