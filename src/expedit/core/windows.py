"""Windows: a reducer sees them as batch items, its token map speaks of the whole lattice again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .cuts import Guide, Reducer
from .tokens import Grid, TokenMap, pad_to_multiple, to_map


def partition(tokens: Tensor, grid: Grid, window: Grid) -> Tensor:
    """``(b, grid.length, c) -> (b * windows, window.length, c)``; zeros pad the right and the bottom."""
    padded = pad_to_multiple(to_map(tokens, grid), window)
    windows = padded.unfold(2, window.h, window.h).unfold(3, window.w, window.w)
    return windows.permute(0, 2, 3, 4, 5, 1).flatten(3, 4).flatten(0, 2)


def merge(windows: Tensor, grid: Grid, window: Grid) -> Tensor:
    """Inverse of ``partition``: ``(b * windows, window.length, c) -> (b, grid.length, c)``, padding cut off."""
    rows, columns = -(-grid.h // window.h), -(-grid.w // window.w)
    tokens = windows.unflatten(0, (-1, rows, columns)).unflatten(3, window)
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
        rows, columns = -(-grid.h // self.window.h), -(-grid.w // self.window.w)
        lattice = Grid(rows * local.grid.h, columns * local.grid.w)
        place = partition(torch.arange(lattice.length, device=x.device)[None, :, None], lattice, local.grid)[:, :, 0]
        place = place.repeat(x.shape[0], 1)
        index = place[:, None, :].expand(-1, local.index.shape[1], -1).gather(2, local.index)
        weight = None if local.weight is None else merge(local.weight, grid, self.window)
        return merge(small, lattice, local.grid), TokenMap(
            merge(index, grid, self.window), weight, lattice.length, lattice
        )
