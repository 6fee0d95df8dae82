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
        distance = distances(x, grid, s.spatial)
        near, absent = around(grid, s.radius, x.device)
        local = distance.gather(2, near.expand(x.shape[0], -1, -1)).masked_fill(absent, INFINITE)
        corner = min(s.radius + 1, grid.h) * min(s.radius + 1, grid.w) - 1  # neighbours of a token there
        score = peaks(local, near, min(s.neighbours, corner))
        is_anchor = torch.zeros_like(score, dtype=torch.bool).scatter(1, descending(score)[:, :m], True)
        best, place = local.masked_fill(~is_anchor[:, near], INFINITE).min(2)
        own = torch.arange(n, device=x.device)
        nearest = near[own, place]
        # those without an anchor around take the nearest of all
        lonely = distance.masked_fill(~is_anchor[:, None, :], INFINITE).argmin(2)
        root = torch.where(is_anchor, own, torch.where(best.isinf(), lonely, nearest))
        token_map = grouped(root, m, s.size_bias)
        return token_map.down(x), token_map


def distances(x: Tensor, grid: Grid, spatial: float) -> Tensor:
    """Squared distances of tokens ``(b, n, c) -> (b, n, n)`` fp32.

    Features in units of their variance plus ``spatial`` times places in tokens.
    """
    x = x.float()
    length = x.square().sum(2).mean(1)[:, None, None]
    x = x - x.mean(1, keepdim=True)
    variance = torch.maximum(x.square().sum(2).mean(1)[:, None, None], 1e-6 * length).clamp_min(1e-30)
    row, column = rows_and_columns(grid, x.device)
    places = spatial**0.5 * torch.stack((row, column), 1).expand(x.shape[0], -1, -1)
    y = torch.cat((x / variance.sqrt(), places), 2)
    return torch.add(y.square().sum(2)[:, :, None], closeness(y, y), alpha=-2).clamp_min(0)


def rows_and_columns(grid: Grid, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of every token, ``(n,)`` int64 each."""
    place = torch.arange(grid.length, device=device)
    return place // grid.w, place % grid.w


def around(grid: Grid, radius: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Places within ``radius`` rows and columns of each token ``(n, k)`` int64, and which are not there or itself."""
    row, column = rows_and_columns(grid, device)
    reach = torch.arange(-radius, radius + 1, device=device)
    down, right = reach.repeat_interleave(len(reach)), reach.repeat(len(reach))
    y, x = row[:, None] + down, column[:, None] + right
    absent = (y < 0) | (y >= grid.h) | (x < 0) | (x >= grid.w) | ((down == 0) & (right == 0))
    return y.clamp(0, grid.h - 1) * grid.w + x.clamp(0, grid.w - 1), absent


def peaks(local: Tensor, near: Tensor, neighbours: int) -> Tensor:
    """Density times the distance to the nearest denser token, in [0, 1]: ``(b, n, k)``, ``(n, k) -> (b, n)``.

    The density is exp(-mean distance of the nearest tokens). A token without a denser one around is as far from it as
    the two farthest tokens of the image that are near one another. Of two equally dense ones the first is denser.
    """
    density = (-local.topk(neighbours, dim=2, largest=False).values.mean(2)).exp()
    theirs, own = density[:, near], density[:, :, None]
    place = torch.arange(density.shape[1], device=density.device)[:, None]
    denser = (theirs > own) | ((theirs == own) & (near < place))
    gap = local.masked_fill(~denser, INFINITE).amin(2)
    farthest = local.masked_fill(local.isinf(), 0).amax((1, 2))[:, None]
    score = density * torch.where(gap.isinf(), farthest, gap)
    return score / score.amax(1, keepdim=True).clamp_min(1e-30)
