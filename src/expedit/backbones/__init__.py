"""One adapter per family of backbones; it knows no method and at most one third-party model library."""

from .base import Adapter
from .hosts import HOSTS
from .swin import Swin
from .vit import PlainViT

ADAPTERS: dict[str, Adapter] = {
    "expedit.models.vit.ViT": PlainViT(),
    "transformers.models.swin.modeling_swin.SwinModel": Swin(),
    "transformers.models.maskformer.modeling_maskformer_swin.MaskFormerSwinModel": Swin(),
    **HOSTS,
}
"""Adapter by the full name of the backbone's class or of one it derives from: looking for one imports no library."""

__all__ = ["ADAPTERS", "Adapter"]
