"""Windows of a token lattice as batch items, and back."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ..core.tokens import Grid


def padded_grid(grid: Grid, window: Grid) -> Grid:
    """The smallest lattice of whole windows that holds ``grid``."""
    return Grid(grid.h + -grid.h % window.h, grid.w + -grid.w % window.w)


def partition(tokens: Tensor, grid: Grid, window: Grid) -> Tensor:
    """``(b, grid.length, c) -> (b * windows, window.length, c)``; zeros pad the right and the bottom."""
    lattice = tokens.unflatten(1, grid)
    whole = padded_grid(grid, window)
    if whole != grid:
        lattice = F.pad(lattice, (0, 0, 0, whole.w - grid.w, 0, whole.h - grid.h))
    windows = lattice.unflatten(2, (-1, window.w)).unflatten(1, (-1, window.h))
    cut: Tensor = windows.transpose(2, 3).flatten(3, 4).flatten(0, 2)
    return cut


def merge(windows: Tensor, grid: Grid, window: Grid) -> Tensor:
    """Inverse of ``partition``: ``(b * windows, window.length, c) -> (b, grid.length, c)``, padding cut off."""
    whole = padded_grid(grid, window)
    tokens = windows.unflatten(0, (-1, whole.h // window.h, whole.w // window.w)).unflatten(3, window)
    lattice: Tensor = tokens.transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return lattice[:, : grid.h, : grid.w].flatten(1, 2)
