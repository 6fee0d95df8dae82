"""Patches of smaller images beside those of the image: a window of tokens as one token, seen at half or a quarter."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .tokens import Grid, to_map, to_tokens

SIDES = (2, 4)
"""Tokens along each side of a window, by level."""


def windows_of(grid: Grid, side: int) -> Grid:
    """Windows of ``side`` on the part of ``grid`` that whole windows of ``SIDES[-1]`` cover, from the top left."""
    return Grid(*(n // SIDES[-1] * SIDES[-1] // side for n in grid))


def coarse_tokens(tokens: Tensor, change: Tensor, grid: Grid) -> Tensor:
    """Tokens ``(b, k, c)`` of the windows of every level, one level after the other, row-major.

    The patch of the smaller image, at the mean of the positions inside the window. It needs no table of positions,
    only that a token is its patch plus a position, or its patch alone.

    Args:
        tokens: ``(b, n, c)`` on ``grid``, patches with their positions.
        change: what ``change_of_patches`` found.
    """
    return _means(to_map(tokens, grid)) + change


def change_of_patches(embed: Callable[[Tensor], Tensor], image: Tensor, patches: Tensor) -> Tensor:
    """What patches of smaller images differ by from the means of those in their window: ``(b, k, c)``.

    Args:
        embed: the patch convolution.
        image: ``(b, 3, H, W)`` pixels.
        patches: ``(b, c, h, w)``, what ``embed`` made of them.
    """
    grid = Grid(*patches.shape[2:])
    patch = Grid(image.shape[2] // grid.h, image.shape[3] // grid.w)
    seen = [patches.new_empty(patches.shape[0], 0, patches.shape[1])]
    for side in SIDES:
        h, w = windows_of(grid, side)
        if h * w:
            covered = image[:, :, : side * h * patch.h, : side * w * patch.w]
            seen.append(to_tokens(embed(F.avg_pool2d(covered.float(), side).to(image.dtype))))
    return torch.cat(seen, 1) - _means(patches)


def _means(feature_map: Tensor) -> Tensor:
    """Of the windows of ``(b, c, h, w)``, as ``coarse_tokens`` orders them."""
    grid = Grid(*feature_map.shape[2:])
    means = []
    for side in SIDES:
        h, w = windows_of(grid, side)
        covered = feature_map[:, :, : side * h, : side * w].float()
        means.append(to_tokens(F.avg_pool2d(covered, side) if h * w else covered))
    return torch.cat(means, 1).to(feature_map.dtype)
