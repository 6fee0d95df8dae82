"""Pixels in, normalised tensor out: decoding, the resize rules of both protocols, normalisation."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"))


def read_image(path: Path) -> np.ndarray:
    """Decode an image file to ``(H, W, 3)`` uint8 RGB, turned the way its EXIF tag says.

    Palette, grey, 16-bit and CMYK images are converted; transparent ones are laid on white.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an image, damaged, or too large to be honest.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise ValueError(f"{path}: expected an image, but its content is none that Pillow knows") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{path}: {error}") from None
    except (OSError, SyntaxError, EOFError, ValueError) as error:
        raise ValueError(f"{path}: the image is damaged or cut short ({error})") from None


def to_rgb(image: Image.Image) -> np.ndarray:
    """Any Pillow image as ``(H, W, 3)`` uint8 RGB."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image, dtype=np.float64)
        # 16-bit pictures come in as up to 65535; others of these modes may hold plain bytes.
        scale = 255 / 65535 if values.max(initial=0) > 255 else 1.0
        image = Image.fromarray((values * scale).clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(image.convert("RGB"))


def scaled_size(height: int, width: int, long_max: int, short_max: int) -> tuple[int, int]:
    """(height, width) after scaling by ``min(long_max / long, short_max / short)``, rounded half up (spec h)."""
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
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
