"""What evaluations and comparisons found, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .console import output

if TYPE_CHECKING:
    from ..comparison.result import Comparison, Row
    from ..evaluation.evaluate import Evaluation

GROUPS = {"all": "", "things": "_th", "stuff": "_st"}
"""Rows of the panoptic table, and how their scores end."""

TITLES = {
    "miou": "mIoU",
    "miou_labelled": "mIoU over the classes of the ground truth",
    "miou_all": "mIoU over all classes",
    "pixel_accuracy": "pixel accuracy",
    "class_accuracy": "mean class accuracy",
    "abs_rel": "abs rel",
    "sq_rel": "sq rel (m)",
    "rmse": "RMSE (m)",
    "rmse_log": "RMSE log",
    **{f"delta{power}": f"δ{power}" for power in (1, 2, 3)},
}
"""Scores that are not called what their key says."""

AGREEMENT = {
    "pixel_agreement": "pixels as the dense model says",
    "miou": "mIoU against the dense model",
    "relative_difference": "distance from the dense model's depth",
}
"""The same of scores against another model."""


def show_evaluation(result: Evaluation) -> None:
    """Scores of every class that has any, then of everything."""
    from rich.table import Table

    scores, share = result.scores, result.headline.share
    if scores.per_class:
        names = list(next(iter(scores.per_class.values())))
        classes = Table("class", *names)
        for name, values in scores.per_class.items():
            classes.add_row(name, *(_score(values[key], share) for key in names))
        output().print(classes)
    overall = {TITLES.get(key, key): value for key, value in scores.overall.items()}
    if result.task == "panoptic":
        groups = Table("classes", "PQ", "SQ", "RQ")
        for group, end in GROUPS.items():
            groups.add_row(group, *(_score(overall.pop(name + end), share) for name in ("PQ", "SQ", "RQ")))
        output().print(groups)
    agreement = {AGREEMENT.get(key, key): value for key, value in scores.agreement.items()}
    _show_scores({name: _score(value, share) for name, value in {**overall, **agreement}.items()}, result)


def show_comparison(comparison: Comparison) -> None:
    """The rows side by side, fastest first, and published figures beside ours where the rows are a recipe's."""
    from ..comparison.ranking import by_time, verdict

    facts, metric = comparison.facts, comparison.metric
    measured = ", ".join(f"{key} {facts[key]}" for key in ("images", "threads", "dtype", "device"))
    agreement = "agreement" if comparison.agreement is None else comparison.agreement.title
    columns = ["method", "tokens", "GMACs", "MAC ratio", "ms", "speed-up", "efficiency", metric.title, "Δ", agreement]
    scale, form = (100, ".2f") if metric.share else (1, ".4f")
    lines = [
        [
            row.spec,
            f"{row.tokens:.0f}",
            f"{row.gmacs:.2f}",
            f"{row.mac_ratio:.2f}",
            _cell(row.ms, "{:.1f}"),
            _cell(row.speedup, "{:.2f}"),
            _cell(row.efficiency, "{:.2f}"),
            _cell(row.value, f"{{:{form}}}", scale),
            _cell(row.delta, f"{{:+{form}}}", scale),
            _cell(row.agreement, "{:.1f} %", 100),
        ]
        for row in by_time(comparison.rows)
    ]
    _print_table(f"{comparison.title} · {measured}", columns, lines)
    if comparison.rows[0].printed is not None:
        _show_published(comparison.rows, metric.title)
    for note in filter(None, (verdict(comparison.rows), *comparison.notes)):
        output().print(note)


def _show_published(rows: Sequence[Row], name: str) -> None:
    """Published figures, and ours in the same convention."""
    columns = ["method", "GFLOPs", "ours", "speed-up", "ours", name, "ours", "ours − theirs"]
    lines = [
        [
            row.spec,
            f"{row.printed.gflops:.2f}",
            _cell(row.published_gmacs, "{:.2f}"),
            f"{row.printed.speedup:.2f}",
            _cell(row.speedup, "{:.2f}"),
            f"{100 * row.printed.value:.2f}",
            _cell(row.value, "{:.2f}", 100),
            _cell(None if row.value is None else row.value - row.printed.value, "{:+.2f}", 100),
        ]
        for row in rows
        if row.printed is not None
    ]
    _print_table("As published, and ours in the published convention", columns, lines)


def _print_table(title: str, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """The first column gets what room the numbers leave."""
    from rich.table import Table

    out = Table(title=title, title_justify="left")
    shown = [place for place in range(len(columns)) if any(cells[place] != "-" for cells in lines)]
    for place in shown:
        out.add_column(columns[place], no_wrap=place > 0, justify="right" if place else "left")
    for cells in lines:
        out.add_row(*(cells[place] for place in shown))
    output().print(out)


def _cell(value: float | None, form: str, scale: float = 1) -> str:
    return "-" if value is None else form.format(scale * value)


def _show_scores(scores: dict[str, str], result: Evaluation) -> None:
    """One score per line, the speed last; then the submission."""
    from rich.table import Table

    pace = result.pace
    table = Table("score", "", title=f"{pace.images} images", title_justify="left")
    for name, value in scores.items():
        table.add_row(name, value)
    if pace.images_per_second is not None:
        table.add_row("images per second", f"{pace.images_per_second:.2f}")
        table.add_row("share of the time waiting for images", _score(pace.waiting / pace.seconds, True))
    output().print(table)
    if result.submission is not None:
        print(f"submission: {result.submission}")


def _score(value: float | None, share: bool) -> str:
    """In per cent if it is a share; a dash where there is nothing to measure."""
    return "-" if value is None else f"{100 * value:.2f} %" if share else f"{value:.4g}"
