"""Pixels in, normalised tensor out: the resize rules of both protocols, and normalisation."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def scaled_size(height: int, width: int, long_max: int, short_max: int) -> tuple[int, int]:
    """(height, width) after scaling by ``min(long_max / long, short_max / short)``, rounded half up."""
    factor = min(long_max / max(height, width), short_max / min(height, width))
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


def resize(image: np.ndarray, size: tuple[int, int], resampling: Literal["opencv", "pillow"]) -> np.ndarray:
    """``(H, W, 3)`` uint8 to (height, width) ``size``: bilinear, OpenCV without antialias or Pillow with it."""
    if image.shape[:2] == size:
        return image
    if resampling == "pillow":
        return np.array(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    import cv2

    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def normalised(image: np.ndarray, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Tensor:
    """``(H, W, 3)`` uint8 RGB to ``(1, 3, H, W)`` fp32: ``(pixel - mean) / std``."""
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float()
    return pixels.sub_(torch.tensor(mean)[:, None, None]).div_(torch.tensor(std)[:, None, None])
