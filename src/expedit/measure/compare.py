"""Methods side by side on one data set: what each costs, how long it takes, what it gets right."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..core import Method
from ..data.sample import Sample, SemanticData
from ..inference import labels_of, prepared
from ..metrics.semantic import SemanticScores, confusion
from ..models import Segmenter
from ..surgery import accelerate
from .macs import Cost, cost
from .rows import Example, Row, View
from .speed import Timing, timed
from .trace import token_clusters


@dataclass
class Tally:
    """What is known of one contestant so far.

    Attributes:
        counts: confusion matrix ``(classes, classes)`` int64.
        agreeing, pixels: pixels with the dense model's class, and all.
        seconds: one entry per image.
    """

    counts: np.ndarray
    agreeing: int = 0
    pixels: int = 0
    seconds: list[float] = field(default_factory=list)


@dataclass
class Contest:
    """Dense model and methods, run on the same images in turn; the one that begins changes with every image.

    Attributes:
        model: the dense model, with weights, where it shall run.
        methods: what is compared with it.
        window_batch: sliding windows that run together.
    """

    model: Segmenter
    methods: Sequence[Method]
    window_batch: int = 1

    def __post_init__(self) -> None:
        self.models = {"dense": self.model, **{repr(m): accelerate(self.model, m) for m in self.methods}}
        classes = len(self.model.card.classes)
        self.tallies = {spec: Tally(np.zeros((classes, classes), np.int64)) for spec in self.models}
        self.images = 0

    def warm_up(self, sample: Sample) -> None:
        """One run of everybody that does not count."""
        self._run(sample)

    def add(self, sample: Sample) -> dict[str, np.ndarray]:
        """Run everybody on one image and count; returns each one's labels ``(H, W)`` int32."""
        labels, seconds = self._run(sample)
        for spec, tally in self.tallies.items():
            tally.seconds.append(seconds[spec])
            tally.agreeing += int((labels[spec] == labels["dense"]).sum())
            tally.pixels += labels[spec].size
            if sample.label is not None:
                tally.counts += confusion(labels[spec], sample.label, len(tally.counts))
        self.images += 1
        return labels

    def _run(self, sample: Sample) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        card, size = self.model.card, sample.image.shape[:2]
        views = prepared(sample.image, card)
        device = str(next(self.model.parameters()).device)
        labels, seconds = {}, {}
        turn = self.images % len(self.models)
        for spec in (order := list(self.models))[turn:] + order[:turn]:
            work = partial(labels_of, self.models[spec], views, size, card, self.window_batch)
            out, seconds[spec] = timed(work, device)
            labels[spec] = out.cpu().numpy()
        return labels, seconds

    def rows(self, costs: Mapping[str, Cost]) -> list[Row]:
        """The table, dense first."""
        dense = self.tallies["dense"]
        base = Timing(tuple(dense.seconds))
        dense_miou = _miou(dense)
        rows = []
        for spec, tally in self.tallies.items():
            timing, miou = Timing(tuple(tally.seconds)), _miou(tally)
            ratio = costs["dense"].true_macs / costs[spec].true_macs
            speedup = timing.speedup_over(base)
            rows.append(
                Row(
                    spec=spec,
                    tokens=costs[spec].tokens,
                    gmacs=costs[spec].true_macs / 1e9,
                    mac_ratio=ratio,
                    ms=1e3 * timing.median,
                    speedup=speedup,
                    efficiency=speedup / ratio,
                    miou=miou,
                    delta_miou=None if miou is None or dense_miou is None else miou - dense_miou,
                    agreement=tally.agreeing / tally.pixels,
                    clusters=costs[spec].clusters,
                )
            )
        return rows

    def example(self, sample: Sample, labels: Mapping[str, np.ndarray]) -> Example:
        """One image with everybody's labels and, where a window covers it, the clusters of its tokens."""
        views = [View(spec, labels[spec], self._owner(model, sample)) for spec, model in self.models.items()]
        return Example(sample.name, sample.image, sample.label, tuple(views))

    def _owner(self, model: Segmenter, sample: Sample) -> np.ndarray | None:
        pixels = prepared(sample.image, model.card)[0].to(next(model.parameters()))
        if model.card.crop is not None and max(pixels.shape[2:]) > model.card.crop:
            return None
        return token_clusters(model, pixels)


def _miou(tally: Tally) -> float | None:
    return SemanticScores(tally.counts).miou() if tally.counts.any() else None


def costs_of(contest: Contest, sample: Sample, progress: Callable[[], object] = lambda: None) -> dict[str, Cost]:
    """Multiply-adds of every contestant on one window (or the whole image); ACT's on this very image."""
    card = contest.model.card
    pixels = prepared(sample.image, card)[0]
    if card.crop is not None:
        pixels = pixels[:, :, : card.crop, : card.crop]
    found = {}
    for spec, method in zip(contest.models, (None, *contest.methods), strict=True):
        found[spec] = cost(contest.model, method, (pixels.shape[2], pixels.shape[3]), pixels)
        progress()
    return found


def run(
    contest: Contest, data: SemanticData, limit: int, examples: int, progress: Callable[[], object] = lambda: None
) -> tuple[list[Row], list[Example]]:
    """The whole comparison on the first ``limit`` images, with pictures of the first ``examples`` of them.

    ``progress`` is called once per contestant counted and once per image.
    """
    if not len(data):
        raise ValueError("the data set has no images")
    first = data[0]
    costs = costs_of(contest, first, progress)
    contest.warm_up(first)
    shown = []
    for index in range(min(limit, len(data))):
        sample = data[index]
        labels = contest.add(sample)
        if index < examples:
            shown.append(contest.example(sample, labels))
        progress()
    return contest.rows(costs), shown


def write_tables(folder: Path, rows: Sequence[Row], facts: Mapping[str, str]) -> None:
    """``table.csv`` and ``table.json`` in ``folder``."""
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    table = {"facts": dict(facts), "rows": [asdict(row) for row in rows]}
    (folder / "table.json").write_text(json.dumps(table, indent=2) + "\n")
