"""One image through one model: prepare, slide a window, merge, resize back, decide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from .data.transforms import normalised, read_image, resize, scaled_size, to_rgb
from .models.card import Card
from .prediction import Prediction

STRIP = 1 << 25
"""Most logits that are resized to the image's own size at a time, so that memory does not grow with the photograph."""


def predict(model: nn.Module, image: str | Path | Image.Image | np.ndarray, *, window_batch: int = 1) -> Prediction:
    """Segment an image of any size by the protocol of the model's card.

    Args:
        model: from ``expedit.load``, or that model accelerated.
        image: a path, a Pillow image, or ``(H, W, 3)`` uint8 RGB.
        window_batch: sliding windows that run together.

    Raises:
        FileNotFoundError, ValueError: the image cannot be read, or the method does not fit its size.
    """
    card: Card = model.card  # type: ignore[assignment]
    pixels = _pixels(image)
    labels = semantic_labels(model, pixels, card, window_batch)
    return Prediction("semantic", card.classes, card.palette, labels.cpu().numpy())


def _pixels(image: str | Path | Image.Image | np.ndarray) -> np.ndarray:
    if isinstance(image, (str, Path)):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"image: expected (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}")
    return image


@torch.inference_mode()
def semantic_labels(model: nn.Module, image: np.ndarray, card: Card, window_batch: int = 1) -> Tensor:
    """Class index of every pixel ``(H, W)`` int32 of an ``(H, W, 3)`` uint8 RGB image."""
    h, w = image.shape[:2]
    if card.resize is not None:
        image = resize(image, scaled_size(h, w, *card.resize), card.resampling)
    weight = next(model.parameters())
    pixels = normalised(image, card.mean, card.std).to(weight.device, weight.dtype)
    logits = slide(model, pixels, card.crop, card.stride, window_batch)
    return resized_argmax(logits[0], (h, w))


def slide(model: nn.Module, pixels: Tensor, crop: int | None, stride: int | None, window_batch: int = 1) -> Tensor:
    """Mean of the logits of all windows over an image (spec a.3).

    Args:
        model: ``(b, 3, H, W) -> (b, classes, H, W)``.
        pixels: ``(1, 3, H, W)`` normalised.
        crop: side of the window in pixels; an image smaller than that is one smaller window. ``None``: whole image.
        stride: step between windows in pixels.
        window_batch: windows that run together.

    Returns:
        ``(1, classes, H, W)`` fp32.
    """
    h, w = pixels.shape[2:]
    if crop is None or stride is None:
        return model(pixels).float()
    high, wide = min(crop, h), min(crop, w)
    corners = [(top, left) for top in starts(h, crop, stride) for left in starts(w, crop, stride)]
    total, count = None, pixels.new_zeros(1, 1, h, w, dtype=torch.float32)
    for first in range(0, len(corners), window_batch):
        group = corners[first : first + window_batch]
        logits = model(torch.cat([pixels[:, :, y : y + high, x : x + wide] for y, x in group])).float()
        if len(corners) == 1:
            return logits
        if total is None:
            total = logits.new_zeros(1, logits.shape[1], h, w)
        for (y, x), window in zip(group, logits, strict=True):
            total[0, :, y : y + high, x : x + wide] += window
            count[:, :, y : y + high, x : x + wide] += 1
    assert total is not None, "an image has at least one window"
    return total / count


def starts(length: int, crop: int, stride: int) -> list[int]:
    """Where windows start along an axis; the last ones are shifted back so that they end inside."""
    number = max(length - crop + stride - 1, 0) // stride + 1
    return [max(min(index * stride, length - crop), 0) for index in range(number)]


def resized_argmax(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Argmax over the classes of bilinearly resized logits: ``(classes, h, w)`` -> ``(H, W)`` int32.

    The rows of the result are made in strips: a large photograph never meets all its classes in memory at once.
    """
    classes, h, _ = logits.shape
    height, width = size
    if logits.shape[1:] == size:
        return logits.argmax(0).int()
    place = ((torch.arange(height, device=logits.device) + 0.5) * (h / height) - 0.5).clamp(0, h - 1)
    low = place.long()
    far = (place - low)[:, None]
    labels = torch.empty(size, dtype=torch.int32, device=logits.device)
    step = max(STRIP // (classes * width), 1)
    for first in range(0, height, step):
        rows = slice(first, first + step)
        upper, lower = logits[:, low[rows]], logits[:, (low[rows] + 1).clamp(max=h - 1)]
        strip = torch.lerp(upper, lower, far[rows].to(logits.dtype))
        strip = F.interpolate(strip[None], size=(strip.shape[1], width), mode="bilinear", align_corners=False)[0]
        labels[rows] = strip.argmax(0).int()
    return labels
