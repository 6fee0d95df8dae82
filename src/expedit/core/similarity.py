"""Distances between tokens: soft clustering on a lattice, and the weights that read tokens off their clusters.

Everything here runs in fp32 whatever the dtype of the tokens, and drops the term ``|x|^2``: it is constant along the
axis over which softmax, top-k and the normalisations run.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .tokens import DENSE, Grid, to_map

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
    def candidates(self) -> int:
        """Cells that the tokens of one tile may use."""
        return self.chunks * self.step

    @property
    def padded(self) -> int:
        """Length of the axis with the empty cells around it that make it whole chunks."""
        return (self.tiles + self.chunks - 1) * self.step

    @property
    def inside(self) -> slice:
        """Where the cells lie on the padded axis."""
        before = 0 if self.chunks == 1 else self.step // 2
        return slice(before, before + self.cells)

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
        candidate = tile * self.step - self.inside.start + torch.arange(self.candidates, device=cell.device)
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
    x = x.detach().float()
    tiles = tuple(Axis.of(n, m, neighbourhood // 2) for n, m in zip(grid, cells, strict=True))
    tiled, in_reach = _tile_tokens(x.unflatten(1, grid), *tiles)
    owned = in_reach.any(2, keepdim=True)
    # The same memory serves every iteration: touching fresh pages takes longer than the arithmetic on them.
    padded = x.new_zeros(len(x), tiles[0].padded, tiles[1].padded, x.shape[2])
    centres = padded[:, tiles[0].inside, tiles[1].inside]
    centres.copy_(F.adaptive_avg_pool2d(to_map(x, grid), cells).permute(0, 2, 3, 1))
    near = x.new_empty(len(tiled), in_reach.shape[2], x.shape[2])
    given, total = torch.empty_like(near), torch.empty_like(padded)
    for _ in range(iterations):
        view = _candidates(padded, *tiles)
        near.view(view.shape).copy_(view)
        norms = torch.linalg.vector_norm(padded, dim=3, keepdim=True).square_().mul_(-temperature)
        bias = _candidates(norms, *tiles).reshape(len(tiled), 1, -1)
        logits = torch.baddbmm(bias, tiled, near.transpose(1, 2), alpha=2 * temperature).unflatten(0, (len(x), -1))
        share = logits.masked_fill_(~in_reach, float("-inf")).softmax(-1).masked_fill_(~owned, 0.0).flatten(0, 1)
        torch.bmm(share.transpose(1, 2), tiled, out=given)
        mass = _add_up(share.sum(1)[:, :, None], total.new_empty((*total.shape[:3], 1)), *tiles)
        centres.copy_(_add_up(given, total, *tiles).div_(mass.clamp_min_(1e-16)))
    return centres.flatten(1, 2)


def _tile_tokens(lattice: Tensor, tile_h: Axis, tile_w: Axis) -> tuple[Tensor, Tensor]:
    """``(b, H, W, c)`` tokens by tile ``(b * tiles, p, c)``, and which cells serve which: ``(tiles, p, q)`` bool."""
    rows, row_cell = tile_h.rows(lattice.device)
    columns, column_cell = tile_w.rows(lattice.device)
    tiled = lattice[:, rows[:, None, :, None], columns[None, :, None, :]].flatten(3, 4).flatten(0, 2)
    in_reach = tile_h.reach(row_cell)[:, None, :, None, :, None] & tile_w.reach(column_cell)[None, :, None, :, None, :]
    return tiled, in_reach.flatten(4, 5).flatten(2, 3).flatten(0, 1)


def _candidates(padded: Tensor, tile_h: Axis, tile_w: Axis) -> Tensor:
    """The cells each tile may use, a view: ``(b, h, w, c) -> (b, tiles_h, tiles_w, q_h, q_w, c)``."""
    near = padded.unfold(1, tile_h.candidates, tile_h.step).unfold(2, tile_w.candidates, tile_w.step)
    return near.permute(0, 1, 2, 4, 5, 3)


def _add_up(near: Tensor, total: Tensor, tile_h: Axis, tile_w: Axis) -> Tensor:
    """Adjoint of ``_candidates``: what all tiles say of a cell. Plain slices of ``total``, no atomics; rim cut off."""
    chunks = (tile_h.tiles, tile_w.tiles, tile_h.chunks, tile_h.step, tile_w.chunks, tile_w.step)
    near = near.view(len(total), *chunks, -1)
    chunked = total.zero_().unflatten(2, (-1, tile_w.step)).unflatten(1, (-1, tile_h.step))
    for i in range(tile_h.chunks):
        for j in range(tile_w.chunks):
            part = near[:, :, :, i, :, j].transpose(2, 3)
            chunked[:, i : i + tile_h.tiles, :, j : j + tile_w.tiles] += part
    return total[:, tile_h.inside, tile_w.inside]


def reading_weights(
    x: Tensor, centres: Tensor, top_k: int, temperature: float, normalize: Normalize = "l2", underflow: bool = False
) -> tuple[Tensor, Tensor]:
    """How much each token reads of each centre (paper section 3.2, token reconstruction layer).

    ``w = exp(-temperature * |x - s|^2)``; weights below the token's ``top_k``-th largest become 0; then the row is
    divided by its L2 norm (as published: weights sum to between 1 and sqrt(k)) or its sum (``"l1"``: an average).
    Equal weights at the ``top_k``-th place all stay where all centres are candidates: on maps of up to ``SMALL_MAP``
    clusters, and where ``top_k`` is a large part of them. On other maps exactly ``top_k`` stay.

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
    if m <= SMALL_MAP or DENSE * top_k >= m:
        index = torch.arange(m, device=x.device).expand_as(near)
        threshold = near.topk(top_k, dim=2).values[:, :, -1:]
    else:
        near, index = near.topk(top_k, dim=2)
        threshold = near[:, :, -1:]
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
