"""Networks with official key names, the zoo, and the conversion of official checkpoints."""

from .segmenter import Segmenter
from .vit import ViT

__all__ = ["Segmenter", "ViT"]
