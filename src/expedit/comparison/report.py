"""One self-contained HTML page of a comparison: table, trade-off plots and pictures, no network needed to read it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..data.writing import write_text
from ..evaluation.judge import Metric
from . import plots
from .gallery import check_examples, gallery, legend
from .ranking import by_time, suggested, verdict
from .result import Comparison, Example, Row


@dataclass(frozen=True)
class Column:
    """How a field of ``Row`` is shown: ``scale`` times its value in ``form``; ``best`` picks the value to highlight."""

    field: str
    title: str
    hint: str
    form: str
    best: Callable[[Sequence[float]], float] | None
    scale: float = 1.0


COSTS = (
    Column("tokens", "tokens", "mean number of tokens per block", "{:,.0f}", None),
    Column("clusters", "clusters", "mean number of clusters a data-dependent method used", "{:,.1f}", None),
    Column(
        "gmacs", "GMACs", "10⁹ multiply-adds per image, every convolution and matrix product counted", "{:,.2f}", min
    ),
    Column("mac_ratio", "MAC ratio", "dense GMACs ÷ GMACs", "{:.2f}×", max),
    Column("ms", "ms / image", "median milliseconds per image of interleaved runs", "{:,.1f}", min),
    Column("speedup", "speed-up", "dense time ÷ time, median of pairs", "{:.2f}×", max),
    Column(
        "efficiency", "efficiency", "speed-up ÷ MAC ratio: how much of the saved work becomes saved time", "{:.2f}", max
    ),
)


def write_report(path: Path, comparison: Comparison, examples: Sequence[Example]) -> None:
    """Write a comparison as one HTML file with every picture inside it.

    Args:
        path: the file; its folder is made where missing. It appears whole or not at all.
        comparison: its rows are shown fastest first; the settings of a method are joined in the plots.
        examples: pictures to show, with the results of each method.

    Raises:
        ValueError: where there are no rows, or a prediction has another size than its picture.
    """
    rows = comparison.rows
    if not rows:
        raise ValueError("write_report: expected at least one row, got none")
    check_examples(examples)
    columns = [c for c in _columns(comparison) if any(_value(row, c) is not None for row in rows)]
    page = _render(
        title=comparison.title,
        facts=comparison.facts,
        notes=[text for text in (verdict(rows), *comparison.notes) if text],
        chosen=suggested(comparison),
        said={row.spec: _said(row, comparison) for row in rows},
        tints={row.spec: tint for row, tint in zip(rows, plots.tints(rows), strict=True)},
        columns=columns,
        table=_table(by_time(rows), columns),
        plots=plots.trade_offs(comparison),
        metric=comparison.metric.title if any(row.value is not None for row in rows) else None,
        examples=[gallery(example) for example in examples],
        legend=legend(examples),
    )
    write_text(path, page)


def _render(**content: Any) -> str:
    """Fill the template; every text is escaped."""
    from jinja2 import Environment, StrictUndefined

    source = files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source).render(content)


def _columns(comparison: Comparison) -> list[Column]:
    """What is shown of a row, costs first."""
    value = _quality("value", comparison.metric)
    unit = ", in percentage points" if comparison.metric.share else ""
    hint = f"difference from the dense model{unit}"
    delta = replace(value, field="delta", title=f"Δ{comparison.metric.title}", hint=hint, form="{:+.2f}")
    agreement = [] if comparison.agreement is None else [_quality("agreement", comparison.agreement)]
    return [*COSTS, value, delta, *agreement]


def _said(row: Row, comparison: Comparison) -> str:
    """What a setting gains and keeps, in a few words."""
    metrics = [("value", comparison.metric), ("agreement", comparison.agreement)]
    quality = [(metric, _quality(field, metric)) for field, metric in metrics if metric is not None]
    texts = [(metric, _text(_value(row, column), column)) for metric, column in quality]
    shown = [f"{metric.title} {text}{' %' * metric.share}" for metric, text in texts if text is not None]
    speed = [] if row.speedup is None else [f"{row.speedup:.2f} × the dense model's speed"]
    return ", ".join([*speed, f"{row.mac_ratio:.2f} × fewer multiply-adds", *shown])


def _quality(field: str, metric: Metric) -> Column:
    title, scale = (f"{metric.title} %", 100) if metric.share else (metric.title, 1)
    return Column(field, title, metric.meaning, "{:.2f}", max if metric.higher else min, scale)


def _value(row: Row, column: Column) -> float | None:
    """The field's number, ``None`` where there is none to show."""
    value = getattr(row, column.field)
    return None if value is None or not math.isfinite(value) else column.scale * value


def _text(value: float | None, column: Column) -> str | None:
    """The number as it is read, with a true minus sign."""
    return None if value is None else column.form.format(value).replace("-", "−")


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Rows of cells (value, text, whether it is the best of its column among the methods)."""
    lines: list[dict[str, Any]] = [{"spec": row.spec, "cells": []} for row in rows]
    for column in columns:
        texts = [_text(_value(row, column), column) for row in rows]
        rivals = [v for row in rows if row.spec != "dense" and (v := _value(row, column)) is not None]
        best = _text(column.best(rivals), column) if column.best and len(rivals) > 1 else None
        for line, row, text in zip(lines, rows, texts, strict=True):
            winner = text is not None and text == best and row.spec != "dense"
            line["cells"].append({"value": _value(row, column), "text": text, "best": winner})
    return lines
