"""AiluRus: density peaks among the tokens become anchors, every other token joins its nearest anchor.

Li et al., "AiluRus: A Scalable ViT Framework for Dense Prediction", NeurIPS 2023, section 3: one spatial-aware
clustering at an early block, its assignment read back at the end. There is no public code, and how distances are
scaled is ours: squared and in units of the tokens' variance, so that settings do not depend on the network.

Cost for n tokens of width c: n² · c for the distances.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core import LOGITS, Anatomy, Cut, Grid, Guide, Method, Span, TokenMap, attn
from ..core.checks import choice, integer, number
from ..operators.lattice import identity
from ..operators.matching import descending, grouped
from ..operators.similarity import closeness

INFINITE = float("inf")


@dataclass(frozen=True, repr=False)
class AiluRus(Method):
    """Density-peak clustering after ``alpha`` blocks; all tokens copy their anchor at the end.

    Attributes:
        alpha: blocks that run at full resolution.
        keep: share of the tokens that become anchors. The main knob.
        neighbours: nearest tokens whose mean distance makes the density of a token.
        radius: rows and columns around a token beyond which nothing is near it.
        spatial: what multiplies the squared distance of places, in tokens, beside that of features.
        size_bias: add the logarithm of an anchor's size to the logits of its key.

    Example:
        >>> import expedit
        >>> expedit.AiluRus(alpha=2, keep=0.4)
        ailurus(alpha=2, keep=0.4)
    """

    headline: ClassVar[tuple[str, ...]] = ("alpha", "keep")

    alpha: int = 2
    keep: float = 0.5
    neighbours: int = 5
    radius: int = 5
    spatial: float = 0.01
    size_bias: bool = True

    def __post_init__(self) -> None:
        integer("alpha", self.alpha, 0)
        number("keep", self.keep, 0, 1)
        integer("neighbours", self.neighbours, 1)
        integer("radius", self.radius, 1)
        number("spatial", self.spatial, 0, INFINITE, open_low=False)
        choice("size_bias", self.size_bias, (False, True))

    def cuts(self, net: Anatomy) -> Sequence[Cut]:
        """One span from before block α to the logits."""
        integer("alpha", self.alpha, 0, net.depth - 1)
        return [Span(Anchors(self), attn(self.alpha), LOGITS)]


@dataclass(frozen=True)
class Anchors:
    """Reducer: tokens on a lattice to the means of those that share an anchor, in the order of the anchors."""

    guide: ClassVar[Guide] = "tokens"

    settings: AiluRus

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        """``(b, n, c)`` on ``grid`` to ``(b, m, c)``."""
        s = self.settings
        if grid is None:
            raise ValueError("ailurus: expected tokens on a lattice, but an earlier reduction took them off it")
        n, m = grid.length, math.ceil(s.keep * grid.length)
        if m == n:
            return x, identity(x, grid)
        distance, far = distances(x, grid, s.spatial, s.radius)
        around = min(s.radius + 1, grid.h) * min(s.radius + 1, grid.w) - 1  # of a corner
        score = peaks(distance + far, min(s.neighbours, around))
        is_anchor = torch.zeros_like(score, dtype=torch.bool).scatter(1, descending(score)[:, :m], True)
        # those without an anchor around take the nearest of all
        near = distance + far.clamp(max=1e6)
        nearest = near.masked_fill(~is_anchor[:, None, :], INFINITE).argmin(2)
        root = torch.where(is_anchor, torch.arange(n, device=x.device), nearest)
        token_map = grouped(root, m, s.size_bias)
        return token_map.down(x), token_map


def distances(x: Tensor, grid: Grid, spatial: float, radius: int) -> tuple[Tensor, Tensor]:
    """Squared distances ``(b, n, n)`` fp32 of tokens ``(b, n, c)``, and what is too far.

    Returns:
        Features in units of their variance plus ``spatial`` times places in tokens; and ``(n, n)``, 0 within
        ``radius`` rows and columns, infinite elsewhere and for a token and itself.
    """
    x = x.float()
    length = x.square().sum(2).mean(1)[:, None, None]
    x = x - x.mean(1, keepdim=True)
    square = x.square().sum(2)
    variance = torch.maximum(square.mean(1)[:, None, None], 1e-6 * length).clamp_min(1e-30)
    feature = (square[:, :, None] - 2 * closeness(x, x)).clamp_min(0) / variance
    place = torch.arange(grid.length, device=x.device)
    apart = torch.stack((place // grid.w, place % grid.w))
    apart = (apart[:, :, None] - apart[:, None, :]).abs()
    outside = (apart.amax(0) > radius) | (apart.amax(0) == 0)
    far = torch.zeros_like(outside, dtype=x.dtype).masked_fill(outside, INFINITE)
    return feature + spatial * apart.square().sum(0), far


def peaks(distance: Tensor, neighbours: int) -> Tensor:
    """Density times the distance to the nearest denser token, in [0, 1]: ``(b, n, n) -> (b, n)``.

    The density is exp(-mean distance of the nearest tokens). A token without a denser one around is as far from it as
    the two farthest tokens of the image that are near one another. Of two equally dense ones the first is denser.
    """
    density = (-distance.topk(neighbours, dim=2, largest=False).values.mean(2)).exp()
    place = torch.arange(density.shape[1], device=density.device)
    denser = density[:, None, :] > density[:, :, None]
    denser = denser | ((density[:, None, :] == density[:, :, None]) & (place < place[:, None]))
    gap = distance.masked_fill(~denser, INFINITE).amin(2)
    farthest = distance.masked_fill(distance.isinf(), 0).amax((1, 2))[:, None]
    score = density * torch.where(gap.isinf(), farthest, gap)
    return score / score.amax(1, keepdim=True).clamp_min(1e-30)
