"""Models over a data set: every image is prepared once and goes through each of them, on one process or many."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ..data.layouts import DataSet
from ..models.card import card_of
from .judge import Judge, Metric, Record, Scores
from .pipeline import afterwards, ahead
from .processes import Processes
from .resume import Journal, Key

UNSCORED = 4
"""Most predictions that wait to be scored."""


@dataclass(frozen=True)
class Run:
    """How an evaluation goes through its images; nothing of it changes the scores of an image.

    Attributes:
        limit: only the first so many images.
        workers: threads that read, decode and prepare ahead.
        against: the contestant whose predictions all others are compared with.
        processes: those that share the work: process r takes every world-th image from r on.
        journal: state on disk, to write and to go on from.
        progress: called with images done and images to do in this process.
    """

    limit: int | None = None
    workers: int = 2
    against: str | None = None
    processes: Processes = field(default_factory=Processes)
    journal: Journal | None = None
    progress: Callable[[int, int], object] = lambda done, total: None

    def __post_init__(self) -> None:
        for name in ("limit", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")


@dataclass(frozen=True)
class Pace:
    """How much was done and how long it took.

    Attributes:
        images: all images, those of earlier runs included.
        fresh: images of this run.
        seconds: of this run, by the slowest process, all contestants together.
        waiting: seconds of them in which no image was ready for the models.
    """

    images: int
    fresh: int
    seconds: float
    waiting: float

    @property
    def images_per_second(self) -> float | None:
        """Of this run; ``None`` if there was nothing left to do."""
        return self.fresh / self.seconds if self.fresh else None


@dataclass(frozen=True)
class Evaluation:
    """What one contestant is worth.

    Attributes:
        task: of the model.
        headline: the score that stands for all.
        scores: of all images.
        pace: of the run.
        submission: the file that was written, if any.
    """

    task: str
    headline: Metric
    scores: Scores
    pace: Pace
    submission: Path | None = None

    @property
    def value(self) -> float | None:
        """The headline's; ``None`` where there is nothing to measure."""
        return self.scores.overall.get(self.headline.key)

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values, shares in 0..1, ``None`` where there is nothing to measure."""
        pace, scores = self.pace, self.scores
        return {
            "task": self.task,
            self.headline.key: None,
            **scores.overall,
            "classes": {name: dict(values) for name, values in scores.per_class.items()},
            **{f"against_{name}": value for name, value in scores.agreement.items()},
            "images": pace.images,
            "images_this_run": pace.fresh,
            "images_per_second": pace.images_per_second,
            "seconds": pace.seconds,
            "seconds_waiting_for_images": pace.waiting,
            "submission": None if self.submission is None else str(self.submission),
            **scores.details,
        }


def evaluate(
    models: Mapping[str, nn.Module], data: DataSet, judge: Judge, run: Run | None = None
) -> dict[str, Evaluation]:
    """Run every model on every image of a data set and score what they say.

    Args:
        models: the contestants by name, from ``expedit.load``, possibly accelerated, on their device; all of one card.
        data: what the judge scores by.
        judge: of the models' task.
        run: limit, threads, processes, state.

    Returns:
        The evaluations by name in the first process, nothing in the others.

    Raises:
        ValueError: models, data and judge do not go together, no images, an image or its ground truth is damaged (it
            is named), or the state on disk is of another evaluation.
    """
    run = run or Run()
    images, processes, journal = _checked(models, data, judge, run), run.processes, run.journal
    records = journal.read() if journal else {}
    number = journal.next_run() if journal else 0
    processes.barrier()  # nobody writes before all have read
    missing = {index: [name for name in models if (index, name) not in records] for index in range(images)}
    todo = [index for index, names in missing.items() if names]
    mine = {index: missing[index] for index in todo[processes.rank :: processes.world]}
    with journal.writer(number, processes.rank) if journal else nullcontext(lambda *entry: None) as keep:
        found, seconds, waiting = _work(models, data, judge, run, mine, keep)
    pace = _pace(processes, images, len(mine), seconds, waiting)
    for part in processes.gathered(found):
        records |= part
    if processes.rank:
        return {}
    ordered = {name: [records[index, name] for index in range(images)] for name in models}
    return {name: _evaluation(judge, ordered[name], pace) for name in models}


def _checked(models: Mapping[str, nn.Module], data: DataSet, judge: Judge, run: Run) -> int:
    """Number of images to evaluate; ValueError where something does not go together."""
    for name, model in models.items():
        if card_of(model) != judge.card:
            raise ValueError(f"{name}: expected a model with the judge's card, so that one prepared image suits all")
    if judge.submission is not None and len(models) != 1:
        raise ValueError(f"submission: expected one model to write files of, got {len(models)}")
    if run.against is not None and run.against not in models:
        raise ValueError(f"against: expected one of {', '.join(models)}, got {run.against}")
    if run.against is not None and judge.agreement is None:
        raise ValueError(f"against: {judge.task} predictions are not compared with those of another model")
    if not len(data):
        raise ValueError("the split is empty: expected at least one image")
    return min(len(data), run.limit or len(data))


def _work(
    models: Mapping[str, nn.Module],
    data: DataSet,
    judge: Judge,
    run: Run,
    missing: Mapping[int, Sequence[str]],
    keep: Callable[[int, str, Record], None],
) -> tuple[dict[Key, Record], float, float]:
    """Records of the ``missing`` contestants by image; seconds it took, and seconds without a prepared image."""
    found: dict[Key, Record] = {}
    start, waiting, first = time.perf_counter(), 0.0, next(iter(models.values()))

    def load(index: int) -> tuple[Any, Any]:
        sample = data[index]
        return sample, judge.prepare(first, sample)

    def score(index: int, name: str, sample: Any, prediction: Any, reference: Any) -> None:
        found[index, name] = judge.record(sample, prediction, reference)
        keep(index, name, found[index, name])

    with ahead(load, missing, run.workers) as items, afterwards(1, UNSCORED) as later:
        for done, (index, names) in enumerate(missing.items(), 1):
            asked = time.perf_counter()
            sample, views = next(items)
            waiting += time.perf_counter() - asked
            reference = None if run.against is None else judge.predict(models[run.against], sample, views)
            for name in names:
                known = reference is not None and name == run.against
                prediction = reference if known else judge.predict(models[name], sample, views)
                later(score, index, name, sample, prediction, reference)
            run.progress(done, len(missing))
    return found, time.perf_counter() - start, waiting


def _pace(processes: Processes, images: int, fresh: int, seconds: float, waiting: float) -> Pace:
    """The pace of all processes together from that of each: ``fresh`` images in ``seconds``."""
    times = np.zeros((processes.world, 2))
    times[processes.rank] = seconds, waiting
    slowest, waited = processes.total(times).max(0)
    return Pace(images, int(processes.total(np.array([fresh]))[0]), float(slowest), float(waited))


def _evaluation(judge: Judge, records: Sequence[Record], pace: Pace) -> Evaluation:
    return Evaluation(judge.task, judge.headline, judge.scores(records), pace, judge.submit(records))
