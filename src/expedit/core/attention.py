"""The attention kernel of every network, and what an attention step can show a reducer that cuts in right after it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .cuts import Guide

ALIGNED = 16
"""Entries of a bias between whose multiples its rows begin.

Otherwise kernels of GPUs copy all of them for every head. 8 x 16 heads of 913 tokens in bf16 on an H100 take 0.15 ms,
not aligned 0.27, without a bias 0.09. One more channel of queries and keys, in place of the bias, would take 0.13, and
0.28 with the copies that add it.
"""


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Softmax attention, all ``(b, heads, tokens, head_dim)``; ``bias`` is added to the scaled logits."""
    if bias is not None:
        n = bias.shape[-1]
        bias = F.pad(bias.to(q.dtype), (0, -n % ALIGNED))[..., :n]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


class GroupedQueries(nn.Module, ABC):
    """An attention kernel whose queries share rows of attention in groups."""

    @abstractmethod
    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the kernel returns, and the group of every query, ``(b * heads, tokens)`` int64."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """``(b, heads, tokens, head_dim)`` each."""
        return self.attend(q, k, v, bias)[0]


def show(guide: Guide | None, q: Tensor, k: Tensor, v: Tensor, prefix: int, lead: int = 0) -> Tensor | None:
    """Compute ``guide`` from queries, keys and values ``(b, heads, p + n, head_dim)``, ``q`` not scaled yet.

    Returns:
        ``"keys"``: keys averaged over the heads, ``(b, n, head_dim)``. ``"cls_attention"``: attention probability from
        the class token, which stands at ``lead``, to each reducible token, averaged over the heads, ``(b, n)``; one
        row of the attention matrix, never the whole. ``"significance"``: that row of every head times the lengths of
        the values, with sum 1, averaged over the heads, ``(b, n)``. Otherwise ``None``.
    """
    if guide == "keys":
        return k[:, :, prefix:].mean(1)
    if guide in ("cls_attention", "significance"):
        logits = torch.matmul(q[:, :, lead : lead + 1] * q.shape[-1] ** -0.5, k.transpose(2, 3))
        row = logits.float().softmax(3)[:, :, 0, prefix:]
        if guide == "significance":
            row = row * v[:, :, prefix:].float().norm(dim=3)
            row = row / row.sum(2, keepdim=True).clamp_min(1e-30)
        return row.mean(1)
    return None
