"""What reducers that keep the lattice share."""

from __future__ import annotations

import torch
from torch import Tensor

from .tokens import Grid, TokenMap


def fit(cells: tuple[int, int], grid: Grid | None, name: str) -> tuple[Grid, Grid]:
    """The token lattice and the smaller one inside it; ValueError where there is none or it is too small."""
    if grid is None:
        raise ValueError(f"{name}: expected tokens on a lattice, but an earlier reduction took them off it")
    if cells[0] > grid.h or cells[1] > grid.w:
        raise ValueError(
            f"{name}: grid {tuple(cells)} is larger than the token map {tuple(grid)} of this image; "
            "use a smaller grid or a larger image"
        )
    return grid, Grid(*cells)


def identity(x: Tensor, grid: Grid | None) -> TokenMap:
    """The map of tokens ``(b, n, c)`` onto themselves."""
    b, n = x.shape[:2]
    return TokenMap(torch.arange(n, device=x.device).expand(b, n)[:, :, None], None, n, grid)
