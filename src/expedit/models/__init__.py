"""Networks with official key names, what they need beside their weights, and how their outputs are read."""

from .segmenter import Segmenter
from .vit import ViT

__all__ = ["Segmenter", "ViT"]
