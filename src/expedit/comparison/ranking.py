"""What a reader wants of a comparison first: who is faster than the dense model and why others are not."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .result import Comparison, Row

CLOSE = 0.05
"""Share of the dense model's answers, or of its score, that a setting worth a first look may lose."""


def by_time(rows: Sequence[Row]) -> list[Row]:
    """Fastest first, by the speed-up of interleaved runs, then what was not timed, by its multiply-adds."""

    def place(row: Row) -> tuple[int, float]:
        if row.speedup is None or math.isnan(row.speedup):
            return 1, row.gmacs
        return 0, -row.speedup

    return sorted(rows, key=place)


def verdict(rows: Sequence[Row]) -> str | None:
    """One sentence on how many settings are faster than dense, and why the others are not; ``None`` without times."""
    speeds = {row: row.speedup for row in rows if row.spec != "dense"}
    timed = {row: speed for row, speed in speeds.items() if speed is not None and not math.isnan(speed)}
    if not timed:
        return None
    slower = [row for row, speed in timed.items() if speed <= 1]
    count = f"{len(timed) - len(slower)} of {len(timed)} settings are faster than dense here."
    return " ".join((count, *(f"Not {row.spec}: {_why(row)}." for row in slower)))


def _why(row: Row) -> str:
    if row.mac_ratio <= 1:
        return "it needs as many multiply-adds"
    saved, rate = 1 - 1 / row.mac_ratio, row.efficiency or 0.0
    return f"it saves {100 * saved:.0f} % of the multiply-adds, but does the others at {rate:.2f} of the dense rate"


def suggested(comparison: Comparison) -> str | None:
    """Spec of the fastest setting that stays close to dense, else of the closest one; ``None`` without settings."""
    settings = [row for row in comparison.rows if row.spec != "dense"]
    close = [row for row in settings if _loss(comparison, row) <= CLOSE]
    if close:
        return by_time(close)[0].spec
    return min(settings, key=lambda row: _loss(comparison, row)).spec if settings else None


def _loss(comparison: Comparison, row: Row) -> float:
    """What is lost against dense: of its answers where that was measured, else of its score; 0 where nothing was."""
    if comparison.agreement is not None and row.agreement is not None:
        return 1 - row.agreement if comparison.agreement.higher else row.agreement
    if row.value is None or row.delta is None:
        return 0.0
    lost = -row.delta if comparison.metric.higher else row.delta
    return lost / max(abs(row.value - row.delta), 1e-12)
