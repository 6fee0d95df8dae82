"""Methods side by side on one data set: what each costs, how long it takes, what it gets right."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..core import Method
from ..cost.benchmark import Counted, Timed
from ..cost.trace import image_clusters
from ..data.layouts import DataSet
from ..data.writing import write_json, write_text
from ..evaluation.evaluate import Evaluation
from ..evaluation.judge import Judge
from ..models import Segmenter
from ..models.card import card_of
from ..prediction import Prediction
from ..prepare import prepared, seen
from ..surgery import accelerate
from .result import Comparison, Example, Printed, Row, View

DENSE = "dense"
"""Name of the contestant that is not accelerated."""


def contestants(model: nn.Module, methods: Sequence[Method], options: Mapping[str, Any]) -> dict[str, nn.Module]:
    """The dense model, then one accelerated model per method, by spec string; ``options`` are of ``accelerate``."""
    return {DENSE: model, **{repr(method): accelerate(model, method, **dict[str, Any](options)) for method in methods}}


def first_window(model: Segmenter, image: Any) -> Tensor:
    """One sliding window of a picture, or the whole of it: ``(1, 3, h, w)``, what methods are counted and timed on."""
    pixels = prepared(image, model.card)[0].to(next(model.parameters()))
    return pixels if model.card.crop is None else pixels[:, :, : model.card.crop, : model.card.crop]


def rows(
    counted: Sequence[Counted],
    timed: Sequence[Timed],
    evaluations: Sequence[Evaluation],
    printed: Sequence[Printed | None],
) -> tuple[Row, ...]:
    """The table, dense first.

    Args:
        counted: of every row.
        timed: of every row, or nothing.
        evaluations: of every row, or nothing; by place, since a published row may count and score different settings.
        printed: of every row.
    """
    times, table = {t.spec: t for t in timed}, []
    values = [(e.value, next(iter(e.scores.agreement.values()), None)) for e in evaluations] or [(None, None)]
    values += values * (len(counted) - len(values))
    for c, (value, agreement), published in zip(counted, values, printed, strict=True):
        time, dense = times.get(c.spec), values[0][0]
        row = Row(
            spec=c.spec,
            tokens=c.tokens,
            gmacs=c.true_gmacs,
            mac_ratio=counted[0].true_gmacs / c.true_gmacs,
            published_gmacs=c.published_convention_gmacs,
            clusters=c.clusters,
            ms=time.ms if time else None,
            speedup=time.speedup if time else None,
            efficiency=time.efficiency if time else None,
            value=value,
            delta=None if value is None or dense is None else value - dense,
            agreement=agreement,
            printed=published,
        )
        table.append(row)
    return tuple(table)


def example(models: Mapping[str, nn.Module], data: DataSet, judge: Judge, index: int) -> Example:
    """Image ``index`` with what everybody makes of it and, where one window covers it, the clusters of its tokens."""
    sample = data[index]
    image, ready = judge.image(sample), judge.prepare(next(iter(models.values())), sample)
    views = []
    for name, model in models.items():
        prediction = judge.picture(sample, judge.predict(model, sample, ready))
        views.append(image_view(model, name, prediction, image))
    return Example(sample.name, image, judge.truth(sample), tuple(views))


def image_view(model: nn.Module, name: str, prediction: Prediction, image: np.ndarray) -> View:
    """A prediction with the clusters of the tokens, where one window covers the image."""
    (pixels, picture), card = seen(model, image), card_of(model)
    whole = card.crop is None or max(pixels.shape[2:]) <= card.crop
    owner = image_clusters(model, pixels.to(next(model.parameters())), card.multiple) if whole else None
    return View(name, prediction, owner, picture)


def write_tables(folder: Path, comparison: Comparison) -> None:
    """``table.csv`` and ``table.json`` in ``folder``."""
    content, lines = comparison.as_json(), io.StringIO(newline="")
    writer = csv.DictWriter(lines, list(content[0]))
    writer.writeheader()
    writer.writerows(content)
    write_text(folder / "table.csv", lines.getvalue())
    write_json(folder / "table.json", {"facts": dict(comparison.facts), "rows": content}, indent=2)
