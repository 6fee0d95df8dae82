"""What becomes of an image before a network of transformers sees it, where the library cannot do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

PLAIN = frozenset(f"{name}ImageProcessor" for name in ("DINOv3ViT", "Sam2", "Sam3", "Sapiens2", "Segformer", "Tipsv2"))
"""Processors that only resize, rescale and normalise; the library has them for torchvision alone, or had."""

MODES = {2: "bilinear", 3: "bicubic"}
"""Interpolation by Pillow's number of it."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class PlainProcessor:
    """Rescale, resize with antialiasing, normalise: what the processors in ``PLAIN`` do.

    Attributes:
        height, width: of the pixels it makes; with ``width=None`` the shorter side is ``height`` and the image keeps
            its shape.
        multiple: sides are rounded to multiples of it where the image keeps its shape.
        image_mean, image_std: of the rescaled pixels.
        rescale_factor: pixels 0..255 times this.
        mode: "bilinear" or "bicubic".
    """

    height: int
    width: int | None
    multiple: int = 1
    image_mean: tuple[float, ...] = IMAGENET_MEAN
    image_std: tuple[float, ...] = IMAGENET_STD
    rescale_factor: float = 1 / 255
    mode: str = "bilinear"

    @staticmethod
    def of(settings: Mapping[str, Any]) -> PlainProcessor:
        """The processor that ``preprocessor_config.json`` describes; ValueError for steps that it does not have."""
        size = settings.get("size")
        if isinstance(size, int):
            size = {"height": size, "width": size}
        if not isinstance(size, Mapping) or not {"height", "width"} <= size.keys():
            raise ValueError(f"size: expected height and width in pixels, got {size!r}")
        height, width = size["height"], size["width"]
        for step in ("do_pad", "do_center_crop"):
            if settings.get(step):
                raise ValueError(f"{step}: only the library's own processor, which needs torchvision, pads or crops")
        resample = settings.get("resample", 2)
        if resample not in MODES:
            raise ValueError(f"resample: expected one of {MODES}, got {resample!r}")
        normalised = settings.get("do_normalize", True)
        return PlainProcessor(
            int(height),
            None if width is None else int(width),
            multiple=max(int(settings.get("ensure_multiple_of", 1)), 1),
            image_mean=tuple(settings.get("image_mean", IMAGENET_MEAN)) if normalised else (0.0, 0.0, 0.0),
            image_std=tuple(settings.get("image_std", IMAGENET_STD)) if normalised else (1.0, 1.0, 1.0),
            rescale_factor=float(settings.get("rescale_factor", 1 / 255)),
            mode=MODES[resample],
        )

    def to_dict(self) -> dict[str, Any]:
        """Settings of which ``of`` makes the same processor, as plain values."""
        return {
            "image_processor_type": type(self).__name__,
            "size": {"height": self.height, "width": self.width},
            "ensure_multiple_of": self.multiple,
            "image_mean": list(self.image_mean),
            "image_std": list(self.image_std),
            "rescale_factor": self.rescale_factor,
            "resample": next(number for number, mode in MODES.items() if mode == self.mode),
        }

    def __call__(self, images: Image.Image, return_tensors: str = "pt") -> dict[str, Tensor]:
        """``pixel_values`` ``(1, 3, h, w)`` fp32 of an RGB image."""
        pixels = torch.from_numpy(np.asarray(images).transpose(2, 0, 1).copy())[None] * self.rescale_factor
        size = self.size(images.height, images.width)
        if pixels.shape[2:] != size:
            pixels = F.interpolate(pixels, size, mode=self.mode, align_corners=False, antialias=True)
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.image_mean, self.image_std))
        return {"pixel_values": (pixels - mean) / std}

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the pixels of an image of that size."""
        if self.width is not None:
            return self.height, self.width
        scale = self.height / min(height, width) / self.multiple
        return tuple(max(round(side * scale), 1) * self.multiple for side in (height, width))  # type: ignore[return-value]
