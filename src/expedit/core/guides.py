"""What an attention step can show a reducer that cuts in right behind it."""

from __future__ import annotations

import torch
from torch import Tensor

from .cuts import Guide


def show(guide: Guide | None, q: Tensor, k: Tensor, prefix: int) -> Tensor | None:
    """Compute ``guide`` from queries and keys ``(b, heads, p + n, head_dim)``, ``q`` not scaled yet.

    Returns:
        ``"keys"``: keys averaged over the heads, ``(b, n, head_dim)``. ``"cls_attention"``: attention probability from
        token 0 to each reducible token, averaged over the heads, ``(b, n)``; one row of the attention matrix, never
        the whole. Otherwise ``None``.
    """
    if guide == "keys":
        return k[:, :, prefix:].mean(1)
    if guide == "cls_attention":
        row = torch.matmul(q[:, :, :1] * q.shape[-1] ** -0.5, k.transpose(2, 3))
        return row.float().softmax(3)[:, :, 0, prefix:].mean(1)
    return None
