"""Distances between tokens and centres: the weights that read tokens off their clusters.

The term ``|x|^2`` is dropped: it is constant along the axis over which softmax, top-k and the normalisations run.
Sums are fp32 whatever the dtype of the tokens, and products of half-precision tokens are exact.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.tokens import DENSE

Normalize = Literal["l2", "l1"]

SMALL_MAP = 64
"""Up to this many clusters all of them are candidates, so that equal weights at the last place all stay, as published.

That is the map of every published window (8 x 8). Beyond, it would cost: with all candidates weights and read-back of
window tokens take the same time at 64 clusters, 1.2 to 1.3 times as long at 100 to 128 (fp32, AVX2, top 20).
"""


def reading_weights(
    x: Tensor,
    centres: Tensor,
    top_k: int,
    temperature: float | Tensor,
    normalize: Normalize = "l2",
    official: bool = False,
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
        temperature: multiplies the squared distance. One for all images, or ``(b, 1, 1)``.
        normalize: ``"l2"`` or ``"l1"``.
        official: evaluate the exponential as the official code does, without subtracting the row's maximum, so that
            the norm of a row is at least 1e-12: a token with ``temperature * |x - s|^2 > 27.6`` for the nearest centre
            shrinks, and above 103 it is zero.

    Returns:
        index ``(b, n, k)`` int64 and weight ``(b, n, k)`` fp32, k static: from shapes and settings.
    """
    m = centres.shape[1]
    top_k = m if top_k < 0 else top_k
    near = closeness(x, centres)
    if m <= SMALL_MAP or DENSE * top_k >= m:
        index = torch.arange(m, device=x.device).expand_as(near)
        if top_k < m:
            near.masked_fill_(near < near.topk(top_k, dim=2).values[:, :, -1:], float("-inf"))
    else:
        near, index = near.topk(top_k, dim=2)
    shift = 0.5 * x.float().square().sum(2, keepdim=True) if official else near.amax(2, keepdim=True)
    weight = (2 * temperature * (near - shift)).exp()
    return index, F.normalize(weight, p=2.0 if normalize == "l2" else 1.0, dim=2, eps=1e-12)


def nearest(x: Tensor, centres: Tensor) -> Tensor:
    """The centre nearest to each token: ``(b, n, c)``, ``(b, m, c)`` -> index ``(b, n, 1)`` int64."""
    return closeness(x, centres).argmax(2, keepdim=True)


def lowered(centres: Tensor) -> Tensor:
    """``-|s|^2 / 2``: ``(b, m, c)`` -> ``(b, m, 1)`` fp32."""
    return centres.float().square().sum(2, keepdim=True).mul_(-0.5)


def closeness(x: Tensor, centres: Tensor, shift: Tensor | None = None) -> Tensor:
    """``x . s - |s|^2 / 2``, that is ``(|x|^2 - |x - s|^2) / 2``: ``(b, n, c)``, ``(b, m, c)`` -> ``(b, n, m)`` fp32.

    Unscaled on purpose: equal centres get equal values, so ties stay ties. ``shift`` is ``lowered(centres)`` where
    that is known already.
    """
    shift = (lowered(centres) if shift is None else shift).mT
    if x.is_cuda:
        return inner(x, centres.mT).add_(shift)
    with full_precision(x.device):
        return torch.baddbmm(shift, x.float(), centres.float().mT)


def inner(x: Tensor, y: Tensor) -> Tensor:
    """``(b, n, c)`` and ``(b, c, m)`` multiplied with fp32 sums: ``(b, n, m)`` fp32.

    On a GPU half-precision operands are multiplied as they are, an fp32 operand beside one of these as the sum of two
    numbers of its dtype, which keeps twice as many digits.
    """
    if not x.is_cuda or x.dtype == y.dtype == torch.float32:
        with full_precision(x.device):
            return torch.bmm(x.float(), y.float())
    if x.dtype == y.dtype:
        return torch.bmm(x, y, out_dtype=torch.float32)
    if y.dtype == torch.float32:
        high = y.to(x.dtype)
        return inner(x, high).add_(inner(x, (y - high).to(x.dtype)))
    return inner(y.mT, x.mT).mT


def cosines(x: Tensor) -> Tensor:
    """Cosine of every two tokens, ``(b, n, c) -> (b, n, n)`` fp32, the same both ways."""
    unit = F.normalize(x.float(), dim=2)
    with full_precision(x.device):
        products = torch.bmm(unit, unit.mT)
    return (products + products.mT) / 2


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Inside, ``torch.autocast`` does not lower fp32 products on ``device``."""
    if device.type != "meta" and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
