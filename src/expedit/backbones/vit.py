"""Adapter for our own ViT: it is driven by the engine already, so a method is one more plan."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..core import Anatomy, Grid, Plan
from .base import WholeMaps


class PlainViT(WholeMaps):
    """``expedit.models.ViT``."""

    guides = Anatomy.guides

    def check(self, plan: Plan, lattice: Grid) -> None:
        """See ``Adapter``; every plan runs."""

    def anatomy(self, backbone: Any) -> Anatomy:
        """See ``Adapter``."""
        head_dim = backbone.width // backbone.heads
        return Anatomy(len(backbone.blocks), prefix=1, heads=backbone.heads, head_dim=head_dim, grid=backbone.nominal)

    def install(self, model: nn.Module, path: str, plan: Plan) -> None:
        """See ``Adapter``."""
        self.exchange(model.get_submodule(path), plan)

    def branches(self, backbone: Any) -> list[nn.Module]:
        """Attention and MLP of every block."""
        return [branch for block in backbone.blocks for branch in (block.attn, block.mlp)]

    def seat(self, backbone: Any) -> Any:
        """The network itself."""
        return backbone

    def lattice(self, backbone: Any, image: Grid) -> Grid:
        """Whole patches, the last ones padded."""
        return Grid(-(-image.h // backbone.patch), -(-image.w // backbone.patch))
