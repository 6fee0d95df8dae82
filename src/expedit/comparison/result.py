"""Plain data between measuring and reporting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..evaluation.judge import Metric
from ..prediction import Prediction


@dataclass(frozen=True)
class Printed:
    """What a published table says of a row.

    Attributes:
        gflops: multiply-adds counted once, in 10^9, in the table's convention.
        speedup: its images per second over those of its dense row.
        value: of the comparison's metric, a share in 0..1.
    """

    gflops: float
    speedup: float
    value: float


@dataclass(frozen=True)
class Row:
    """One line of a comparison; ``None`` stands for what was not measured.

    Attributes:
        spec: "dense" or ``repr(method)``.
        tokens: mean tokens per block.
        gmacs: 10^9 multiply-adds per image, every convolution and matrix product counted.
        mac_ratio: dense gmacs / gmacs; above 1 is cheaper.
        published_gmacs: 10^9 multiply-adds as the published tables counted, ``None`` for what they do not have.
        clusters: mean number of clusters that a data-dependent method used.
        ms: median milliseconds per image of interleaved runs.
        speedup: dense time / time, median of pairs.
        efficiency: speedup / mac_ratio.
        value: of the comparison's metric.
        delta: value - dense value.
        agreement: how often the dense model's answer is repeated, 0..1.
        printed: the published row with these settings.
    """

    spec: str
    tokens: float
    gmacs: float
    mac_ratio: float
    published_gmacs: float | None = None
    clusters: float | None = None
    ms: float | None = None
    speedup: float | None = None
    efficiency: float | None = None
    value: float | None = None
    delta: float | None = None
    agreement: float | None = None
    printed: Printed | None = None


@dataclass(frozen=True)
class Comparison:
    """Dense model and methods side by side.

    Attributes:
        title: of the tables.
        metric: what ``value`` is.
        agreement: what ``agreement`` is.
        rows: dense first.
        facts: what was measured on what: machine, threads, dtype, versions, number of images, command.
        notes: what one must know to read the published figures.
    """

    title: str
    metric: Metric
    agreement: Metric | None
    rows: tuple[Row, ...]
    facts: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def as_json(self) -> list[dict[str, Any]]:
        """The rows as flat plain values, with the metric's name for ``value``."""
        name = self.metric.key.lower()
        return [
            {
                "spec": row.spec,
                "tokens": row.tokens,
                "gmacs": row.gmacs,
                "mac_ratio": row.mac_ratio,
                "published_convention_gmacs": row.published_gmacs,
                "clusters": row.clusters,
                "ms": row.ms,
                "speedup": row.speedup,
                "efficiency": row.efficiency,
                name: row.value,
                f"delta_{name}": row.delta,
                "agreement": row.agreement,
                "published_gflops": row.printed and row.printed.gflops,
                "published_speedup": row.printed and row.printed.speedup,
                f"published_{name}": row.printed and row.printed.value,
            }
            for row in self.rows
        ]


@dataclass(frozen=True)
class View:
    """What one method makes of one picture.

    Attributes:
        spec: as in ``Row``.
        prediction: of the picture's size, unless it is features.
        owner: ``(h, w)`` integers, the reduced token each token of the lattice reads most; ``None`` where there is no
            single map to draw.
        seen: picture that the lattice covers, where it is not the whole one.
    """

    spec: str
    prediction: Prediction
    owner: np.ndarray | None
    seen: np.ndarray | None = None


@dataclass(frozen=True)
class Example:
    """One picture with everything to show of it.

    Attributes:
        name: heading.
        image: ``(H, W, 3)`` uint8 RGB.
        truth: of the same kind as the predictions, or ``None``.
        views: the first one is dense.
    """

    name: str
    image: np.ndarray
    truth: Prediction | None
    views: tuple[View, ...]
