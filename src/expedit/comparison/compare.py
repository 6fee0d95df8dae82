"""Methods side by side on one data set: what each costs, how long it takes, what it gets right."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from ..core import Method
from ..cost.benchmark import Counted, Timed
from ..cost.trace import token_clusters
from ..data.samples import Sample, SemanticData
from ..data.writing import write_text
from ..evaluation.evaluate import evaluate
from ..evaluation.evaluate_video import evaluate_video
from ..evaluation.objects import ObjectEvaluation, evaluate_objects
from ..evaluation.resume import Journal, Partial
from ..inference import labels_of
from ..metrics.semantic import SemanticScores, confusion
from ..models import Segmenter
from ..prepare import prepared
from ..surgery import accelerate
from .result import Example, Row, View

SAVE_IMAGES = 8
"""The state on disk is written after so many images."""


def first_window(model: Segmenter, sample: Sample) -> Tensor:
    """One sliding window of a picture, or the whole of it: ``(1, 3, h, w)``, what methods are counted and timed on."""
    pixels = prepared(sample.image, model.card)[0].to(next(model.parameters()))
    return pixels if model.card.crop is None else pixels[:, :, : model.card.crop, : model.card.crop]


OBJECTS: dict[str, tuple[Callable[..., ObjectEvaluation | None], str]] = {
    "panoptic": (evaluate_objects, "PQ"),
    "instance": (evaluate_objects, "AP"),
    "video": (evaluate_video, "AP"),
}
"""By task: the evaluation, and the figure of it that stands for everything."""


class Score(NamedTuple):
    """What a model gets right: a field of ``Row`` with its value, and the share of pixels as the dense model says."""

    metric: str
    value: float | None
    agreement: float | None = None


class Contest:
    """Dense model and methods on the same images, counted against the ground truth and against the dense model.

    Args:
        model: the dense model, with weights, where it shall run.
        methods: what is compared with it.
        window_batch: sliding windows that run together.

    Attributes:
        counts: ``(contestants, 2, classes, classes)`` int64 pixels: rows ground truth, then rows dense prediction.
        done: indices of the images that are counted.
    """

    def __init__(self, model: Segmenter, methods: Sequence[Method], window_batch: int = 1) -> None:
        self.model = model
        self.models = {"dense": model, **{repr(m): accelerate(model, m) for m in methods}}
        self.window_batch = window_batch
        classes = len(model.card.classes)
        self.counts = np.zeros((len(self.models), 2, classes, classes), np.int64)
        self.done: list[int] = []

    def labels(self, sample: Sample) -> dict[str, np.ndarray]:
        """What everybody makes of one image: ``(H, W)`` int32 each, dense first."""
        height, width = sample.image.shape[:2]
        views = prepared(sample.image, self.model.card)
        found = {}
        for spec, model in self.models.items():
            labels = labels_of(model, views, (height, width), self.model.card, self.window_batch)
            found[spec] = labels.cpu().numpy()
        return found

    def add(self, index: int, sample: Sample) -> None:
        """Run everybody on one image and count."""
        found, classes = self.labels(sample), self.counts.shape[2]
        for place, labels in enumerate(found.values()):
            if sample.label is not None:
                self.counts[place, 0] += confusion(labels, sample.label, classes)
            self.counts[place, 1] += confusion(labels, found["dense"], classes, ignore=classes)
        self.done.append(index)

    def scores(self) -> list[Score]:
        """Of every contestant: mIoU against the ground truth, and agreement with the dense model."""
        return [Score("miou", _miou(truth), SemanticScores(dense).pixel_accuracy) for truth, dense in self.counts]

    def example(self, sample: Sample) -> Example:
        """One image with everybody's labels and, where one window covers it, the clusters of its tokens."""
        pixels, crop = prepared(sample.image, self.model.card)[0], self.model.card.crop
        whole = crop is None or max(pixels.shape[2:]) <= crop
        pixels = pixels.to(next(self.model.parameters()))
        views = [
            View(spec, labels, token_clusters(self.models[spec], pixels) if whole else None)
            for spec, labels in self.labels(sample).items()
        ]
        return Example(sample.name, sample.image, sample.label, tuple(views))


def run(
    contest: Contest,
    data: SemanticData,
    images: int,
    state: Partial | None = None,
    progress: Callable[[], object] = lambda: None,
) -> None:
    """Count the first ``images`` images of ``data``.

    Args:
        contest: keeps the counts.
        images: how many, at most ``len(data)``.
        state: where finished images are kept, so that a killed run goes on where it was.
        progress: called once per image, those already done included.
    """
    done: set[int] = set()
    number = 0
    if state is not None:
        done, earlier = state.read(contest.counts.shape)
        number = state.next_run()
    for index in range(images):
        if index not in done:
            contest.add(index, data[index])
            if state is not None and len(contest.done) % SAVE_IMAGES == 0:
                state.write(number, 0, contest.done, contest.counts)
        progress()
    if state is not None:
        if contest.done:
            state.write(number, 0, contest.done, contest.counts)
        contest.counts = contest.counts + earlier


def score(
    model: nn.Module,
    data: Any,
    images: int,
    folder: Path | None,
    settings: Mapping[str, Any],
    progress: Callable[[], object],
) -> Score:
    """The figure of its task of a model that answers with queries, on the first ``images`` images of ``data``.

    Finished images are kept in ``folder``, with the ``settings`` that they depend on, and not evaluated again.
    """
    task: str = model.card.task  # type: ignore[union-attr, assignment]

    def step(done: int, total: int) -> None:
        progress()

    if task == "semantic":
        partial = Partial(folder, settings) if folder else None
        semantic = evaluate(model, data, limit=images, partial=partial, progress=step)
        return Score("miou", _miou(semantic.counts))
    evaluation, metric = OBJECTS[task]
    journal = Journal(folder, settings) if folder else None
    found = evaluation(model, data, limit=images, journal=journal, progress=step)
    assert found is not None, "the only process is the first"
    value = found.figures.get(metric, -1)  # videos without public ground truth have no figures
    return Score(metric.lower(), None if value < 0 else value)


def rows(counted: Sequence[Counted], timed: Sequence[Timed], scores: Sequence[Score] | None) -> list[Row]:
    """The table, dense first; what was not measured is ``None``."""
    times = {t.spec: t for t in timed}
    found = [Score("miou", None)] * len(counted) if scores is None else scores
    table, dense = [], found[0].value
    for c, s in zip(counted, found, strict=True):
        time, figures = times.get(c.spec), {s.metric: s.value}
        row = Row(
            spec=c.spec,
            tokens=c.tokens,
            gmacs=c.true_gmacs,
            mac_ratio=counted[0].true_gmacs / c.true_gmacs,
            ms=time.ms if time else None,
            speedup=time.speedup if time else None,
            efficiency=time.efficiency if time else None,
            miou=figures.get("miou"),
            delta_miou=s.value - dense if s.metric == "miou" and s.value is not None and dense is not None else None,
            agreement=s.agreement,
            clusters=c.clusters,
            pq=figures.get("pq"),
            ap=figures.get("ap"),
        )
        table.append(row)
    return table


def _miou(counts: np.ndarray) -> float | None:
    return SemanticScores(counts).miou() if counts.any() else None


def write_tables(folder: Path, table: Sequence[Row], facts: Mapping[str, str]) -> None:
    """``table.csv`` and ``table.json`` in ``folder``."""
    lines = io.StringIO(newline="")
    writer = csv.DictWriter(lines, [f.name for f in fields(Row)])
    writer.writeheader()
    writer.writerows(asdict(row) for row in table)
    write_text(folder / "table.csv", lines.getvalue())
    content = {"facts": dict(facts), "rows": [asdict(row) for row in table]}
    write_text(folder / "table.json", json.dumps(content, indent=2) + "\n")
