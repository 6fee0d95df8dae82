"""A smaller image in place of the image: its size, its pixels, and the way back to all tokens."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from .cuts import LOGITS
from .tokens import Grid, Opened, Stream, TokenMap


def scaled(grid: Grid, scale: float) -> Grid:
    """The lattice of tokens of an image whose sides are ``scale`` times those of an image with lattice ``grid``."""
    return Grid(max(round(scale * grid.h), 1), max(round(scale * grid.w), 1))


def shrunk(image: Tensor, patch: Grid, scale: float) -> Tensor:
    """``(b, 3, H, W)`` pixels resized to the whole patches of ``scaled``, bilinear and antialiased, in their dtype.

    What reaches beyond the last whole patch is left out, as the patch convolution leaves it out.
    """
    whole = Grid(image.shape[2] // patch.h, image.shape[3] // patch.w)
    small = scaled(whole, scale)
    if small == whole:
        return image
    image = image[:, :, : whole.h * patch.h, : whole.w * patch.w]
    size = (small.h * patch.h, small.w * patch.w)
    resized = F.interpolate(image.float(), size, mode="bilinear", align_corners=False, antialias=True)
    return resized.to(image.dtype)


def enlarged(stream: Stream, whole: Grid) -> Stream:
    """``stream`` of a shrunk image, to be read back bilinearly on the lattice ``whole`` of the image at the end."""
    if stream.grid is None or stream.grid == whole:
        return stream
    way_back = Opened(bilinear(whole, stream.grid, stream.x), LOGITS, whole, {})
    return replace(stream, opened=(way_back, *stream.opened))


def bilinear(grid: Grid, cells: Grid, x: Tensor) -> TokenMap:
    """Bilinear interpolation (align_corners=False) of tokens on ``cells`` to ``grid``, for the samples of ``x``."""
    row, row_weight = _linear(grid.h, cells.h, x.device)
    column, column_weight = _linear(grid.w, cells.w, x.device)
    index = row[:, None, :, None] * cells.w + column[None, :, None, :]
    weight = row_weight[:, None, :, None] * column_weight[None, :, None, :]
    index, weight = (part.flatten(2).flatten(0, 1).expand(x.shape[0], -1, -1) for part in (index, weight))
    return TokenMap(index, weight, cells.length, cells)


def _linear(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Along one axis: the two cells each of ``n`` positions lies between, and how near it is to either."""
    place = ((torch.arange(n, device=device) + 0.5) * m / n - 0.5).clamp(min=0)
    low = place.long()
    high = (low + 1).clamp(max=m - 1)
    far = place - low
    return torch.stack((low, high), 1), torch.stack((1 - far, far), 1)
