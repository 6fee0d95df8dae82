"""A dense model of transformers as it is: its network, its processor, and its card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, nn

from .card import Card
from .families import Family

Inputs = dict[str, Any]
"""What a processor of transformers returns: ``pixel_values`` ``(1, 3, h, w)``, and what else goes with them."""

SQUARE = 1024
"""Side of the picture whose preparation shows at what size a network is measured."""


class Pretrained(nn.Module):
    """A network of transformers with the library's processor: what transformers gives, only faster.

    Args:
        network: as the library built it.
        processor: prepares an image; called with ``images`` and ``return_tensors``.
        family: how the network is run and read.
        card: classes, task, and the statistics of its pixels.
        constants: further tensors that the network takes with every image, ``(1, …)`` each.
    """

    def __init__(
        self,
        network: nn.Module,
        processor: Any,
        family: Family,
        card: Card,
        constants: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.processor, self.family, self.card = network, processor, family, card
        self.constants = tuple(constants or ())
        for name, tensor in (constants or {}).items():
            self.register_buffer(name, tensor, persistent=False)

    @property
    def part(self) -> nn.Module:
        """What runs: the network, or the encoder of one that needs a prompt."""
        return self.network.get_submodule(self.family.part)

    @property
    def patch(self) -> tuple[int, int]:
        """(height, width) of a token in pixels."""
        config = self.part.config
        side: Any = getattr(config, "patch_size", None) or config.backbone_config.patch_size  # type: ignore[union-attr]
        return (side, side) if isinstance(side, int) else tuple(side)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels that the processor makes of a square picture."""
        pixels = self.prepared(np.zeros((SQUARE, SQUARE, 3), np.uint8))["pixel_values"]
        return tuple(pixels.shape[2:])

    def forward(self, pixels: Tensor, **inputs: Any) -> Any:
        """What the library returns for normalised pixels ``(b, 3, H, W)``."""
        constants = {name: getattr(self, name).expand(len(pixels), -1) for name in self.constants}
        if self.family.resizes:
            inputs["interpolate_pos_encoding"] = True
        return self.part(pixel_values=pixels, **{**constants, **inputs})

    def prepared(self, image: np.ndarray) -> Inputs:
        """What the processor makes of ``(H, W, 3)`` uint8 RGB; no weights are needed."""
        return dict(self.processor(images=Image.fromarray(image), return_tensors="pt"))
