"""How an image is prepared for a model: pixels in one form, resized and normalised."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, nn

from .data.decode import read_image, to_rgb
from .data.transforms import normalised, resize, scaled_size
from .models.card import Card, card_of
from .models.pretrained import Pretrained

Views = Any
"""An image as its model takes it: what ``prepared`` makes of it, or the processor of a network of transformers."""


def pixels_of(image: str | Path | Image.Image | np.ndarray) -> np.ndarray:
    """``(H, W, 3)`` uint8 RGB of whatever ``predict`` takes; errors as there."""
    if isinstance(image, (str, Path)):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if not isinstance(image, np.ndarray):
        raise ValueError(
            f"image: expected a path, a Pillow image or an array of (H, W, 3) uint8, got {type(image).__name__}"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"image: expected (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}")
    return image


def views_of(model: nn.Module, image: np.ndarray, scales: Sequence[float] = (1.0,)) -> Views:
    """The part of the work that needs no weights, for a model with a card and ``(H, W, 3)`` uint8 RGB."""
    if not isinstance(model, Pretrained):
        return prepared(image, card_of(model), scales)
    if tuple(scales) != (1.0,):
        raise ValueError(f"scales: the processor of {model.family.title} has one scale, got {tuple(scales)}")
    return model.prepared(image)


def prepared(image: np.ndarray, card: Card, scales: Sequence[float] = (1.0,)) -> list[Tensor]:
    """One normalised ``(1, 3, h, w)`` fp32 view of the image per scale."""
    h, w = image.shape[:2]
    views = []
    for scale in scales:
        if card.resize is None:
            size = max(int(h * scale + 0.5), 1), max(int(w * scale + 0.5), 1)
        else:
            size = scaled_size(h, w, int(card.resize[0] * scale), int(card.resize[1] * scale))
        views.append(normalised(resize(image, size, card.resampling), card.mean, card.std))
    return views


def seen(model: nn.Module, image: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """What a model takes of an image as one whole, normalised ``(1, 3, h, w)``, and the picture that it is.

    The picture, ``uint8`` RGB, is the image itself, unless a processor of transformers cuts or pads it.
    """
    if not isinstance(model, Pretrained):
        return prepared(image, card_of(model))[0], image
    pixels, card = model.prepared(image)["pixel_values"][:1], model.card
    shown = pixels[0].permute(1, 2, 0).numpy() * np.array(card.std) + np.array(card.mean)
    return pixels, shown.round().clip(0, 255).astype(np.uint8)
