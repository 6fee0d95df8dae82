"""What evaluations and comparisons found, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .console import output

if TYPE_CHECKING:
    from ..comparison.result import Row
    from ..cost.benchmark import Counted
    from ..evaluation.evaluate import Evaluation
    from ..evaluation.objects import ObjectEvaluation
    from ..evaluation.pipeline import Pace
    from ..recipes import Recipe

GROUPS = {"all": "", "things": "_th", "stuff": "_st"}
"""Rows of the panoptic table, and how their figures end."""

METRICS = {"miou": "mIoU", "pq": "PQ", "ap": "AP"}
"""What tells how much is right, by field of a row."""


def show_semantic(result: Evaluation) -> None:
    """Figures in per cent, and the IoU of every class that occurs."""
    from rich.table import Table

    scores, likeness = result.scores, result.likeness
    figures: dict[str, str] = {}
    if result.counts.any():
        figures["mIoU"] = _percent(scores.miou())
        figures["pixel accuracy"] = _percent(scores.pixel_accuracy)
        figures["mean class accuracy"] = _percent(scores.class_accuracy)
    if result.agreement.any():
        figures["pixels as the dense model says"] = _percent(likeness.pixel_accuracy)
        figures["mIoU against the dense model"] = _percent(likeness.miou())
    shown = scores if result.counts.any() else likeness
    classes = Table("class", "IoU", "accuracy", title_justify="left")
    for name, iou, accuracy in zip(result.classes, shown.iou, shown.accuracy, strict=True):
        if iou == iou:  # nan: the class occurs nowhere
            classes.add_row(name, _percent(iou), _percent(accuracy))
    output().print(classes)
    _show_figures(figures, result)


def show_objects(result: ObjectEvaluation) -> None:
    """Every class that occurs, then all of them together: PQ, SQ and RQ, or the twelve COCO figures."""
    from rich.table import Table

    names = list(next(iter(result.per_class.values()), {}))
    classes = Table("class", *names)
    for name, figures in result.per_class.items():
        classes.add_row(name, *(_percent(value) for value in figures.values()))
    output().print(classes)
    if result.task == "panoptic":
        groups = Table("classes", *names)
        for group, end in GROUPS.items():
            groups.add_row(group, *(_percent(result.figures[name + end]) for name in ("PQ", "SQ", "RQ")))
        output().print(groups)
        _show_figures({}, result)
    else:
        _show_figures({name: _percent(value) for name, value in result.figures.items()}, result)
    if result.submission is not None:
        print(f"submission: {result.submission}")


def show_comparison(
    recipe: Recipe, table: Sequence[Row], counted: Sequence[Counted], facts: dict[str, str], own_methods: bool
) -> None:
    """The rows side by side, and published figures beside ours where the rows are the recipe's."""
    metric, name = metric_of(table, recipe)
    title = f"{recipe.title} · " + ", ".join(f"{key} {facts[key]}" for key in ("images", "threads", "dtype", "device"))
    columns = ["method", "tokens", "GMACs", "MAC ratio", "ms", "speed-up", "efficiency", name, "Δ", "agreement"]
    lines = []
    for row in table:
        value, dense = getattr(row, metric), getattr(table[0], metric)
        cells = [
            row.spec,
            f"{row.tokens:.0f}",
            f"{row.gmacs:.2f}",
            f"{row.mac_ratio:.2f}",
            _cell(row.ms, "{:.1f}"),
            _cell(row.speedup, "{:.2f}"),
            _cell(row.efficiency, "{:.2f}"),
            _cell(value, "{:.2f}", 100),
            _cell(None if value is None or dense is None else value - dense, "{:+.2f}", 100),
            _cell(row.agreement, "{:.1f} %", 100),
        ]
        lines.append(cells)
    _print_table(title, columns, lines)
    if not own_methods and recipe.rows[0].published is not None:
        _show_published(recipe, table, counted, metric, name)


def _show_published(recipe: Recipe, table: Sequence[Row], counted: Sequence[Counted], metric: str, name: str) -> None:
    """Published figures, and ours in the same convention."""
    columns = ["method", "GFLOPs", "ours", "speed-up", "ours", name, "ours", "ours − theirs"]
    lines, dense, notes = [], recipe.rows[0].published, []
    for written, row, ours in zip(recipe.rows, table, counted, strict=True):
        theirs, value = written.published, getattr(row, metric)
        if theirs is None or dense is None:
            continue
        figure = getattr(theirs, metric)
        cells = [
            row.spec,
            f"{theirs.gflops:.2f}",
            _cell(ours.published_convention_gmacs, "{:.2f}"),
            f"{theirs.fps / dense.fps:.2f}",
            _cell(row.speedup, "{:.2f}"),
            f"{figure:.2f}",
            _cell(value, "{:.2f}", 100),
            _cell(None if value is None else 100 * value - figure, "{:+.2f}"),
        ]
        lines.append(cells)
        if written.counted is not None:
            notes.append(f"{name} is of {written.method}, everything else of {written.counted}. {written.note}")
    _print_table("As published, and ours in the published convention", columns, lines)
    for note in notes:
        output().print(note)


def _print_table(title: str, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """The first column gets what room the figures leave."""
    from rich.table import Table

    out = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        out.add_column(column, no_wrap=place > 0, justify="right" if place else "left")
    for cells in lines:
        out.add_row(*cells)
    output().print(out)


def metric_of(table: Sequence[Row], recipe: Recipe) -> tuple[str, str]:
    """Field of ``Row`` that tells what is right, the one measured or else the published one, and what it is called."""
    for metric, name in METRICS.items():
        if getattr(table[0], metric) is not None or getattr(recipe.rows[0].published, metric, None) is not None:
            return metric, name
    return "miou", METRICS["miou"]


def _cell(value: float | None, form: str, scale: float = 1) -> str:
    return "-" if value is None else form.format(scale * value)


def _show_figures(figures: dict[str, str], pace: Pace) -> None:
    """One figure per line, the speed last."""
    from rich.table import Table

    table = Table("figure", "", title=f"{pace.images} images", title_justify="left")
    for name, value in figures.items():
        table.add_row(name, value)
    if pace.fresh:
        table.add_row("images per second", f"{pace.images_per_second:.2f}")
        table.add_row("share of the time waiting for images", _percent(pace.waiting / pace.seconds))
    output().print(table)


def _percent(share: float) -> str:
    """``share`` in per cent; a dash for nan and -1, which stand for nothing to measure."""
    return f"{100 * share:.2f} %" if share >= 0 else "-"
