"""Adapter for our own ViT: it is driven by the engine already, so a method is one more plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..core import Anatomy, Grid, Plan


def anatomy(vit: Any) -> Anatomy:
    """What methods may know of ``expedit.models.ViT``."""
    head_dim = vit.width // vit.heads
    return Anatomy(depth=len(vit.blocks), prefix=1, heads=vit.heads, head_dim=head_dim, grid=vit.nominal)


def install(vit: Any, plan: Plan) -> nn.Module:
    """``vit`` with ``plan`` in its place; kernels with tensors move and convert with it."""
    vit.plan = plan
    kernels = [kernel for kernel in plan.attend.values() if isinstance(kernel, nn.Module)]
    vit.kernels = nn.ModuleList(kernels).to(vit.pos_embed.device)
    return vit


def plan(vit: Any) -> Plan:
    """The cuts at work in it."""
    return vit.plan


def branches(vit: Any) -> list[nn.Module]:
    """All residual branches; the second axis of their input counts tokens."""
    return [branch for block in vit.blocks for branch in (block.attn, block.mlp)]


def owner(vit: Any, owners: Sequence[Tensor], image: Grid) -> Tensor:
    """Cluster of every token ``(h, w)`` from those of the tokens in a row, ``(1, n)``."""
    return owners[0][0].unflatten(0, (-(-image.h // vit.patch), -(-image.w // vit.patch)))
