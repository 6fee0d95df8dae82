"""Errors of a depth against the measured one, in the conventions of the published tables.

Eigen et al., "Depth Map Prediction from a Single Image using a Multi-Scale Deep Network", NeurIPS 2014, section 4.2;
alignment of relative depth: Ranftl et al., "Towards Robust Monocular Depth Estimation", TPAMI 2022, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Kind = Literal["metric", "inverse"]
"""What a prediction says: metres, or more the nearer, up to a scale and a shift."""

Alignment = Literal["none", "median", "least-squares"]
Crop = Literal["none", "nyu-eigen", "kitti-eigen", "kitti-garg"]

CROPS: Mapping[str, tuple[float, float, float, float]] = {
    "none": (0.0, 1.0, 0.0, 1.0),
    "nyu-eigen": (45 / 480, 471 / 480, 41 / 640, 601 / 640),
    "kitti-eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
    "kitti-garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
}
"""First and last row, first and last column that count, as shares of the height and the width."""

THRESHOLD = 1.25
TINY = 1e-9


@dataclass(frozen=True)
class DepthProtocol:
    """Which pixels count and how a prediction is made comparable.

    Attributes:
        least, most: metres; pixels with another ground truth do not count, predictions are moved between them.
        crop: part of the picture that counts.
        align: of every picture. "none": the prediction is in metres. "median": times what makes the medians equal.
            "least-squares": times a scale plus a shift that make the squared error least; of an inverse depth in
            inverse metres, as for MiDaS, DPT and Depth Anything.
    """

    least: float = 1e-3
    most: float = 10.0
    crop: Crop = "none"
    align: Alignment = "none"

    def __post_init__(self) -> None:
        if not 0 < self.least < self.most:
            raise ValueError(f"least and most: expected 0 < least < most in metres, got {self.least} and {self.most}")
        for name, kind in (("crop", Crop), ("align", Alignment)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name}: expected one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}")


def depth_errors(
    prediction: np.ndarray, truth: np.ndarray, protocol: DepthProtocol, kind: Kind = "metric"
) -> dict[str, float] | None:
    """Errors of one picture; ``None`` if no pixel counts.

    Args:
        prediction: ``(H, W)``.
        truth: ``(H, W)`` metres, 0 where it is not known.
        protocol: what counts.
        kind: of the prediction.

    Returns:
        ``abs_rel`` mean |p - t| / t, ``sq_rel`` mean (p - t)² / t in metres, ``rmse`` in metres, ``rmse_log`` of the
        natural logarithms, ``log10`` mean |log₁₀ p - log₁₀ t|, ``delta1`` to ``delta3`` the share of pixels with
        max(p / t, t / p) below 1.25, 1.25², 1.25³.

    Raises:
        ValueError: the sizes differ, the prediction is not finite, or an inverse depth is not aligned.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction: expected the size of the ground truth {truth.shape}, got {prediction.shape}")
    counts = counted(truth, protocol)
    if not counts.any():
        return None
    p, t = prediction[counts].astype(np.float64), truth[counts].astype(np.float64)
    if not np.isfinite(p).all():
        raise ValueError("prediction: expected finite numbers only")
    p = aligned(p, t, protocol, kind).clip(protocol.least, protocol.most)
    ratio, logs = np.maximum(p / t, t / p), np.log(p) - np.log(t)
    return {
        "abs_rel": float((abs(p - t) / t).mean()),
        "sq_rel": float(((p - t) ** 2 / t).mean()),
        "rmse": float(np.sqrt(((p - t) ** 2).mean())),
        "rmse_log": float(np.sqrt((logs**2).mean())),
        "log10": float(abs(logs).mean() / np.log(10)),
        **{f"delta{power}": float((ratio < THRESHOLD**power).mean()) for power in (1, 2, 3)},
    }


def counted(truth: np.ndarray, protocol: DepthProtocol) -> np.ndarray:
    """``(H, W)`` bool: pixels with a ground truth that counts."""
    (h, w), (top, bottom, left, right) = truth.shape, CROPS[protocol.crop]
    counts = np.zeros(truth.shape, bool)
    rows, columns = (
        [int(share * side + TINY) for share in shares] for side, shares in ((h, (top, bottom)), (w, (left, right)))
    )
    counts[slice(*rows), slice(*columns)] = True
    within: np.ndarray = counts & (truth > protocol.least) & (truth < protocol.most)
    return within


def aligned(p: np.ndarray, t: np.ndarray, protocol: DepthProtocol, kind: Kind) -> np.ndarray:
    """Predictions ``(n,)`` in metres, those of an inverse depth by way of inverse metres; ``t`` ``(n,)``: the truth."""
    if kind == "metric":
        return ALIGN[protocol.align](p, t)
    if protocol.align == "none":
        raise ValueError("align: an inverse depth has neither scale nor shift; expected median or least-squares")
    inverse = ALIGN[protocol.align](p, 1 / t)
    return 1 / inverse.clip(1 / protocol.most)


def _by_median(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = p * (np.median(t) / max(float(np.median(p)), TINY))
    return scaled


def _by_least_squares(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Scale and shift of the regression of ``t`` on ``p``; the mean of ``t`` for a prediction without any contrast."""
    centred = p - p.mean()
    scale = (centred * (t - t.mean())).sum() / max(float((centred**2).sum()), TINY)
    fitted: np.ndarray = scale * centred + t.mean()
    return fitted


ALIGN: Mapping[Alignment, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "none": lambda p, t: p,
    "median": _by_median,
    "least-squares": _by_least_squares,
}


def mean_errors(errors: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean over pictures, each counting the same, as the published tables have it; empty without any."""
    return {name: float(np.mean([one[name] for one in errors])) for name in (errors[0] if errors else ())}
