"""Distances between tokens: soft clustering on a lattice, and the weights that read tokens off their clusters.

Everything here runs in fp32 whatever the dtype of the tokens, and drops the term ``|x|^2``: it is constant along the
axis over which softmax, top-k and the normalisations run.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .tokens import Grid, to_map, to_tokens

Normalize = Literal["l2", "l1"]

SMALL_MAP = 128
"""Up to this many clusters a map keeps all of them as candidates: a dense product is as cheap there as a sparse one."""


class Axis(NamedTuple):
    """How one axis of the lattice is cut into tiles: tokens of ``step`` cells against ``chunks * step`` cells.

    A token may be served by cells up to ``radius`` away. With ``step == 2 * radius`` the candidates of a tile are
    two neighbouring chunks of the cell axis shifted by ``radius``; a short axis is one tile and one chunk.
    """

    tokens: int
    cells: int
    radius: int
    step: int
    tiles: int
    chunks: int

    @staticmethod
    def of(tokens: int, cells: int, radius: int) -> Axis:
        """The cheaper of the two forms for ``cells`` cells over ``tokens`` tokens."""
        step = 2 * max(radius, 1)
        if 2 * step >= cells:
            return Axis(tokens, cells, radius, cells, 1, 1)
        return Axis(tokens, cells, radius, step, -(-cells // step), 2)

    @property
    def pad(self) -> tuple[int, int]:
        """Empty cells before and behind the axis that make it whole chunks."""
        before = 0 if self.chunks == 1 else self.step // 2
        return before, (self.tiles + self.chunks - 1) * self.step - before - self.cells

    def rows(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Token positions of every tile ``(tiles, p)`` (clamped where a tile has fewer) and their cells (-1 there).

        The cell of a token is the one nearest-neighbour up-sampling of the lattice would give it (spec b.2).
        """
        starts = [-(-tile * self.step * self.tokens // self.cells) for tile in range(self.tiles)]
        longest = max(b - a for a, b in zip(starts, [*starts[1:], self.tokens], strict=True))
        first = (torch.arange(self.tiles, device=device) * self.step * self.tokens + self.cells - 1) // self.cells
        position = first[:, None] + torch.arange(longest, device=device)
        cell = position * self.cells // self.tokens
        inside = (position < self.tokens) & (cell // self.step == torch.arange(self.tiles, device=device)[:, None])
        return position.clamp(max=self.tokens - 1), torch.where(inside, cell, -1)

    def reach(self, cell: Tensor) -> Tensor:
        """Which candidate cells serve which tokens, ``(tiles, p, chunks * step)`` bool, from ``rows``' cells."""
        tile = torch.arange(self.tiles, device=cell.device)[:, None, None]
        candidate = tile * self.step - self.pad[0] + torch.arange(self.chunks * self.step, device=cell.device)
        exists = (candidate >= 0) & (candidate < self.cells)
        return ((candidate - cell[:, :, None]).abs() <= self.radius) & exists & (cell >= 0)[:, :, None]


def cluster(x: Tensor, grid: Grid, cells: Grid, iterations: int, neighbourhood: int, temperature: float) -> Tensor:
    """Soft clustering of tokens into a lattice of cells (paper section 3.2, token clustering layer).

    The centres start as adaptive averages. In every iteration a token spreads over the cells of its
    ``neighbourhood x neighbourhood`` surroundings by ``softmax(-temperature * |x - s|^2)`` and every centre becomes
    the weighted mean of the tokens it got. Tokens are tiled in both directions, so that a tile is one small dense
    product against the few cells within reach: the same result as the dense form with far fewer multiply-adds.

    Args:
        x: ``(b, grid.length, c)`` tokens.
        grid: lattice of the tokens.
        cells: lattice of the clusters, at most ``grid`` along each axis.
        iterations: number of updates.
        neighbourhood: odd side of the neighbourhood, in cells.
        temperature: multiplies the squared distance; small is soft.

    Returns:
        Centres ``(b, cells.length, c)`` in fp32, row-major.
    """
    x = x.float()
    tile_h, tile_w = (Axis.of(n, m, neighbourhood // 2) for n, m in zip(grid, cells, strict=True))
    centres = to_tokens(F.adaptive_avg_pool2d(to_map(x, grid), cells))
    rows, row_cell = tile_h.rows(x.device)
    columns, column_cell = tile_w.rows(x.device)
    tiled = x.unflatten(1, grid)[:, rows[:, None, :, None], columns[None, :, None, :]].flatten(3, 4).flatten(0, 2)
    in_reach = tile_h.reach(row_cell)[:, None, :, None, :, None] & tile_w.reach(column_cell)[None, :, None, :, None, :]
    in_reach = in_reach.flatten(4, 5).flatten(2, 3).flatten(0, 1)
    owned = in_reach.any(2, keepdim=True)
    for _ in range(iterations):
        norms = centres.square().sum(2, keepdim=True).mul_(-temperature)
        near, bias = (_gather_cells(part.unflatten(1, cells), tile_h, tile_w) for part in (centres, norms))
        logits = torch.baddbmm(bias.transpose(1, 2), tiled, near.transpose(1, 2), alpha=2 * temperature)
        logits = logits.unflatten(0, (x.shape[0], -1))
        share = logits.masked_fill_(~in_reach, float("-inf")).softmax(-1).masked_fill_(~owned, 0.0).flatten(0, 1)
        mass = _scatter_cells(share.sum(1)[:, :, None], x.shape[0], tile_h, tile_w)
        total = _scatter_cells(share.transpose(1, 2) @ tiled, x.shape[0], tile_h, tile_w)
        centres = (total / mass.clamp_min(1e-16)).flatten(1, 2)
    return centres


def _gather_cells(cells: Tensor, tile_h: Axis, tile_w: Axis) -> Tensor:
    """Candidate cells of every tile: ``(b, h, w, c) -> (b * tiles, candidates, c)``."""
    padded = F.pad(cells, (0, 0, *tile_w.pad, *tile_h.pad))
    near = padded.unfold(1, tile_h.chunks * tile_h.step, tile_h.step).unfold(
        2, tile_w.chunks * tile_w.step, tile_w.step
    )
    return near.permute(0, 1, 2, 4, 5, 3).flatten(3, 4).flatten(0, 2)


def _scatter_cells(near: Tensor, b: int, tile_h: Axis, tile_w: Axis) -> Tensor:
    """Adjoint of ``_gather_cells``: add up what the tiles say of a cell, ``(b, h, w, c)``. Plain slices, no atomics."""
    near = near.reshape(
        b, tile_h.tiles, tile_w.tiles, tile_h.chunks, tile_h.step, tile_w.chunks, tile_w.step, near.shape[-1]
    )
    chunks_h, chunks_w = tile_h.tiles + tile_h.chunks - 1, tile_w.tiles + tile_w.chunks - 1
    total = near.new_zeros(b, chunks_h, tile_h.step, chunks_w, tile_w.step, near.shape[-1])
    for i in range(tile_h.chunks):
        for j in range(tile_w.chunks):
            part = near[:, :, :, i, :, j].transpose(2, 3)
            total[:, i : i + tile_h.tiles, :, j : j + tile_w.tiles] += part
    (top, bottom), (left, right) = tile_h.pad, tile_w.pad
    total = total.flatten(3, 4).flatten(1, 2)
    return total[:, top : total.shape[1] - bottom, left : total.shape[2] - right]


def reading_weights(
    x: Tensor, centres: Tensor, top_k: int, temperature: float, normalize: Normalize = "l2", underflow: bool = False
) -> tuple[Tensor, Tensor]:
    """How much each token reads of each centre (paper section 3.2, token reconstruction layer).

    ``w = exp(-temperature * |x - s|^2)``; weights below the token's ``top_k``-th largest become 0 (ties at that place
    stay, up to ``top_k`` of them on maps of more than ``SMALL_MAP`` clusters); then the row is divided by its L2 norm
    (as published: weights sum to between 1 and sqrt(k)) or its sum (``"l1"``: an average).

    Args:
        x: ``(b, n, c)`` tokens.
        centres: ``(b, m, c)``.
        top_k: how many centres a token reads, at most m; -1 reads all.
        temperature: multiplies the squared distance.
        normalize: ``"l2"`` or ``"l1"``.
        underflow: evaluate the exponential as the official code does, without subtracting the row's maximum: tokens
            far from every centre then shrink to zero (spec c, "underflow").

    Returns:
        index ``(b, n, k)`` int64 and weight ``(b, n, k)`` fp32, k static: from shapes and settings.
    """
    m = centres.shape[1]
    top_k = m if top_k < 0 else top_k
    near = closeness(x, centres)
    if m <= SMALL_MAP or 2 * top_k >= m:
        index = torch.arange(m, device=x.device).expand_as(near)
        threshold = near.topk(top_k, dim=2).values[:, :, -1:]
    else:
        near, index = near.topk(2 * top_k, dim=2)
        threshold = near[:, :, top_k - 1 : top_k]
    shift = 0.5 * x.float().square().sum(2, keepdim=True) if underflow else near.amax(2, keepdim=True)
    weight = torch.where(near >= threshold, (2 * temperature * (near - shift)).exp(), 0.0)
    return index, F.normalize(weight, p=2.0 if normalize == "l2" else 1.0, dim=2, eps=1e-12)


def nearest(x: Tensor, centres: Tensor) -> Tensor:
    """The centre nearest to each token: ``(b, n, c)``, ``(b, m, c)`` -> index ``(b, n, 1)`` int64."""
    return closeness(x, centres).argmax(2, keepdim=True)


def closeness(x: Tensor, centres: Tensor) -> Tensor:
    """``x . s - |s|^2 / 2``, that is ``(|x|^2 - |x - s|^2) / 2``: ``(b, n, c)``, ``(b, m, c)`` -> ``(b, n, m)`` fp32.

    Unscaled on purpose: equal centres get equal values, so ties stay ties.
    """
    centres = centres.float()
    bias = centres.square().sum(2).mul_(-0.5)[:, None, :]
    return torch.baddbmm(bias, x.float(), centres.transpose(1, 2))
