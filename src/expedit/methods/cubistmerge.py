"""CubistMerge: merge neighbours within every row, then within every column, so that the lattice stays one.

Gong and Lis, "CubistMerge: Spatial-Preserving Token Merging For Diverse ViT Backbones", arXiv 2509.21764: every row
merges as many pairs as the others, then every column; of the values of a group the one of largest magnitude stays,
channel by channel. Windows, relative positions and rotary ones go on with the smaller lattice.

Cost for n tokens of width c: 2 · n · c for the cosines of neighbours, which are no matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core import LOGITS, Anatomy, Cut, Grid, Guide, Method, Span, TokenMap, attn
from ..core.checks import integer
from ..core.tokens import gather_tokens
from ..operators.lattice import Cells, checked, fit, identity
from ..operators.matching import descending


@dataclass(frozen=True, repr=False)
class CubistMerge(Method):
    """Lattice-preserving merging after ``alpha`` blocks; all tokens copy their group at the end.

    Attributes:
        alpha: blocks that run at full resolution (Swin: counted over all stages).
        grid: h x w, the lattice that is left, or its share of each side. At least half of each side is left,
            because a token only merges with its neighbours. Swin: per window.

    Example:
        >>> import expedit
        >>> expedit.CubistMerge(alpha=2, grid=0.8)
        cubistmerge(alpha=2, grid=0.8)
    """

    headline: ClassVar[tuple[str, ...]] = ("alpha", "grid")

    alpha: int = 2
    grid: Cells = 0.8

    def __post_init__(self) -> None:
        integer("alpha", self.alpha, 0)
        object.__setattr__(self, "grid", checked(self.grid))
        if isinstance(self.grid, float) and self.grid < 0.5:
            raise ValueError(f"grid: expected at least half of each side, got {self.grid}")

    def cuts(self, net: Anatomy) -> Sequence[Cut]:
        """One span from before block α to the logits."""
        integer("alpha", self.alpha, 0, net.depth - 1)
        return [Span(RowsThenColumns(self.grid, net.grid), attn(self.alpha), LOGITS)]


@dataclass(frozen=True)
class RowsThenColumns:
    """Reducer: tokens on a lattice to a smaller one.

    Attributes:
        grid: the smaller lattice.
        nominal: as in Expedit's reducer.
    """

    guide: ClassVar[Guide] = "tokens"

    grid: Cells
    nominal: Grid | None = None

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        """``(b, n, c)`` on ``grid`` to ``(b, h * w, c)``, at least half of each side."""
        grid, cells = fit(self.grid, grid, "cubistmerge", self.nominal)
        cells = Grid(*(max(small, -(-side // 2)) for small, side in zip(cells, grid, strict=True)))
        if cells == grid:
            return x, identity(x, grid)
        b = x.shape[0]
        rows, column = merged_lines(x.unflatten(1, grid).flatten(0, 1), cells.w)
        lattice = rows.unflatten(0, (b, grid.h)).transpose(1, 2)
        columns, row = merged_lines(lattice.flatten(0, 1), cells.h)
        small = columns.unflatten(0, (b, cells.w)).transpose(1, 2).flatten(1, 2)
        column = column.unflatten(0, (b, grid.h))
        row = row.unflatten(0, (b, cells.w)).transpose(1, 2).gather(2, column)
        return small, TokenMap((row * cells.w + column).flatten(1)[:, :, None], None, cells.length, cells)


def merged_lines(x: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Merge neighbours in lines of tokens ``(lines, n, c)`` until ``length`` are left in each.

    Every second token may join the more similar of its two neighbours; of those of a line the most similar pairs do.

    Returns:
        Lines ``(lines, length, c)`` and the place there of every token, ``(lines, n)`` int64.
    """
    n = x.shape[1]
    unit = F.normalize(x.float(), dim=2)
    alike = (unit[:, 1:] * unit[:, :-1]).sum(2)  # of token i and i + 1
    before, after = alike[:, ::2], F.pad(alike[:, 1::2], (0, n // 2 - alike[:, 1::2].shape[1]), value=-2.0)
    score = torch.maximum(before, after).clamp(-1, 1)
    goes = torch.zeros_like(score, dtype=torch.bool).scatter(1, descending(score)[:, : n - length], True)
    back = _spread(goes & (before >= after), n)
    ahead = _spread(goes & (before < after), n)
    stays = ~(back | ahead)
    place = stays.cumsum(1) - 1 + ahead.long()
    value = strongest(x, torch.where(F.pad(back[:, 1:], (0, 1))[:, :, None], F.pad(x[:, 1:], (0, 0, 0, 1)), 0))
    value = strongest(value, torch.where(F.pad(ahead[:, :-1], (1, 0))[:, :, None], F.pad(x[:, :-1], (0, 0, 1, 0)), 0))
    kept = torch.argsort(torch.arange(n, device=x.device) + n * ~stays, dim=1)[:, :length]
    return gather_tokens(value, kept), place


def _spread(of_second: Tensor, n: int) -> Tensor:
    """Flags of every second token ``(lines, n // 2)`` at their places among all ``(lines, n)``."""
    pairs = torch.stack((torch.zeros_like(of_second), of_second), 2).flatten(1)
    return F.pad(pairs, (0, n - pairs.shape[1]))


def strongest(x: Tensor, y: Tensor) -> Tensor:
    """Of two values the one of larger magnitude."""
    return torch.where(y.abs() > x.abs(), y, x)
