"""Soft clustering of tokens on a lattice, by the inner products of tokens that can meet in a cell.

What is computed for each image (paper section 3.2, token clustering layer)::

    s[c] = average of the tokens of cell c
    repeat:
        for every token x, over the cells c around its own:
            q[x, c] = softmax of -temperature * |x - s[c]|^2
        s[c] = sum of q[x, c] * x over its tokens / sum of q[x, c]

How: a centre is a weighted mean of tokens, so its inner product with a token is the same mean of inner products of
tokens. Those are computed once; the iterations then never touch the channels again. Sums are fp32 whatever the dtype of
the tokens, and the term ``|x|^2`` is dropped: it is constant along the axis of the softmax.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.tokens import Grid, bags, to_map, to_tokens
from .similarity import closeness, inner
from .tiling import Tables, Tiling, gather_shared, tables

T = TypeVar("T", bound=float | Tensor)


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
    tiling = Tiling.of(grid, cells, neighbourhood // 2)
    direct = tiling.multiply_adds() > 2 * iterations * grid.length * cells.length
    if direct:
        tiling = tiling.whole()
    at = Tables(*tables(*tiling.h, *tiling.w, x.device))
    tiled = gather_shared(x, at.tile_tokens).flatten(0, 1)
    products = None if direct else tiling.products(tiled, at)

    def closeness_of(mean: Tensor) -> Tensor:
        close = closeness(tiled, inner(mean.mT, tiled)) if products is None else _closeness(products, mean)
        return _by_tile(close, at)

    mean = _mean(_by_chunk(at.pooled.expand(x.shape[0], -1, -1, -1), at))
    close = closeness_of(mean)
    temperature = temperature_of(close, at)
    twice = 2 * (temperature[..., None] if isinstance(temperature, Tensor) else temperature)
    for number in range(iterations):
        close = close if number == 0 else closeness_of(mean)
        share = close.mul_(twice).masked_fill_(at.forbidden, float("-inf")).softmax(3)
        mean = _mean(_by_chunk(share.masked_fill_(at.unfilled, 0.0), at))
    given = inner(_by_tile(mean, at).flatten(0, 1).mT, tiled)
    return _add_up(given.unflatten(0, (x.shape[0], -1)), at), temperature


def _closeness(products: Tensor, mean: Tensor) -> Tensor:
    """``x . s - |s|^2 / 2`` for all visitors and cells of a chunk; the sum over ``mean * x . s`` is ``|s|^2``."""
    inner_products = inner(products, mean)
    return inner_products - (mean * inner_products).sum(1, keepdim=True).mul_(0.5)


def _mean(share: Tensor) -> Tensor:
    """Shares ``(chunks, visitors, cells)`` divided by what each cell got in all."""
    return share / share.sum(1, keepdim=True).clamp_min_(1e-16)


def _by_chunk(share: Tensor, at: Tables) -> Tensor:
    """From ``(b, tiles, p, overlaps * s)`` to ``(b * chunks, overlaps * p, s)``, zero where there is no such tile."""
    rows = share.unflatten(3, (at.chunk_rows.shape[1], -1)).flatten(1, 3)
    return gather_shared(F.pad(rows, (0, 0, 0, 1)), at.chunk_rows).flatten(2, 3).flatten(0, 1)


def _by_tile(value: Tensor, at: Tables) -> Tensor:
    """From ``(b * chunks, overlaps * p, s)`` to ``(b, tiles, p, overlaps * s)``."""
    rows = value.unflatten(0, (-1, at.chunk_rows.shape[0])).flatten(1, 2)
    return gather_shared(rows, at.tile_rows).flatten(3)


def _add_up(given: Tensor, at: Tables) -> Tensor:
    """What tiles give to their cells ``(b, tiles, q, c)``, to centres ``(b, cells, c)``: bags of rows, no atomics."""
    image = torch.arange(given.shape[0], device=given.device)[:, None, None]
    rows = (at.cell_rows + image * given[0, :, :, 0].numel()).flatten(0, 1)
    counts = at.cell_counts.expand(given.shape[0], -1, -1).flatten(0, 1)
    totals: Tensor = bags(given.flatten(0, 2), rows, counts).unflatten(0, (given.shape[0], -1))
    return totals
