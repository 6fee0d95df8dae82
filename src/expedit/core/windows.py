"""Windows: a reducer sees them as batch items, its token map speaks of the whole lattice again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .cuts import Guide, Reducer
from .tokens import Grid, TokenMap


def grown(grid: Grid, window: Grid) -> Grid:
    """The smallest lattice of whole windows that holds ``grid``."""
    return Grid(grid.h + -grid.h % window.h, grid.w + -grid.w % window.w)


def partition(tokens: Tensor, grid: Grid, window: Grid) -> Tensor:
    """``(b, grid.length, c) -> (b * windows, window.length, c)``; zeros pad the right and the bottom."""
    lattice = tokens.unflatten(1, grid)
    whole = grown(grid, window)
    if whole != grid:
        lattice = F.pad(lattice, (0, 0, 0, whole.w - grid.w, 0, whole.h - grid.h))
    windows = lattice.unflatten(2, (-1, window.w)).unflatten(1, (-1, window.h))
    return windows.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def merge(windows: Tensor, grid: Grid, window: Grid) -> Tensor:
    """Inverse of ``partition``: ``(b * windows, window.length, c) -> (b, grid.length, c)``, padding cut off."""
    whole = grown(grid, window)
    tokens = windows.unflatten(0, (-1, whole.h // window.h, whole.w // window.w)).unflatten(3, window)
    lattice = tokens.transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return lattice[:, : grid.h, : grid.w].flatten(1, 2)


@dataclass(frozen=True)
class Windowed:
    """Applies a lattice-keeping reducer inside every window of the map.

    Padding zeros take part as tokens, as in the official code (spec c.2). The reduced lattice has the windows'
    reduced lattices side by side.
    """

    reducer: Reducer
    window: Grid

    @property
    def guide(self) -> Guide:
        """Windows are cut out of the tokens themselves."""
        return "tokens"

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        """Reduce ``x`` ``(b, n, c)`` on ``grid`` window by window; ValueError where a lattice is missing."""
        name = type(self.reducer).__name__
        if grid is None:
            raise ValueError(f"{name}: windows need tokens on a lattice, and these have left it")
        if self.reducer.guide != "tokens":
            raise ValueError(f"{name} looks at {self.reducer.guide!r}, which windows do not have")
        windows = partition(x, grid, self.window)
        small, local = self.reducer(windows, windows, Grid(*self.window))
        if local.grid is None:
            raise ValueError(
                f"{name} takes tokens off the lattice; windows need a method that keeps it (Expedit, Pool)"
            )
        whole = grown(grid, self.window)
        lattice = Grid(
            whole.h // self.window.h * local.grid.h,
            whole.w // self.window.w * local.grid.w,
        )
        place = partition(torch.arange(lattice.length, device=x.device)[None, :, None], lattice, local.grid)[:, :, 0]
        place = place.repeat(x.shape[0], 1)
        index = place[:, None, :].expand(-1, local.index.shape[1], -1).gather(2, local.index)
        weight = None if local.weight is None else merge(local.weight, grid, self.window)
        return merge(small, lattice, local.grid), TokenMap(
            merge(index, grid, self.window), weight, lattice.length, lattice
        )
