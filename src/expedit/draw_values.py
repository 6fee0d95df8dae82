"""Pictures of numbers: depth in colours, features as three principal components. Arrays in, ``uint8`` RGB out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .draw import NEUTRAL

if TYPE_CHECKING:
    from .models.card import Depth

TINY = 1e-12
"""What stands in for a spread of zero."""


def depth(values: np.ndarray, kind: Depth = "metric") -> np.ndarray:
    """A depth ``(H, W)`` as colours, near red and far blue, neutral grey where it is not known (0 metres, not finite).

    Args:
        values: as in ``Prediction.depth``; the colours are spread over its nearness without the extreme hundredths.
        kind: "metric" or "inverse".
    """
    from matplotlib import colormaps

    known = np.isfinite(values) & ((values > 0) | (kind == "inverse"))
    near = np.divide(1.0, values, out=np.zeros(values.shape), where=known) if kind == "metric" else values
    low, high = np.percentile(near[known], (1, 99)) if known.any() else (0.0, 0.0)
    share = ((np.where(known, near, low) - low) / max(high - low, TINY)).clip(0, 1)
    picture: np.ndarray = (255 * colormaps["Spectral_r"](share)[..., :3]).round().astype(np.uint8)
    picture[~known] = NEUTRAL
    return picture


class Components(NamedTuple):
    """Three directions of features: their ``mean`` ``(c,)``, ``axes`` ``(c, 3)``, and what is black and full colour."""

    mean: np.ndarray
    axes: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @staticmethod
    def of(features: np.ndarray) -> Components:
        """The principal components of ``(h, w, c)``; of an axis the coordinate of largest size is positive."""
        tokens = features.reshape(-1, features.shape[2]).astype(np.float64)
        mean = tokens.mean(0)
        centred = tokens - mean
        wide = centred.shape[1] > len(centred)  # then the product with fewer entries has the same axes
        axes = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)[1][:, :-4:-1]
        axes = centred.T @ axes if wide else axes
        axes /= np.linalg.norm(axes, axis=0).clip(TINY)
        axes *= np.sign(np.take_along_axis(axes, abs(axes).argmax(0)[None], 0))
        low, high = np.percentile(centred @ axes, (1, 99), axis=0)
        return Components(mean, axes, low, high)


def components(features: np.ndarray, basis: Components | None = None) -> np.ndarray:
    """Features ``(h, w, c)`` as a picture ``(h, w, 3)``: their principal components, or those of ``basis``."""
    basis = Components.of(features) if basis is None else basis
    share = ((features - basis.mean) @ basis.axes - basis.low) / (basis.high - basis.low).clip(TINY)
    picture: np.ndarray = (255 * share.clip(0, 1)).round().astype(np.uint8)
    return picture


def shares(values: np.ndarray) -> np.ndarray:
    """Shares ``(h, w)``, 1 for what is as it should be: pale at 1, dark at 0 and below."""
    from matplotlib import colormaps

    picture: np.ndarray = (255 * colormaps["magma"](np.clip(values, 0, 1))[..., :3]).round().astype(np.uint8)
    return picture


def enlarged(picture: np.ndarray, longest: int = 512) -> np.ndarray:
    """A small picture with every pixel as a square, the longer side up to ``longest`` pixels."""
    times = max(longest // max(picture.shape[:2]), 1)
    return picture.repeat(times, 0).repeat(times, 1)
