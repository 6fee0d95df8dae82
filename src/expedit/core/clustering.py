"""Soft clustering of tokens on a lattice, by the inner products of tokens that can meet in a cell.

A centre is a weighted mean of tokens, so its inner product with a token is the same mean of inner products of tokens.
Those are computed once; the iterations then never touch the channels again. Everything runs in fp32 whatever the dtype
of the tokens, and the term ``|x|^2`` is dropped: it is constant along the axis of the softmax.
"""

from __future__ import annotations

from itertools import pairwise, product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .similarity import full_precision
from .tokens import Grid, to_map, to_tokens


def cluster(x: Tensor, grid: Grid, cells: Grid, iterations: int, neighbourhood: int, temperature: float) -> Tensor:
    """Soft clustering of tokens into a lattice of cells (paper section 3.2, token clustering layer).

    The centres start as adaptive averages. In every iteration a token spreads over the cells of its
    ``neighbourhood x neighbourhood`` surroundings by ``softmax(-temperature * |x - s|^2)`` and every centre becomes
    the weighted mean of the tokens it got.

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
    if iterations == 0:
        return to_tokens(F.adaptive_avg_pool2d(to_map(x, grid), cells))
    with full_precision(x.device):
        tiling = Tiling.of(grid, cells, neighbourhood // 2)
        if tiling.multiply_adds() > 2 * iterations * grid.length * cells.length:
            tiling = tiling.whole()
            tiled, products = tiling.gather(x), None
        else:
            tiled = tiling.gather(x)
            products = tiling.products(tiled)
        in_reach, pooled = tiling.reach(x.device)
        owned = in_reach.any(2, keepdim=True)
        mean = _mean(tiling.by_chunk(pooled.expand(len(x), -1, -1, -1)))
        for _ in range(iterations):
            # x . s for all tokens that visit a chunk and its cells; (mean * inner).sum() is then |s|^2
            inner = tiled @ (mean.mT @ tiled).mT if products is None else torch.bmm(products, mean)
            closeness = inner - (mean * inner).sum(1, keepdim=True).mul_(0.5)
            logits = tiling.by_tile(closeness).mul_(2 * temperature).masked_fill_(~in_reach, float("-inf"))
            share = logits.softmax(3).masked_fill_(~owned, 0.0)
            mean = _mean(tiling.by_chunk(share))
        return tiling.add_up(tiling.by_tile(mean).flatten(0, 1).mT @ tiled)


def _mean(share: Tensor) -> Tensor:
    """Shares ``(chunks, visitors, cells)`` divided by what each cell got in all."""
    return share / share.sum(1, keepdim=True).clamp_min_(1e-16)


class Axis(NamedTuple):
    """How one axis is cut: into tiles of tokens, those of ``step`` cells, and into chunks of ``step`` cells.

    A token may be served by cells up to ``radius`` away. With ``step == 2 * radius`` chunks that begin ``radius``
    cells before the tiles are such that the tokens of a tile use two chunks and the cells of a chunk are visited by
    two tiles. A short axis is one tile and one chunk.
    """

    tokens: int
    cells: int
    radius: int
    step: int
    tiles: int
    overlap: int

    @staticmethod
    def of(tokens: int, cells: int, radius: int) -> Axis:
        """The cheaper of the two forms for ``cells`` cells over ``tokens`` tokens."""
        step = 2 * max(radius, 1)
        if 2 * step >= cells:
            return Axis(tokens, cells, radius, cells, 1, 1)
        return Axis(tokens, cells, radius, step, -(-cells // step), 2)

    @property
    def chunks(self) -> int:
        """Chunks of the axis; the first and the last reach beyond the cells."""
        return self.tiles + self.overlap - 1

    @property
    def inside(self) -> slice:
        """Where the cells lie among those of all chunks."""
        before = 0 if self.overlap == 1 else self.step // 2
        return slice(before, before + self.cells)

    @property
    def longest(self) -> int:
        """Tokens of the largest tile."""
        starts = [min(-(-tile * self.step * self.tokens // self.cells), self.tokens) for tile in range(self.tiles + 1)]
        return max(b - a for a, b in pairwise(starts))

    def rows(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Token positions of every tile ``(tiles, p)`` (clamped where a tile has fewer) and their cells (-1 there).

        The cell of a token is the one nearest-neighbour up-sampling of the lattice would give it (spec b.2).
        """
        tile = torch.arange(self.tiles, device=device)
        first = (tile * self.step * self.tokens + self.cells - 1) // self.cells
        position = first[:, None] + torch.arange(self.longest, device=device)
        cell = position * self.cells // self.tokens
        inside = (position < self.tokens) & (cell // self.step == tile[:, None])
        return position.clamp(max=self.tokens - 1), torch.where(inside, cell, -1)

    def candidates(self, device: torch.device) -> Tensor:
        """Cells of the chunks that each tile uses, ``(tiles, overlap * step)``; some lie outside of the axis."""
        first = torch.arange(self.tiles, device=device) * self.step - self.inside.start
        return first[:, None] + torch.arange(self.overlap * self.step, device=device)

    def reach(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Which candidate cells may serve which tokens, and which average them at first: ``(tiles, p, q)`` bool."""
        position, cell = (rows[:, :, None] for rows in self.rows(device))
        candidate = self.candidates(device)[:, None, :]
        real = (candidate >= 0) & (candidate < self.cells) & (cell >= 0)
        above = position * self.cells < (candidate + 1) * self.tokens
        below = (position + 1) * self.cells > candidate * self.tokens
        return real & ((candidate - cell).abs() <= self.radius), real & above & below


class Tiling(NamedTuple):
    """Both axes: tiles of ``p`` tokens, chunks of ``s`` cells, row-major.

    A tile uses ``overlap.h * overlap.w`` chunks; as many tiles are the visitors of a chunk. What tokens and cells say
    of one another is kept in two orders: by tile ``(b, tiles, p, overlaps * s)``, where a token's softmax runs, and by
    chunk ``(b * chunks, overlaps * p, s)``, where a cell's mean runs.
    """

    h: Axis
    w: Axis

    @staticmethod
    def of(grid: Grid, cells: Grid, radius: int) -> Tiling:
        """The tiling of a token lattice and its cells."""
        return Tiling(*(Axis.of(n, m, radius) for n, m in zip(grid, cells, strict=True)))

    def whole(self) -> Tiling:
        """All tokens in one tile."""
        return Tiling(*(axis._replace(step=axis.cells, tiles=1, overlap=1) for axis in self))

    @property
    def overlaps(self) -> list[tuple[int, int]]:
        """Positions of a tile among the visitors of a chunk, and of a chunk among those that a tile uses."""
        return list(product(range(self.h.overlap), range(self.w.overlap)))

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """How far apart, in tiles down and to the right, two visitors of a chunk can be; each pair of tiles once."""
        steps = product(range(self.h.overlap), range(1 - self.w.overlap, self.w.overlap))
        return [step for step in steps if step >= (0, 0)]

    def multiply_adds(self) -> int:
        """Of ``products``, per channel."""
        return len(self.offsets) * self.h.tiles * self.w.tiles * (self.h.longest * self.w.longest) ** 2

    def gather(self, x: Tensor) -> Tensor:
        """Tokens ``(b, n, c)`` by tile, ``(b * tiles, p, c)``; places that a tile does not fill repeat a token."""
        rows, columns = self.h.rows(x.device)[0], self.w.rows(x.device)[0]
        place = rows[:, None, :, None] * self.w.tokens + columns[None, :, None, :]
        return x[:, place.flatten()].unflatten(1, (-1, rows.shape[1] * columns.shape[1])).flatten(0, 1)

    def reach(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Which cells may serve which tokens (bool) and which average them at first (float), ``(tiles, p, q)``."""
        (reach_h, pool_h), (reach_w, pool_w) = self.h.reach(device), self.w.reach(device)
        return self._cross(reach_h, reach_w), self._cross(pool_h, pool_w).float()

    def _cross(self, down: Tensor, right: Tensor) -> Tensor:
        """What holds along both axes: ``(tiles, p, q)`` each, to the same by tile."""
        down, right = down.unflatten(2, (self.h.overlap, -1)), right.unflatten(2, (self.w.overlap, -1))
        both = down[:, None, :, None, :, None, :, None] & right[None, :, None, :, None, :, None, :]
        return both.flatten(4, 7).flatten(2, 3).flatten(0, 1)

    def products(self, tiled: Tensor) -> Tensor:
        """Inner products of all visitors of a chunk, ``(b * chunks, overlaps * p, overlaps * p)``.

        Two tiles that meet in several chunks are multiplied once.
        """
        n_h, n_w = self.h.tiles, self.w.tiles
        b, p = len(tiled) // (n_h * n_w), tiled.shape[1]
        sides = (self.h.overlap, self.w.overlap, p)
        out = tiled.new_zeros(b, self.h.chunks, self.w.chunks, *sides, *sides)
        for down, right in self.offsets:
            ahead = down * n_w + right
            near = torch.bmm(tiled[: len(tiled) - ahead], tiled[ahead:].mT)
            near = F.pad(near, (0, 0, 0, 0, 0, ahead)).view(b, n_h, n_w, p, p)
            near = near[:, : n_h - down, max(-right, 0) : n_w - max(right, 0)]
            for u, y in self.overlaps:
                v, z = u + down, y + right
                if (v, z) in self.overlaps:
                    top, left = self.h.overlap - 1 - u, self.w.overlap - 1 - y + max(-right, 0)
                    meet = out[:, top : top + near.shape[1], left : left + near.shape[2]]
                    meet[:, :, :, u, y, :, v, z] = near
                    meet[:, :, :, v, z, :, u, y] = near.mT
        return out.flatten(6, 8).flatten(3, 5).flatten(0, 2)

    def by_chunk(self, share: Tensor) -> Tensor:
        """From the order by tile to the one by chunk, zero where a chunk has no such tile."""
        (b, _, p, _), (h, w) = share.shape, self
        share = share.view(b, h.tiles, w.tiles, p, h.overlap, w.overlap, -1)
        out = share.new_zeros(b, h.chunks, w.chunks, h.overlap, w.overlap, p, share.shape[6])
        for i, j in self.overlaps:
            out[:, i : i + h.tiles, j : j + w.tiles, h.overlap - 1 - i, w.overlap - 1 - j] = share[:, :, :, :, i, j]
        return out.flatten(3, 5).flatten(0, 2)

    def by_tile(self, value: Tensor) -> Tensor:
        """From the order by chunk to the one by tile."""
        h, w = self
        value = value.view(-1, h.chunks, w.chunks, h.overlap, w.overlap, h.longest * w.longest, value.shape[2])
        seen = [
            value[:, i : i + h.tiles, j : j + w.tiles, h.overlap - 1 - i, w.overlap - 1 - j] for i, j in self.overlaps
        ]
        return torch.cat(seen, 4).flatten(1, 2)

    def add_up(self, near: Tensor) -> Tensor:
        """What all tiles give to their cells ``(b * tiles, q, c)``, to ``(b, cells, c)``; cells outside are cut off."""
        h, w = self
        near = near.view(-1, h.tiles, w.tiles, h.overlap, w.overlap, h.step, w.step, near.shape[2])
        total = near.new_zeros(len(near), h.chunks, w.chunks, *near.shape[5:])
        for i, j in self.overlaps:
            total[:, i : i + h.tiles, j : j + w.tiles] += near[:, :, :, i, j]
        return total.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, h.inside, w.inside].flatten(1, 2)
