"""Ward's merging in a few bipartite rounds: tokens grow into regions of like neighbours. Static shapes, no atomics.

Joining regions i and j raises the summed squared distance of tokens to the mean of their region by ::

    cost(i, j) = w_i w_j / (w_i + w_j) * (|x_i - x_j|^2 / variance + spatial * |p_i - p_j|^2)

with the means x and p of channels and places, and the number of tokens w. A region is kept as its *sum* over the
centred tokens ``[x, p, 1]``: joining adds, w is the last channel, and one product of sums makes the costs of a round.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.tokens import Grid, TokenMap
from .matching import joined, members
from .similarity import full_precision


def merged(x: Tensor, grid: Grid, keep: int, rounds: int, spatial: float) -> TokenMap:
    """Join tokens until ``keep`` regions are left, which keep the order of their first destination.

    In every round some tokens are sources and the others destinations: first the squares of one colour of the
    checkerboard, then every second region in order, of one parity and the other in turn. Each source finds its
    cheapest destination, and the sources of least cost join theirs.

    Args:
        x: ``(b, grid.length, c)`` tokens.
        grid: their lattice.
        keep: regions that are left, at least 1.
        rounds: in which as many tokens go as in any other; more where half of the tokens were not enough.
        spatial: weight of the squared distance in tokens, beside that of channels in units of their variance.

    Returns:
        The region of every token, and the number of tokens of every region as sizes.
    """
    sums, variance = _start(x, grid, spatial)
    n = grid.length
    owner = torch.arange(n, device=x.device).expand(x.shape[0], n)
    count, number = n, 0
    while count > keep:
        sources, destinations = _split(grid, count, number, x.device)
        with full_precision(x.device):
            cost, target = _cheapest(sums[:, sources], sums[:, destinations])
        even = -(-(count - keep) // max(rounds - number, 1))
        r = min(even, max(count // 2 - 1, 1))
        step = joined(1 / (1 + cost.clamp_min(0) / variance), target, r, sources, destinations, count)
        owner = step.index[:, :, 0].gather(1, owner)
        count, number = count - r, number + 1
        if count > keep:
            sums = step.total(sums)
    return TokenMap(owner[:, :, None], None, count, None, members(owner, count))


def _start(x: Tensor, grid: Grid, spatial: float) -> tuple[Tensor, Tensor]:
    """Every token ``[x, p, 1]``, centred, ``(b, n, c + 3)`` fp32, places in units of x; and the variance ``(b, 1)``."""
    x = x.detach().float()
    centred = x - x.mean(1, keepdim=True)
    variance, length = (y.square().sum(2, keepdim=True).sum(1, keepdim=True) / grid.length for y in (centred, x))
    variance = torch.maximum(variance, 1e-6 * length).clamp_min(1e-30)  # rounding in a blank image is no structure
    row = torch.arange(grid.h, device=x.device) - 0.5 * (grid.h - 1)
    column = torch.arange(grid.w, device=x.device) - 0.5 * (grid.w - 1)
    places = torch.stack(torch.meshgrid(row, column, indexing="ij"), 2).flatten(0, 1)
    places = places * (spatial * variance).sqrt()
    ones = torch.ones_like(places[:, :, :1])
    return torch.cat((centred, places, ones), 2), variance[:, :, 0]


def _split(grid: Grid, count: int, number: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Places of the sources and of the destinations among ``count`` regions in round ``number``."""
    places = torch.arange(count, device=device)
    if number:
        return places[number % 2 :: 2], places[1 - number % 2 :: 2]
    colour = (places // grid.w + places % grid.w) % 2
    order = (colour * count + places).argsort()
    return order[: (count + 1) // 2], order[(count + 1) // 2 :]


def _cheapest(sources: Tensor, destinations: Tensor) -> tuple[Tensor, Tensor]:
    """Least cost times the variance ``(b, s)`` and its destination, from sums ``(b, s, c)`` and ``(b, d, c)``."""
    (x, w), (y, v) = ((z[:, :, :-1], z[:, :, -1:]) for z in (sources, destinations))
    g, h = x.square().sum(2, keepdim=True) / w, y.square().sum(2, keepdim=True) / v
    lengths = torch.cat((g, w), 2) @ torch.cat((v, h), 2).mT
    cost, target = (torch.baddbmm(lengths, x, y.mT, alpha=-2) / (w + v.mT)).min(2)
    return cost, target
