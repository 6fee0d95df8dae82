"""Sliding windows: the protocol of networks that return class logits of pixels, for one image or many."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from .finite import run

Key = TypeVar("Key", bound=Hashable)


def alike(keys: Sequence[Key]) -> dict[Key, list[int]]:
    """Indices by key, both in the order in which they come."""
    found: dict[Key, list[int]] = {}
    for index, key in enumerate(keys):
        found.setdefault(key, []).append(index)
    return found


def slide(model: nn.Module, pixels: Tensor, crop: int | None, stride: int | None, window_batch: int = 1) -> Tensor:
    """``slide_all`` of one image: ``(1, 3, H, W)`` to ``(1, classes, H, W)`` fp32."""
    [(_, logits)] = slide_all(model, [pixels], crop, stride, window_batch)
    return logits


class _Mean:
    """The logits of an image's windows, added up until all are there."""

    def __init__(self, pixels: Tensor, windows: int) -> None:
        self.size, self.missing = tuple(pixels.shape[2:]), windows
        self.only = windows == 1
        self.total: Tensor | None = None

    def add(self, y: int, x: int, window: Tensor) -> None:
        """``window``: ``(classes, high, wide)`` fp32 at row ``y`` and column ``x``."""
        self.missing -= 1
        if self.only:
            self.total = window[None]
            return
        if self.total is None:
            self.total = window.new_zeros(1, len(window), *self.size)
            self.count = window.new_zeros(1, 1, *self.size)
        self.total[0, :, y : y + window.shape[1], x : x + window.shape[2]] += window
        self.count[:, :, y : y + window.shape[1], x : x + window.shape[2]] += 1

    def result(self) -> Tensor:
        """``(1, classes, H, W)``."""
        assert self.total is not None, "an image has at least one window"
        return self.total if self.only else self.total / self.count


def slide_all(
    model: nn.Module, images: Sequence[Tensor], crop: int | None, stride: int | None, window_batch: int = 1
) -> Iterator[tuple[int, Tensor]]:
    """Mean of the logits of all windows over every image (docs/protocols.md, Windows).

    Args:
        model: ``(b, 3, H, W) -> (b, classes, H, W)``.
        images: ``(1, 3, H, W)`` each, normalised, of any sizes.
        crop: side of the window in pixels; an image smaller than that is one smaller window. ``None``: whole images.
        stride: step between windows in pixels.
        window_batch: windows of equal size that run together, whichever images they are of.

    Yields:
        Index and ``(1, classes, H, W)`` fp32 of an image as soon as its last window is done: images whose windows are
        of one size in order, so that few are unfinished at any time.
    """
    if window_batch < 1:
        raise ValueError(f"window_batch: expected at least 1 window, got {window_batch}")
    shapes = [tuple(pixels.shape[2:]) for pixels in images]
    for (high, wide), group in alike([(min(h, crop or h), min(w, crop or w)) for h, w in shapes]).items():
        corners = {index: _corners(shapes[index], crop, stride) for index in group}
        means = {index: _Mean(images[index], len(places)) for index, places in corners.items()}
        windows = [(index, y, x) for index, places in corners.items() for y, x in places]
        for first in range(0, len(windows), window_batch):
            taken = windows[first : first + window_batch]
            batch = torch.cat([images[index][:, :, y : y + high, x : x + wide] for index, y, x in taken])
            for (index, y, x), logits in zip(taken, run(model, batch).float(), strict=True):
                means[index].add(y, x, logits)
                if not means[index].missing:
                    yield index, means.pop(index).result()


def _corners(size: tuple[int, ...], crop: int | None, stride: int | None) -> list[tuple[int, int]]:
    """Rows and columns where the windows of an image of (height, width) ``size`` start."""
    if crop is None or stride is None:
        return [(0, 0)]
    h, w = size
    return [(top, left) for top in starts(h, crop, stride) for left in starts(w, crop, stride)]


def starts(length: int, crop: int, stride: int) -> list[int]:
    """Where windows start along an axis; the last ones are shifted back so that they end inside."""
    number = max(length - crop + stride - 1, 0) // stride + 1
    return [max(min(index * stride, length - crop), 0) for index in range(number)]
