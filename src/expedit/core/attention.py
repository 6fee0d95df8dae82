"""The attention kernel of every network, and what an attention step can show a reducer that cuts in right after it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .cuts import Guide


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Softmax attention, all ``(b, heads, tokens, head_dim)``; ``bias`` is added to the scaled logits.

    On accelerators a bias ``(b, 1, 1, tokens)`` of the keys alone is folded into them: no other keeps the fast kernels.
    """
    if bias is not None and bias.shape[1:3] == (1, 1) and q.device.type not in ("cpu", "meta"):
        return folded(q, k, v, bias)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=None if bias is None else bias.to(q.dtype))


def folded(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """``attention`` with the bias ``(b, 1, 1, tokens)`` of keys as one more channel of theirs, which queries read as 1.

    Channels are padded to the next multiple of 8, as kernels want them.
    """
    width = q.shape[3]
    scale, spare = width**-0.5, 8 - width % 8
    ones = F.pad(q.new_ones(1, 1, 1, 1), (0, spare - 1)).expand(*q.shape[:3], spare)
    more = F.pad((bias / scale).mT.to(k.dtype), (0, spare - 1)).expand(*k.shape[:3], spare)
    q, k, v = torch.cat((q, ones), 3), torch.cat((k, more), 3), F.pad(v, (0, spare))
    return F.scaled_dot_product_attention(q, k, v, scale=scale)[..., :width]


class GroupedQueries(nn.Module, ABC):
    """An attention kernel whose queries share rows of attention in groups."""

    @abstractmethod
    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the kernel returns, and the group of every query, ``(b * heads, tokens)`` int64."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """``(b, heads, tokens, head_dim)`` each."""
        return self.attend(q, k, v, bias)[0]


def show(guide: Guide | None, q: Tensor, k: Tensor, prefix: int, lead: int = 0) -> Tensor | None:
    """Compute ``guide`` from queries and keys ``(b, heads, p + n, head_dim)``, ``q`` not scaled yet.

    Returns:
        ``"keys"``: keys averaged over the heads, ``(b, n, head_dim)``. ``"cls_attention"``: attention probability from
        the class token, which stands at ``lead``, to each reducible token, averaged over the heads, ``(b, n)``; one
        row of the attention matrix, never the whole. Otherwise ``None``.
    """
    if guide == "keys":
        return k[:, :, prefix:].mean(1)
    if guide == "cls_attention":
        row = torch.matmul(q[:, :, lead : lead + 1] * q.shape[-1] ** -0.5, k.transpose(2, 3))
        return row.float().softmax(3)[:, :, 0, prefix:].mean(1)
    return None
