"""Bipartite matching: which tokens join which, and the map that follows. Counts are static, ties follow the order."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.tokens import TokenMap, exporting
from .similarity import inner


def most_similar(sources: Tensor, destinations: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine to the most similar destination and its number: ``(b, s, c)``, ``(b, d, c)`` -> ``(b, s)`` twice."""
    products = inner(sources, destinations.mT)
    best, target = (products * _inverse_length(destinations)[:, None]).max(2)
    return best * _inverse_length(sources), target


def _inverse_length(x: Tensor) -> Tensor:
    """Scales products and not tokens: there are fewer of them than of values."""
    scale: Tensor = 1 / x.norm(dim=2, dtype=torch.float32).clamp(min=1e-8)
    return scale


def joined(
    score: Tensor, target: Tensor, r: int, sources: Tensor, destinations: Tensor, n: int, sized: bool = False
) -> TokenMap:
    """The map in which the ``r`` sources of the largest score join their destination; who is left keeps the order.

    Args:
        score: ``(b, s)``, as ``descending`` takes it.
        target: ``(b, s)`` int64, the destination of every source, a number below d.
        r: sources that join; several may join one destination.
        sources: ``(s,)`` or ``(b, s)`` places in the sequence.
        destinations: ``(d,)`` or ``(b, d)`` other places.
        n: length of the sequence; what is neither source nor destination stays.
        sized: see ``grouped``.
    """
    b = score.shape[0]
    sources, destinations = sources.expand(b, -1), destinations.expand(b, -1)
    goes = torch.zeros_like(target, dtype=torch.bool).scatter(1, descending(score)[:, :r], True)
    place = torch.where(goes, destinations.gather(1, target), sources)
    return grouped(torch.arange(n, device=score.device).expand(b, -1).scatter(1, sources, place), n - r, sized)


def grouped(root: Tensor, length: int, sized: bool = False) -> TokenMap:
    """The map in which every token reads the one at its root; the ``length`` tokens that are roots keep their order.

    Args:
        root: ``(b, n)`` int64, places in the sequence; a root is its own.
        length: roots of every sample.
        sized: attention shall weight a token by how many it stands for.
    """
    place = (root == torch.arange(root.shape[1], device=root.device)).cumsum(1) - 1
    index = place.gather(1, root)
    return TokenMap(index[:, :, None], None, length, None, members(index, length) if sized else None)


def members(index: Tensor, length: int) -> Tensor:
    """How many tokens read each of ``length`` reduced ones: ``(b, n)`` int64 -> ``(b, m)`` fp32. Sums of integers."""
    count = index.new_zeros(index.shape[0], length).scatter_add(1, index, torch.ones_like(index))
    return count.float()


def descending(score: Tensor) -> Tensor:
    """Places ``(b, n)`` that sort scores ``(b, n)`` in [-1, 1] in descending order, equal ones by place.

    Neither a top-k, which leaves ties to the device, nor, but on a GPU, a stable sort, which ONNX lacks: scores become
    integers, exact above 1e-7 and in steps of 1e-14 below, with the place as their last digit.
    """
    if score.is_cuda:
        return score.sort(dim=1, descending=True, stable=True).indices
    n = score.shape[1]
    if exporting() and torch.onnx.is_in_onnx_export():  # ONNX says that equal values keep their order, torch does not
        return score.topk(n, dim=1).indices
    scaled = (score.float() * 2.0 ** (61 - n.bit_length())).long()
    return (scaled * n + torch.arange(n - 1, -1, -1, device=score.device)).sort(dim=1, descending=True).indices
