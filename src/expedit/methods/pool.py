"""Average pooling down, bilinear up: the sanity baseline every comparison must contain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core import LOGITS, Anatomy, Cut, Grid, Guide, Method, Span, TokenMap, attn, to_map, to_tokens
from ..core.checks import integer
from ..operators.lattice import Cells, checked, fit, identity


@dataclass(frozen=True, repr=False)
class Pool(Method):
    """Adaptive average pooling after ``alpha`` blocks, bilinear interpolation of what comes out at the end.

    Attributes:
        alpha: blocks that run at full resolution.
        grid: h x w, the lattice of pooled tokens, or its share of each side of the token map at hand.

    Example:
        >>> import expedit
        >>> expedit.Pool(alpha=6, grid=(20, 20))
        pool(alpha=6, grid=(20, 20))
    """

    headline: ClassVar[tuple[str, ...]] = ("alpha", "grid")

    alpha: int = 10
    grid: Cells = 0.7

    def __post_init__(self) -> None:
        integer("alpha", self.alpha, 0)
        object.__setattr__(self, "grid", checked(self.grid))

    def cuts(self, net: Anatomy) -> Sequence[Cut]:
        """One span from before block α to the logits."""
        integer("alpha", self.alpha, 0, net.depth - 1)
        return [Span(Averages(self.grid, net.grid), attn(self.alpha), LOGITS)]


@dataclass(frozen=True)
class Averages:
    """Reducer: adaptive average pooling; its map is bilinear interpolation.

    Attributes:
        grid: lattice of the averages.
        nominal: as in Expedit's reducer.
    """

    guide: ClassVar[Guide] = "tokens"

    grid: Cells
    nominal: Grid | None = None

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        """``(b, n, c)`` on ``grid`` to ``(b, h * w, c)``; ValueError where the cells do not fit the lattice."""
        grid, cells = fit(self.grid, grid, "pool", self.nominal)
        if cells == grid:
            return x, identity(x, grid)
        index, weight = bilinear(grid, cells, x.device)
        token_map = TokenMap(index.expand(x.shape[0], -1, -1), weight.expand(x.shape[0], -1, -1), cells.length, cells)
        return to_tokens(F.adaptive_avg_pool2d(to_map(x, grid), cells)), token_map


def bilinear(grid: Grid, cells: Grid, device: torch.device) -> tuple[Tensor, Tensor]:
    """Bilinear interpolation (align_corners=False) of ``cells`` on ``grid``: index, weight ``(1, grid.length, 4)``."""
    row, row_weight = _linear(grid.h, cells.h, device)
    column, column_weight = _linear(grid.w, cells.w, device)
    index = row[:, None, :, None] * cells.w + column[None, :, None, :]
    weight = row_weight[:, None, :, None] * column_weight[None, :, None, :]
    return index.flatten(2).flatten(0, 1)[None], weight.flatten(2).flatten(0, 1)[None]


def _linear(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Along one axis: the two cells each of ``n`` positions lies between, and how near it is to either."""
    place = ((torch.arange(n, device=device) + 0.5) * m / n - 0.5).clamp(min=0)
    low = place.long()
    high = (low + 1).clamp(max=m - 1)
    far = place - low
    return torch.stack((low, high), 1), torch.stack((1 - far, far), 1)
