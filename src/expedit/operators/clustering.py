"""Soft clustering of tokens on a lattice, in the form that takes the fewest multiply-adds.

What is computed for each image (paper section 3.2, token clustering layer)::

    s[c] = average of the tokens of cell c
    repeat:
        for every token x, over the cells c around its own:
            q[x, c] = softmax of -temperature * |x - s[c]|^2
        s[c] = sum of q[x, c] * x over its tokens / sum of q[x, c]

How: ``Centres`` compares the tokens of a tile with the cells near it in every iteration. ``Products`` does without: a
centre is a weighted mean of tokens, so its inner product with a token is the same mean of inner products of tokens that
can meet in a cell. Those are computed once; the iterations then never touch the channels again, which pays where there
are many. Sums are fp32 whatever the dtype of the tokens, and the term ``|x|^2`` is dropped: it is constant along the
axis of the softmax.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.tokens import Grid, bags, to_map, to_tokens
from .similarity import closeness, inner, lowered
from .tiling import Tables, Tiling, gather_shared, tables

T = TypeVar("T", bound=float | Tensor)

NARROW = 1.5
"""What a multiply-add of shares and products of tokens costs, beside one of tokens and centres.

From where both forms take the same time. Time of ``Centres`` over that of ``Products``, fp32, one AVX2 core: 32 x 32
tokens in 20 x 20 cells 0.5 at 128 channels, 0.8 at 256; 37 x 37 in 26 x 26 0.7 at 128, 1.5 at 384; 40 x 40 in 28 x 28
0.8 at 128, 1.3 at 256, 3.0 at 1,024; 30 x 30 in 15 x 15 0.7 at 384, 1.3 at 1,024. Not measured on a GPU.
"""

ALIGNED = 8
"""Channels of ones: one would do, but products of rows that begin off multiples of 8 take up to 1.4 times as long."""


def cluster(
    x: Tensor, grid: Grid, cells: Grid, iterations: int, neighbourhood: int, temperature: float | Tensor
) -> Tensor:
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
        temperature: multiplies the squared distance; small is soft. One for all images, or ``(b, 1, 1)``.

    Returns:
        Centres ``(b, cells.length, c)`` in fp32, row-major.
    """
    if iterations == 0:
        return to_tokens(F.adaptive_avg_pool2d(to_map(x.detach().float(), grid), cells))
    return _cluster(x.detach(), grid, cells, iterations, neighbourhood, lambda close, at: temperature)[0]


def cluster_to_scale(
    x: Tensor, grid: Grid, cells: Grid, iterations: int, neighbourhood: int, sharpness: float
) -> tuple[Tensor, Tensor]:
    """``cluster`` at a temperature relative to the tokens of each image.

    Args:
        x, grid, cells, iterations, neighbourhood: as in ``cluster``.
        sharpness: multiplies squared distances in units of the mean squared distance of a token to the average of the
            cell it lies in.

    Returns:
        Centres ``(b, cells.length, c)`` and the temperature ``(b, 1, 1)``, fp32. That mean distance counts as at least
        what fp32 can resolve, so that blank images have a temperature, too.
    """
    # one axis after the other: other runtimes add a million terms one by one, and lose four digits of fp32
    length = torch.linalg.vector_norm(x.detach(), dim=2, dtype=torch.float32).square().sum(1) / grid.length

    def temperature(close: Tensor, at: Tables) -> Tensor:
        distance = length - 2 * close.masked_fill(at.elsewhere, 0).sum(3).sum((1, 2)) / grid.length
        return sharpness / torch.maximum(distance, 1e-6 * length).clamp_min(1e-30)[:, None, None]

    return _cluster(x.detach(), grid, cells, iterations, neighbourhood, temperature)


def _cluster(
    x: Tensor,
    grid: Grid,
    cells: Grid,
    iterations: int,
    neighbourhood: int,
    temperature_of: Callable[[Tensor, Tables], T],
) -> tuple[Tensor, T]:
    """Centres and temperature; the latter may depend on how close tokens are to the first centres, by tile."""
    tiling, kind = form(Tiling.of(grid, cells, neighbourhood // 2), x.shape[2], iterations)
    at = Tables(*tables(*tiling.h, *tiling.w, x.device))
    tokens = kind(x, tiling, at)
    mean = tokens.mean(at.pooled.expand(x.shape[0], -1, -1, -1))
    close = tokens.closeness(mean)
    temperature = temperature_of(close, at)
    twice = 2 * (temperature[..., None] if isinstance(temperature, Tensor) else close.new_full((), temperature))
    for number in range(iterations):
        close = close if number == 0 else tokens.closeness(mean)
        mean = tokens.mean(torch.addcmul(at.bias, close, twice).softmax(3))
    return tokens.centres(mean), temperature


def form(tiling: Tiling, channels: int, iterations: int) -> tuple[Tiling, type[Products] | type[Centres]]:
    """The cheapest way to cluster tokens of so many channels, by its multiply-adds."""
    whole = tiling.whole()
    costs = (
        channels * tiling.multiply_adds() + iterations * NARROW * tiling.averages(),
        2 * iterations * channels * tiling.comparisons(),
        2 * iterations * channels * whole.comparisons(),
    )
    return ((tiling, Products), (tiling, Centres), (whole, Centres))[costs.index(min(costs))]


class Products:
    """Means as shares of the tokens, by chunk ``(b * chunks, overlaps * p, s)``: products of tokens say all of them."""

    def __init__(self, x: Tensor, tiling: Tiling, at: Tables) -> None:
        self.at = at
        self.tiled = gather_shared(x, at.tile_tokens).flatten(0, 1)
        self.products = tiling.products(self.tiled, at)

    def mean(self, share: Tensor) -> Tensor:
        """What tokens give to cells, by tile ``(b, tiles, p, overlaps * s)``, divided by what each cell got in all."""
        rows = share.unflatten(3, (self.at.chunk_rows.shape[1], -1)).flatten(1, 3)
        given = gather_shared(F.pad(rows, (0, 0, 0, 1)), self.at.chunk_rows).flatten(2, 3).flatten(0, 1)
        return given / given.sum(1, keepdim=True).clamp_min_(1e-16)

    def closeness(self, mean: Tensor) -> Tensor:
        """``x . s - |s|^2 / 2`` by tile; the sum over ``mean * x . s`` is ``|s|^2``."""
        close = inner(self.products, mean)
        return self._by_tile(close.sub_((mean * close).sum(1, keepdim=True), alpha=0.5))

    def centres(self, mean: Tensor) -> Tensor:
        """``(b, cells, c)``."""
        given = inner(self._by_tile(mean).flatten(0, 1).mT, self.tiled)
        return Sums(mean.shape[0] // self.at.chunk_rows.shape[0], self.at)(given)

    def _by_tile(self, value: Tensor) -> Tensor:
        """From ``(b * chunks, overlaps * p, s)`` to ``(b, tiles, p, overlaps * s)``."""
        rows = value.unflatten(0, (-1, self.at.chunk_rows.shape[0])).flatten(1, 2)
        return gather_shared(rows, self.at.tile_rows).flatten(3)


class Centres:
    """Means as centres ``(b, cells, c)``: the tokens of a tile are compared with the cells that may be near them."""

    def __init__(self, x: Tensor, tiling: Tiling, at: Tables) -> None:
        self.at, self.channels = at, x.shape[2]
        wide = F.pad(x if x.is_cuda else x.float(), (0, ALIGNED), value=1.0)
        self.tiled = gather_shared(wide, at.tile_tokens).masked_fill_(at.unfilled, 0.0).flatten(0, 1)
        self.sums = Sums(x.shape[0], at)

    def mean(self, share: Tensor) -> Tensor:
        """As of ``Products``; the channel of ones adds up what each cell got."""
        total = self.sums(inner(share.flatten(0, 1).mT, self.tiled))
        return total[:, :, : self.channels] / total[:, :, self.channels :][:, :, :1].clamp_min(1e-16)

    def closeness(self, mean: Tensor) -> Tensor:
        """As of ``Products``."""
        near, shift = (gather_shared(part, self.at.tile_cells).flatten(0, 1) for part in (mean, lowered(mean)))
        close: Tensor = closeness(self.tiled[:, :, : self.channels], near, shift).unflatten(0, (mean.shape[0], -1))
        return close

    def centres(self, mean: Tensor) -> Tensor:
        """``(b, cells, c)``."""
        return mean


class Sums:
    """Adds up what tiles give to their cells: bags of rows, no atomics."""

    def __init__(self, b: int, at: Tables) -> None:
        self.images = b
        first = torch.arange(b, device=at.cell_rows.device)[:, None, None] * at.tile_cells.numel()
        self.rows = (at.cell_rows + first).flatten(0, 1)
        self.counts = at.cell_counts.expand(b, -1, -1).flatten(0, 1)

    def __call__(self, given: Tensor) -> Tensor:
        """``(b * tiles, q, c)`` to ``(b, cells, c)``."""
        total: Tensor = bags(given.flatten(0, 1), self.rows, self.counts).unflatten(0, (self.images, -1))
        return total
