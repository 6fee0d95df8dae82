"""What reducers that keep the lattice share."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.checks import pair
from ..core.tokens import Grid, TokenMap

Cells = tuple[int, int] | float
"""A smaller lattice: rows and columns, or a share of each side of the lattice at hand."""


def checked(cells: Cells) -> Cells:
    """``cells`` as a tuple or a float; ValueError says what is accepted."""
    if isinstance(cells, (tuple, list)):
        return pair("grid", cells)
    if isinstance(cells, bool) or not isinstance(cells, (int, float)) or not 0 < cells <= 1:
        raise ValueError(
            f"grid: expected two integers (rows, columns) or a share of each side in (0, 1], got {cells!r}"
        )
    return float(cells)


def cells_of(cells: Cells, grid: Grid) -> Grid:
    """``cells`` on ``grid`` as rows and columns."""
    if isinstance(cells, float):
        return Grid(max(round(cells * grid.h), 1), max(round(cells * grid.w), 1))
    return Grid(*cells)


def fit(cells: Cells, grid: Grid | None, name: str, nominal: Grid | None = None) -> tuple[Grid, Grid]:
    """The token lattice and the smaller one inside it.

    An image that is smaller than the network's own along an axis (a panorama, a last window) keeps its tokens there:
    cells that fit ``nominal`` shrink to the lattice. ValueError where there is no lattice, or cells fit neither.
    """
    if grid is None:
        raise ValueError(f"{name}: expected tokens on a lattice, but an earlier reduction took them off it")
    small = cells_of(cells, grid)
    fits = small.h <= grid.h and small.w <= grid.w
    if not fits and (nominal is None or small.h > nominal.h or small.w > nominal.w):
        raise ValueError(
            f"{name}: grid {tuple(small)} is larger than the token map {tuple(grid)} of this image; "
            "use a smaller grid or a larger image"
        )
    return grid, Grid(min(small.h, grid.h), min(small.w, grid.w))


def identity(x: Tensor, grid: Grid | None) -> TokenMap:
    """The map of tokens ``(b, n, c)`` onto themselves."""
    b, n = x.shape[:2]
    return TokenMap(torch.arange(n, device=x.device).expand(b, n)[:, :, None], None, n, grid)
