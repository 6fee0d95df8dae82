"""A quadtree on a lattice of tokens, windows of 4 x 4 and 2 x 2: which windows to split, and how leaves are read back.

Tokens beyond the last whole window of 4 x 4, at the right and at the bottom, are leaves themselves. Places count all
tokens, then the windows of 2, then those of 4. All counts are static.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core import Grid, bilinear, to_map, windows_of
from .matching import descending


def leaves(x: Tensor, grid: Grid, splits: int) -> tuple[Tensor, Tensor]:
    """Split the ``splits`` windows with the largest squared errors to their mean, a window before those inside it.

    Args:
        x: ``(b, n, c)`` tokens on ``grid``.

    Returns:
        Of every token ``(b, n)`` int64: the level of its leaf (0 a token, 1 a window of 2, 2 one of 4) and its place.
    """
    small, large = windows_of(grid, 2), windows_of(grid, 4)
    tokens = to_map(x.detach().float(), grid)[:, :, : 4 * large.h, : 4 * large.w]
    inside, error = (_errors(tokens, side) for side in (2, 4))
    error = torch.maximum(error, F.max_pool2d(inside, 2))  # true of sums of squares, but not of rounded ones
    score = torch.cat((error.flatten(1), inside.flatten(1)), 1)
    order = descending(score / score.amax(1, keepdim=True).clamp_min(1e-30))
    split = torch.zeros_like(score, dtype=torch.bool).scatter(1, order[:, :splits], True)
    of_large, of_small = split.split((large.length, small.length), 1)
    level = 2 - _spread(of_large.unflatten(1, large), 4) - _spread(of_small.unflatten(1, small), 2)
    level = F.pad(level, (0, grid.w - 4 * large.w, 0, grid.h - 4 * large.h)).flatten(1)
    row, column = (torch.arange(side, device=x.device) for side in grid)
    places = [
        row[:, None] * grid.w + column,
        row[:, None] // 2 * small.w + column // 2 + grid.length,
        row[:, None] // 4 * large.w + column // 4 + grid.length + small.length,
    ]
    return level, torch.stack(places).flatten(1)[level, torch.arange(grid.length, device=x.device)]


def _errors(tokens: Tensor, side: int) -> Tensor:
    """Squared errors of ``(b, c, side * h, side * w)`` to the mean of their window, summed: ``(b, h, w)``."""
    mean = F.avg_pool2d(tokens, side)
    apart = tokens - F.interpolate(mean, scale_factor=side, mode="nearest")
    return side**2 * F.avg_pool2d(apart.square().sum(1), side)


def _spread(cells: Tensor, side: int) -> Tensor:
    """Flags ``(b, h, w)`` as 0 or 1 at the tokens of every window, ``(b, side * h, side * w)`` int64."""
    return cells.long().repeat_interleave(side, 1).repeat_interleave(side, 2)


def interpolated(owner: Tensor, level: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """What every token reads ``(b, n, 17)``, and how much of each, where windows of a level are interpolated.

    A token in a window reads its own and the three that are nearest, bilinearly. One of those that is not a leaf is
    read at its middle: the mean of the four tokens there, or of what they are part of. The own window comes first.

    Args:
        owner, level: ``(b, n)``, the leaf of every token and its level.
    """
    tables = [_table(grid, side, owner.device) for side in (1, 2, 4)]
    places, weights = (torch.stack(parts) for parts in zip(*tables, strict=True))
    token = torch.arange(grid.length, device=owner.device)
    index = owner.gather(1, places[level, token].flatten(1)).unflatten(1, (grid.length, -1))
    return index, weights[level, token]


def _table(grid: Grid, side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens ``(n, 17)`` that a token in a window of ``side`` reads, itself first, and how much it reads of each."""
    cells = windows_of(grid, side) if side > 1 else grid
    covered = Grid(cells.h * side, cells.w * side)
    row, column = (torch.arange(length, device=device) for length in covered)
    own = (row[:, None] * grid.w + column).flatten()[:, None]
    cell = (row[:, None] // side * cells.w + column // side).flatten()[:, None]
    way = bilinear(covered, cells, own[None])
    assert way.weight is not None, "a bilinear map has weights"
    near, weight = way.index[0], way.weight[0]
    middle = (near // cells.w * grid.w + near % cells.w) * side + (side - 1) // 2 * (grid.w + 1)
    step = min(side - 1, 1)
    around = middle[:, :, None] + torch.tensor((0, step, step * grid.w, step * (grid.w + 1)), device=device)
    mine = torch.where(near == cell, weight, 0)
    others = ((weight - mine) / 4)[:, :, None].expand(-1, -1, 4)
    table = torch.cat((own, around.flatten(1)), 1), torch.cat((mine.sum(1, keepdim=True), others.flatten(1)), 1)
    edge = (0, 0, 0, grid.w - covered.w, 0, grid.h - covered.h)
    places, weights = (F.pad(part.unflatten(0, covered), edge).flatten(0, 1) for part in table)
    return places, weights
