"""Trade-off plots of a comparison: quality against cost."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..evaluation.judge import Metric
from ..models.card import distinct_colors
from .result import Comparison, Row

TINTS = ("#d1495b", "#2f7fc1", "#2a9d6f", "#c77d0a", "#8e5bd0", "#0f9aa8", "#b0578d", "#7a7f2a")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h", "<", "p", ">", "d", "8")
INK, LINE = "#010203", "#040506"  # stand-ins in the drawn plots for colours that follow the reader's theme
PLOT_STYLE = """<style>svg{color:#22262c;--line:#dcdfe4}
@media (prefers-color-scheme:dark){svg{color:#e4e7eb;--line:#3a4048}}</style>"""
COSTS = {"ms": ("measured time", "milliseconds per image (median)"), "gmacs": ("GMACs", "GMACs per image")}
"""By field of a row: what captions and axes call it."""


class Axis(NamedTuple):
    """A field of a row, what captions and axes call it, and what its numbers are multiplied by."""

    field: str
    caption: str
    label: str
    scale: float = 1.0


def trade_offs(comparison: Comparison) -> list[dict[str, str]]:
    """Quality against cost, one picture for each pair that was measured."""
    costs = [Axis(field, *names) for field, names in COSTS.items()]
    qualities = [_axis("value", comparison.metric, "")]
    if comparison.agreement is not None:
        qualities.append(_axis("agreement", comparison.agreement, " with dense"))
    return [
        {"src": _plot(comparison.rows, quality, cost), "caption": f"{quality.caption} against {cost.caption}"}
        for quality in qualities
        for cost in costs
        if any(None not in (getattr(row, quality.field), getattr(row, cost.field)) for row in comparison.rows)
    ]


def _axis(field: str, metric: Metric, of: str) -> Axis:
    name = f"{metric.title}{of}"
    return Axis(field, name[:1].upper() + name[1:] if of else name, name + " (%)" * metric.share, 100**metric.share)


def _plot(rows: Sequence[Row], quality: Axis, cost: Axis) -> str:
    """One trade-off plot as an SVG data URI whose ink follows the reader's theme."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "expedit",
        "font.family": "sans-serif",
        "font.sans-serif": ["system-ui", "Segoe UI", "Helvetica", "Arial", "DejaVu Sans"],
        "font.size": 11,
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
        **dict.fromkeys(("axes.edgecolor", "grid.color"), LINE),
    }
    with rc_context(style):
        figure = Figure(figsize=(6.2, 4.6), layout="constrained")
        axes = figure.add_subplot()
        _draw_ladders(axes, rows, quality, cost)
        axes.set(xlabel=cost.label, ylabel=quality.label)
        axes.grid(linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(0.06)
        figure.legend(loc="outside lower center", ncols=4, frameon=False, handlelength=2.2)
        file = io.StringIO()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=metadata)
    svg = file.getvalue().replace(INK, "currentColor").replace(LINE, "var(--line)")
    head = svg.index(">", svg.index("<svg")) + 1
    return data_uri("image/svg+xml", (svg[:head] + PLOT_STYLE + svg[head:]).encode())


def _draw_ladders(axes: Any, rows: Sequence[Row], quality: Axis, cost: Axis) -> None:
    """A line with markers through the settings of each method, cheapest first; dense as a star on a dashed level."""

    def points(chosen: Sequence[Row]) -> tuple[list[float], list[float]]:
        found = [(getattr(row, cost.field), getattr(row, quality.field)) for row in chosen]
        known = [(x, quality.scale * y) for x, y in found if x is not None and y is not None]
        return [x for x, _ in known], [y for _, y in known]

    for place, name in enumerate(_families(rows)):
        ladder = sorted((row for row in rows if _family(row.spec) == name), key=lambda row: row.gmacs)
        marker = MARKERS[place % len(MARKERS)]
        axes.plot(*points(ladder), color=_tint(place), marker=marker, label=name, linewidth=1.8, markersize=7)
    for x, y in zip(*points([row for row in rows if row.spec == "dense"]), strict=True):
        axes.axhline(y, color=INK, linewidth=0.9, linestyle=(0, (4, 4)), alpha=0.5)
        axes.plot([x], [y], color=INK, marker="*", markersize=15, linestyle="none", label="dense")


def _family(spec: str) -> str:
    """The method's name, or those of a chain: what stands before the settings."""
    return " + ".join(part.partition("(")[0] for part in spec.split(" + "))


def _families(rows: Sequence[Row]) -> list[str]:
    """Names of the methods in order of appearance, dense left out."""
    return [name for name in dict.fromkeys(_family(row.spec) for row in rows) if name != "dense"]


def tints(rows: Sequence[Row]) -> list[str]:
    """The plot colour of every row, the text colour for dense."""
    tint = {name: _tint(place) for place, name in enumerate(_families(rows))}
    return [tint.get(_family(row.spec), "currentColor") for row in rows]


def _tint(place: int) -> str:
    """Colour of the method at that place: the first ones chosen by hand, all further ones by golden angles of hue."""
    return TINTS[place] if place < len(TINTS) else "#" + bytes(distinct_colors(place + 1)[place]).hex()


def data_uri(mime: str, data: bytes) -> str:
    """``data`` as an address that carries it."""
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"
