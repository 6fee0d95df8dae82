"""What the outputs of a network of transformers say: read out as the library's own processor does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .finite import run
from .models.postprocess import resized_argmax
from .models.pretrained import Inputs, Pretrained
from .prediction import Prediction, Segment
from .sliding import alike


@torch.inference_mode()
def read_out(model: Pretrained, inputs: Sequence[Inputs], sizes: Sequence[tuple[int, int]]) -> list[Prediction]:
    """The results for what ``model.prepared`` made of images of (height, width) ``sizes``.

    Those whose tensors have equal shapes run together.
    """
    names = ("pixel_values", *model.family.inputs)
    given = [{name: one[name] for name in names if name in one} for one in inputs]
    found = {}
    for group in alike([_shapes(one) for one in given]).values():
        outputs = _run(model, [given[index] for index in group])
        for index, out in zip(group, outputs, strict=True):
            found[index] = READERS[model.card.task](model, out, inputs[index], sizes[index])
    return [found[index] for index in range(len(inputs))]


def _shapes(given: Inputs) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Names of the inputs, and the shapes without the first axis of those that are tensors."""
    return tuple((name, tuple(value.shape[1:]) if isinstance(value, Tensor) else ()) for name, value in given.items())


def _run(model: Pretrained, given: Sequence[Inputs]) -> list[SimpleNamespace]:
    """What the network returns for images of equal shapes, in fp32, for each of them as if it had run alone."""
    weight = next(model.parameters())
    joined = {name: _moved(_joined([one[name] for one in given]), weight) for name in given[0]}
    out = run(model, joined.pop("pixel_values"), **joined)
    ends = list(accumulate(len(one["pixel_values"]) for one in given))  # a picture in parts has several rows
    rows = [slice(end - len(one["pixel_values"]), end) for one, end in zip(given, ends, strict=True)]
    return [
        SimpleNamespace(**{name: _rows(value, part, name in joined) for name, value in out.items()}) for part in rows
    ]


def _joined(values: Sequence[Any]) -> Any:
    """Tensors one below the other, lists one after the other."""
    return torch.cat(list(values)) if isinstance(values[0], Tensor) else [one for value in values for one in value]


def _rows(value: Any, rows: slice, listed: bool) -> Any:
    """``rows`` of the first axis of every tensor, floating ones in fp32; ``listed`` values have one entry per row."""
    if isinstance(value, Tensor):
        return (value.float() if value.is_floating_point() else value)[rows]
    if listed:
        return value[rows]
    return tuple(_rows(one, rows, False) for one in value) if isinstance(value, (tuple, list)) else value


def _moved(value: Any, like: Tensor) -> Any:
    """Floating tensors on the device and in the dtype of ``like``, other tensors on its device."""
    if not isinstance(value, Tensor):
        return value
    return value.to(like.device, like.dtype if value.is_floating_point() else None)


def _semantic(model: Pretrained, out: Any, inputs: Inputs, size: tuple[int, int]) -> Prediction:
    """Class of every pixel, of bilinearly resized logits or as the processor decides."""
    if model.family.output:
        labels = resized_argmax(out.logits[0], size)
    else:
        [labels] = model.processor.post_process_semantic_segmentation(out, target_sizes=[size])
    card = model.card
    return Prediction("semantic", card.classes, card.palette, labels.cpu().numpy().astype(np.int32))


def _at_size(model: Pretrained, out: Any, size: tuple[int, int], in_probability: bool) -> dict[str, Any]:
    """Keywords with which the processor decides on masks of (height, width) ``size``.

    OneFormer's resizes by torchvision, others by torch. Where it must not, the masks of the queries that can become
    segments are resized before, as logits or as probabilities.
    """
    if not model.family.asks:
        return {"outputs": out, "target_sizes": [size]}
    score = out.class_queries_logits[0].softmax(1)[:, :-1].amax(1)
    kept = (score > SURE) | (score == score.max())
    masks = out.masks_queries_logits[:, kept]
    masks = masks.sigmoid() if in_probability else masks
    masks = F.interpolate(masks, size, mode="bilinear", align_corners=False)
    masks = masks.logit() if in_probability else masks
    return {
        "outputs": SimpleNamespace(class_queries_logits=out.class_queries_logits[:, kept], masks_queries_logits=masks)
    }


SURE = 0.5
"""Least score of a query that OneFormer's processor makes a segment of."""


def _panoptic(model: Pretrained, out: Any, inputs: Inputs, size: tuple[int, int]) -> Prediction:
    """Things and stuff as the processor decides; a class of stuff is one segment."""
    card, name = model.card, STUFF.get(model.family.processor, "label_ids_to_fuse")
    stuff = set(range(len(card.classes))) - set(card.things)
    decide = model.processor.post_process_panoptic_segmentation
    [found] = decide(**_at_size(model, out, size, in_probability=True), **{name: stuff})
    labels, segments = np.zeros(size, np.int32), []
    places = found["segmentation"].cpu().numpy()
    for number, segment in enumerate(found["segments_info"], start=1):
        labels[places == segment["id"]] = number
        category = segment["label_id"]
        segments.append(Segment(number, category, segment["score"], category in card.things))
    return Prediction("panoptic", card.classes, card.palette, labels, tuple(segments))


STUFF = {"EomtImageProcessor": "stuff_classes"}
"""What a processor calls the classes whose segments become one, where it is not ``label_ids_to_fuse``."""


def _instance(model: Pretrained, out: Any, inputs: Inputs, size: tuple[int, int]) -> Prediction:
    """Things as the processor decides, by falling score."""
    decide = model.processor.post_process_instance_segmentation
    [found] = decide(**_at_size(model, out, size, in_probability=False))
    places = found["segmentation"].cpu().numpy()
    ranked = sorted(found["segments_info"], key=lambda segment: -segment["score"])
    masks = [places == segment["id"] for segment in ranked]
    segments = tuple(Segment(rank, one["label_id"], one["score"]) for rank, one in enumerate(ranked))
    stacked = np.stack(masks) if masks else np.zeros((0, *size), bool)
    return Prediction("instance", model.card.classes, model.card.palette, segments=segments, masks=stacked)


def _depth(model: Pretrained, out: Any, inputs: Inputs, size: tuple[int, int]) -> Prediction:
    """Bicubically resized depth; the border that ZoeDepth's processor adds is cut off first."""
    depth = out.predicted_depth[:, None]
    if model.family.processor == "ZoeDepthImageProcessor" and model.processor.do_pad:
        border = [int(np.sqrt(side / 2) * 3) for side in size]
        whole = [side + 2 * edge for side, edge in zip(size, border, strict=True)]
        depth = F.interpolate(depth, whole, mode="bicubic", align_corners=False)
        depth = depth[:, :, border[0] : border[0] + size[0], border[1] : border[1] + size[1]]
    elif depth.shape[2:] != size:
        depth = F.interpolate(depth, size, mode="bicubic", align_corners=False)
    return Prediction("depth", (), (), depth=depth[0, 0].cpu().numpy(), depth_kind=model.card.depth)


def _features(model: Pretrained, out: Any, inputs: Inputs, size: tuple[int, int]) -> Prediction:
    """Tokens of the patches; those in front of them, and those of a padded border, are cut off."""
    found = getattr(out, model.family.output)
    if isinstance(found, (tuple, list)):
        found = found[-1].float()
    if found.ndim == 3:
        h, w = (side // patch for side, patch in zip(inputs["pixel_values"].shape[2:], model.patch, strict=True))
        found = found[:, -h * w :].mT.unflatten(2, (h, w))
    features = found[0].permute(1, 2, 0)
    if "reshaped_input_sizes" in inputs:
        shown, padded = inputs["reshaped_input_sizes"][0].tolist(), inputs["pixel_values"].shape[2:]
        h, w = (-(-features.shape[axis] * shown[axis] // padded[axis]) for axis in (0, 1))
        features = features[:h, :w]
    return Prediction("features", (), (), features=features.contiguous().cpu().numpy())


READERS: dict[str, Callable[[Pretrained, Any, Inputs, tuple[int, int]], Prediction]] = {
    "semantic": _semantic,
    "panoptic": _panoptic,
    "instance": _instance,
    "depth": _depth,
    "features": _features,
}
"""From what the network returned, in fp32, and the prepared image, to the result, by task."""
