"""What reducers that keep the lattice share."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.tokens import Grid, TokenMap


def fit(cells: tuple[int, int], grid: Grid | None, name: str, nominal: Grid | None = None) -> tuple[Grid, Grid]:
    """The token lattice and the smaller one inside it.

    An image that is smaller than the network's own along an axis (a panorama, a last window) keeps its tokens there:
    cells that fit ``nominal`` shrink to the lattice. ValueError where there is no lattice, or cells fit neither.
    """
    if grid is None:
        raise ValueError(f"{name}: expected tokens on a lattice, but an earlier reduction took them off it")
    fits = cells[0] <= grid.h and cells[1] <= grid.w
    if not fits and (nominal is None or cells[0] > nominal.h or cells[1] > nominal.w):
        raise ValueError(
            f"{name}: grid {tuple(cells)} is larger than the token map {tuple(grid)} of this image; "
            "use a smaller grid or a larger image"
        )
    return grid, Grid(min(cells[0], grid.h), min(cells[1], grid.w))


def identity(x: Tensor, grid: Grid | None) -> TokenMap:
    """The map of tokens ``(b, n, c)`` onto themselves."""
    b, n = x.shape[:2]
    return TokenMap(torch.arange(n, device=x.device).expand(b, n)[:, :, None], None, n, grid)
