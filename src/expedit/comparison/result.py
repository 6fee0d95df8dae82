"""Plain data between measuring and reporting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Row:
    """One line of a comparison.

    Attributes:
        spec: "dense" or ``repr(method)``.
        tokens: mean tokens per block.
        gmacs: 10^9 multiply-adds per image, every convolution and matrix product counted.
        mac_ratio: dense gmacs / gmacs; above 1 is cheaper.
        ms: median milliseconds per image of interleaved runs; this and what follows is ``None`` where not measured.
        speedup: dense time / time, median of pairs.
        efficiency: speedup / mac_ratio.
        miou: mean intersection over union in 0..1, ``None`` without ground truth.
        delta_miou: miou - dense miou.
        agreement: share of pixels with the dense model's class, 0..1.
        clusters: mean number of clusters that a data-dependent method used, else ``None``.
        pq: panoptic quality in 0..1 in place of ``miou``.
        ap: average precision of masks in 0..1 in place of ``miou``.
    """

    spec: str
    tokens: float
    gmacs: float
    mac_ratio: float
    ms: float | None
    speedup: float | None
    efficiency: float | None
    miou: float | None
    delta_miou: float | None
    agreement: float | None
    clusters: float | None = None
    pq: float | None = None
    ap: float | None = None


@dataclass(frozen=True)
class View:
    """What one method makes of one picture.

    Attributes:
        spec: as in ``Row``.
        labels: ``(H, W)`` integers, class index per pixel.
        owner: ``(h, w)`` integers, the reduced token each token of the lattice reads most; ``None`` where there is no
            single map to draw.
    """

    spec: str
    labels: np.ndarray
    owner: np.ndarray | None


@dataclass(frozen=True)
class Example:
    """One picture with everything to show of it.

    Attributes:
        name: heading.
        image: ``(H, W, 3)`` uint8 RGB.
        truth: ``(H, W)`` integers or ``None``.
        views: the first one is dense.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray | None
    views: tuple[View, ...]
