"""One image through one model: prepare, slide a window, merge, resize back, decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from .core import Grid
from .core.tokens import pad_to_multiple
from .finite import run
from .models.card import Card, card_of
from .models.postprocess import (
    Sizes,
    best_pairs,
    confident,
    masks_and_quality,
    mean_argmax,
    panoptic,
    rescored,
    resized,
    resized_argmax,
    semantic_scores,
)
from .models.pretrained import Pretrained
from .prediction import Prediction, Segment
from .prepare import Views, pixels_of, views_of
from .readout import read_out


def predict(model: nn.Module, image: str | Path | Image.Image | np.ndarray, *, window_batch: int = 1) -> Prediction:
    """Segment an image of any size, or find its depth or its features, by the protocol of the model's card.

    Args:
        model: from ``expedit.load``, or that model accelerated.
        image: a path, a Pillow image, or ``(H, W, 3)`` uint8 RGB. For a video model a clip: whatever
            ``expedit.video.predict_video`` takes.
        window_batch: sliding windows that run together.

    Raises:
        FileNotFoundError, ValueError: the image cannot be read, the method does not fit its size, or the model has no
            card.

    Example:
        >>> import expedit, numpy
        >>> prediction = expedit.predict(expedit.load("segmenter-mini"), numpy.zeros((64, 96, 3), numpy.uint8))
        >>> prediction.labels.shape, prediction.classes[:3]
        ((64, 96), ('sky', 'water', 'grass'))
    """
    card = card_of(model)
    if card.task == "video":
        from .video import predict_video  # it stands on this module

        return predict_video(model, image)
    pixels = pixels_of(image)
    return predict_prepared(model, views_of(model, pixels), pixels.shape[:2], window_batch)


@torch.inference_mode()
def predict_prepared(model: nn.Module, views: Views, size: tuple[int, int], window_batch: int = 1) -> Prediction:
    """``predict`` from what ``views_of`` makes of an image of (height, width) ``size``; errors as there."""
    card = card_of(model)
    if isinstance(model, Pretrained):
        return read_out(model, views, size)
    if (card.output, card.task) not in PREDICTORS:
        raise ValueError(f"there is no {card.task} protocol for a model that returns logits of its {card.output}")
    return PREDICTORS[card.output, card.task](model, views, size, card, window_batch)


def semantic_of_pixels(
    model: nn.Module, views: Sequence[Tensor], size: tuple[int, int], card: Card, window_batch: int
) -> Prediction:
    """Class of every pixel from a model that returns class logits of its pixels."""
    labels = labels_of(model, views, size, card, window_batch)
    return Prediction("semantic", card.classes, card.palette, labels.cpu().numpy())


def semantic_of_queries(
    model: nn.Module, views: Sequence[Tensor], size: tuple[int, int], card: Card, window_batch: int
) -> Prediction:
    """Class of every pixel; the official order: scores at the padded size, then cut and resized."""
    class_logits, mask_logits, sizes = queries_of(model, views, size, card)
    scores = semantic_scores(class_logits, resized(mask_logits, sizes._replace(output=sizes.content)))
    labels = resized_argmax(scores, sizes.output)
    return Prediction("semantic", card.classes, card.palette, labels.cpu().numpy())


def panoptic_of_queries(
    model: nn.Module, views: Sequence[Tensor], size: tuple[int, int], card: Card, window_batch: int
) -> Prediction:
    """Things and stuff, no two of which overlap."""
    class_logits, mask_logits, sizes = queries_of(model, views, size, card)
    kept = confident(class_logits, card.score_threshold)
    masks = resized(mask_logits[kept], sizes)
    labels, found = panoptic(class_logits[kept], masks, frozenset(card.things), card.overlap_threshold)
    segments = tuple(Segment(*segment) for segment in found)
    return Prediction("panoptic", card.classes, card.palette, labels.cpu().numpy(), segments)


def instances_of_queries(
    model: nn.Module, views: Sequence[Tensor], size: tuple[int, int], card: Card, window_batch: int
) -> Prediction:
    """Things with overlapping masks, by falling score."""
    class_logits, mask_logits, sizes = queries_of(model, views, size, card)
    pairs = best_pairs(class_logits, card.instances, frozenset(card.things) or None)
    queries, place = pairs.query.unique(return_inverse=True)
    masks, quality = masks_and_quality(mask_logits, queries, sizes)
    score, category, row = rescored(pairs._replace(query=place), quality)
    segments = tuple(
        Segment(index, c, s) for index, (c, s) in enumerate(zip(category.tolist(), score.tolist(), strict=True))
    )
    return Prediction("instance", card.classes, card.palette, segments=segments, masks=masks[row].cpu().numpy())


PREDICTORS: dict[tuple[str, str], Callable[[nn.Module, Sequence[Tensor], tuple[int, int], Card, int], Prediction]] = {
    ("pixels", "semantic"): semantic_of_pixels,
    ("queries", "semantic"): semantic_of_queries,
    ("queries", "panoptic"): panoptic_of_queries,
    ("queries", "instance"): instances_of_queries,
}
"""How to make a prediction, by what the model returns and the task of its card."""


def queries_of(
    model: nn.Module, views: Sequence[Tensor], size: tuple[int, int], card: Card
) -> tuple[Tensor, Tensor, Sizes]:
    """Class logits ``(q, classes + 1)`` and mask logits ``(q, h / 4, w / 4)`` in fp32, and the sizes to resize by.

    Images run one by one: padded to a common size they would change one another's results.
    """
    [pixels] = views
    h, w = pixels.shape[2:]
    padded = pad_to_multiple(pixels, Grid(card.multiple, card.multiple))
    weight = next(model.parameters())
    class_logits, mask_logits = run(model, padded.to(weight.device, weight.dtype))
    height, width = padded.shape[2:]
    return class_logits[0].float(), mask_logits[0].float(), Sizes((height, width), (h, w), size)


@torch.inference_mode()
def labels_of(
    model: nn.Module,
    views: Views,
    size: tuple[int, int],
    card: Card,
    window_batch: int = 1,
    flip: bool = False,
) -> Tensor:
    """Class index of every pixel ``(H, W)`` int32, (height, width) ``size``, of an image ``prepared`` at some scales.

    With several scales, or ``flip`` (each view also mirrored), the means of the softmax maps decide; ValueError for a
    model that decides otherwise.
    """
    if isinstance(model, Pretrained) or card.output == "queries":
        if flip or (isinstance(views, Sequence) and len(views) > 1):
            raise ValueError("several scales and flips are for Segmenters, which return class logits of pixels")
        labels = predict_prepared(model, views, size).labels
        assert labels is not None, "the result of a semantic model has labels"
        return torch.from_numpy(labels)
    weight = next(model.parameters())
    maps = []
    for view in views:
        pixels = view.to(weight.device, weight.dtype)
        maps.append(slide(model, pixels, card.crop, card.stride, window_batch)[0])
        if flip:
            maps.append(slide(model, pixels.flip(3), card.crop, card.stride, window_batch)[0].flip(2))
    return resized_argmax(maps[0], size) if len(maps) == 1 else mean_argmax(maps, size)


def slide(model: nn.Module, pixels: Tensor, crop: int | None, stride: int | None, window_batch: int = 1) -> Tensor:
    """Mean of the logits of all windows over an image (docs/protocols.md, Windows).

    Args:
        model: ``(b, 3, H, W) -> (b, classes, H, W)``.
        pixels: ``(1, 3, H, W)`` normalised.
        crop: side of the window in pixels; an image smaller than that is one smaller window. ``None``: whole image.
        stride: step between windows in pixels.
        window_batch: windows that run together.

    Returns:
        ``(1, classes, H, W)`` fp32.
    """
    if window_batch < 1:
        raise ValueError(f"window_batch: expected at least 1 window, got {window_batch}")
    h, w = pixels.shape[2:]
    if crop is None or stride is None:
        whole: Tensor = run(model, pixels).float()
        return whole
    high, wide = min(crop, h), min(crop, w)
    corners = [(top, left) for top in starts(h, crop, stride) for left in starts(w, crop, stride)]
    total, count = None, pixels.new_zeros(1, 1, h, w, dtype=torch.float32)
    for first in range(0, len(corners), window_batch):
        group = corners[first : first + window_batch]
        windows = torch.cat([pixels[:, :, y : y + high, x : x + wide] for y, x in group])
        logits: Tensor = run(model, windows).float()
        if len(corners) == 1:
            return logits
        if total is None:
            total = logits.new_zeros(1, logits.shape[1], h, w)
        for (y, x), window in zip(group, logits, strict=True):
            total[0, :, y : y + high, x : x + wide] += window
            count[:, :, y : y + high, x : x + wide] += 1
    assert total is not None, "an image has at least one window"
    mean: Tensor = total / count
    return mean


def starts(length: int, crop: int, stride: int) -> list[int]:
    """Where windows start along an axis; the last ones are shifted back so that they end inside."""
    number = max(length - crop + stride - 1, 0) // stride + 1
    return [max(min(index * stride, length - crop), 0) for index in range(number)]
