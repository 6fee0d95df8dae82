"""Trade-off plots of a comparison: quality against cost."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

from ..models.card import distinct_colors
from .result import Row

TINTS = ("#d1495b", "#2f7fc1", "#2a9d6f", "#c77d0a", "#8e5bd0", "#0f9aa8", "#b0578d", "#7a7f2a")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h", "<", "p", ">", "d", "8")
INK, LINE = "#010203", "#040506"  # stand-ins in the drawn plots for colours that follow the reader's theme
PLOT_STYLE = """<style>svg{color:#22262c;--line:#dcdfe4}
@media (prefers-color-scheme:dark){svg{color:#e4e7eb;--line:#3a4048}}</style>"""
AXES = {
    "miou": "mIoU (%)",
    "agreement": "pixel agreement with dense (%)",
    "gmacs": "GMACs per image",
    "ms": "milliseconds per image (median)",
}
SHORT = {"miou": "mIoU", "agreement": "Agreement with dense", "gmacs": "GMACs", "ms": "measured time"}


def trade_offs(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Quality against cost, one picture for each pair that was measured."""
    plots = []
    for quality in ("miou", "agreement"):
        if all(getattr(row, quality) is None for row in rows):
            continue
        for cost in ("gmacs", "ms"):
            plots.append({"src": _plot(rows, quality, cost), "caption": f"{SHORT[quality]} against {SHORT[cost]}"})
    return plots


def _plot(rows: Sequence[Row], quality: str, cost: str) -> str:
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
        axes.set(xlabel=AXES[cost], ylabel=AXES[quality])
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


def _draw_ladders(axes: Any, rows: Sequence[Row], quality: str, cost: str) -> None:
    """A line with markers through the settings of each method, cheapest first; dense as a star on a dashed level."""
    for place, name in enumerate(_families(rows)):
        ladder = [row for row in rows if _family(row.spec) == name and getattr(row, quality) is not None]
        ladder.sort(key=lambda row: row.gmacs)
        x, y = [getattr(row, cost) for row in ladder], [100 * getattr(row, quality) for row in ladder]
        marker = MARKERS[place % len(MARKERS)]
        axes.plot(x, y, color=_tint(place), marker=marker, label=name, linewidth=1.8, markersize=7)
    for row in rows:
        if row.spec == "dense" and getattr(row, quality) is not None:
            x, y = getattr(row, cost), 100 * getattr(row, quality)
            axes.axhline(y, color=INK, linewidth=0.9, linestyle=(0, (4, 4)), alpha=0.5)
            axes.plot([x], [y], color=INK, marker="*", markersize=15, linestyle="none", label="dense")


def _family(spec: str) -> str:
    """The method's name: what stands before the settings."""
    return spec.partition("(")[0]


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
