"""Images through one model: prepare, slide a window, merge, resize back, decide."""

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
from .sliding import alike, slide, slide_all


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


def predict_prepared(model: nn.Module, views: Views, size: tuple[int, int], window_batch: int = 1) -> Prediction:
    """``predict`` from what ``views_of`` makes of an image of (height, width) ``size``; errors as there."""
    [prediction] = predict_batch(model, [views], [size], window_batch)
    return prediction


@torch.inference_mode()
def predict_batch(
    model: nn.Module, views: Sequence[Views], sizes: Sequence[tuple[int, int]], window_batch: int = 1
) -> list[Prediction]:
    """``predict_prepared`` of several images together; errors as there, of any of them.

    Windows of equal size share runs of ``window_batch``, whichever image they are of; networks that look at whole
    images run those of equal padded size together. So no result depends on the other images.
    """
    card = card_of(model)
    if isinstance(model, Pretrained):
        return read_out(model, views, sizes)
    if (card.output, card.task) not in PREDICTORS:
        raise ValueError(f"there is no {card.task} protocol for a model that returns logits of its {card.output}")
    return PREDICTORS[card.output, card.task](model, views, sizes, card, window_batch)


def semantic_of_pixels(
    model: nn.Module,
    views: Sequence[Sequence[Tensor]],
    sizes: Sequence[tuple[int, int]],
    card: Card,
    window_batch: int,
) -> list[Prediction]:
    """Class of every pixel from a model that returns class logits of its pixels."""
    weight, labels = next(model.parameters()), {}
    images = [view.to(weight.device, weight.dtype) for [view] in views]
    together = len(images) if card.crop is None else window_batch
    for index, logits in slide_all(model, images, card.crop, card.stride, together):
        labels[index] = resized_argmax(logits[0], sizes[index]).cpu().numpy()
    return [Prediction("semantic", card.classes, card.palette, labels[index]) for index in range(len(images))]


def semantic_of_queries(class_logits: Tensor, mask_logits: Tensor, sizes: Sizes, card: Card) -> Prediction:
    """Class of every pixel; the official order: scores at the padded size, then cut and resized."""
    scores = semantic_scores(class_logits, resized(mask_logits, sizes._replace(output=sizes.content)))
    labels = resized_argmax(scores, sizes.output)
    return Prediction("semantic", card.classes, card.palette, labels.cpu().numpy())


def panoptic_of_queries(class_logits: Tensor, mask_logits: Tensor, sizes: Sizes, card: Card) -> Prediction:
    """Things and stuff, no two of which overlap."""
    kept = confident(class_logits, card.score_threshold)
    masks = resized(mask_logits[kept], sizes)
    labels, found = panoptic(class_logits[kept], masks, frozenset(card.things), card.overlap_threshold)
    segments = tuple(Segment(*segment) for segment in found)
    return Prediction("panoptic", card.classes, card.palette, labels.cpu().numpy(), segments)


def instances_of_queries(class_logits: Tensor, mask_logits: Tensor, sizes: Sizes, card: Card) -> Prediction:
    """Things with overlapping masks, by falling score."""
    pairs = best_pairs(class_logits, card.instances, frozenset(card.things) or None)
    queries, place = pairs.query.unique(return_inverse=True)
    masks, quality = masks_and_quality(mask_logits, queries, sizes)
    score, category, row = rescored(pairs._replace(query=place), quality)
    segments = tuple(
        Segment(index, c, s) for index, (c, s) in enumerate(zip(category.tolist(), score.tolist(), strict=True))
    )
    return Prediction("instance", card.classes, card.palette, segments=segments, masks=masks[row].cpu().numpy())


Decide = Callable[[Tensor, Tensor, Sizes, Card], Prediction]


def _of_queries(decide: Decide) -> Callable[..., list[Prediction]]:
    """A predictor of a batch from what decides on one image."""

    def predict_all(
        model: nn.Module,
        views: Sequence[Sequence[Tensor]],
        sizes: Sequence[tuple[int, int]],
        card: Card,
        window_batch: int,
    ) -> list[Prediction]:
        return [decide(*found, card) for found in queries_of(model, views, sizes, card)]

    return predict_all


PREDICTORS: dict[tuple[str, str], Callable[..., list[Prediction]]] = {
    ("pixels", "semantic"): semantic_of_pixels,
    ("queries", "semantic"): _of_queries(semantic_of_queries),
    ("queries", "panoptic"): _of_queries(panoptic_of_queries),
    ("queries", "instance"): _of_queries(instances_of_queries),
}
"""How to make predictions, by what the model returns and the task of its card."""


def queries_of(
    model: nn.Module, views: Sequence[Sequence[Tensor]], sizes: Sequence[tuple[int, int]], card: Card
) -> list[tuple[Tensor, Tensor, Sizes]]:
    """Of every image class logits ``(q, classes + 1)``, mask logits ``(q, h / 4, w / 4)`` in fp32, and its sizes.

    Images of equal padded size run together: padded to a common size they would change one another's results.
    """
    weight = next(model.parameters())
    padded = [pad_to_multiple(pixels, Grid(card.multiple, card.multiple)) for [pixels] in views]
    found = {}
    for (height, width), group in alike([tuple(pixels.shape[2:]) for pixels in padded]).items():
        batch = torch.cat([padded[index] for index in group])
        class_logits, mask_logits = run(model, batch.to(weight.device, weight.dtype))
        for index, classes, masks in zip(group, class_logits, mask_logits, strict=True):
            h, w = views[index][0].shape[2:]
            found[index] = classes.float(), masks.float(), Sizes((height, width), (h, w), sizes[index])
    return [found[index] for index in range(len(views))]


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
