"""From logits to results, one image at a time: of queries as the official Mask2Former decides, of pixels by argmax.

docs/protocols.md, Mask2Former, has the rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int]

STRIP = 1 << 25
"""Most logits that are resized to the image's own size at a time, so that memory does not grow with the photograph."""

CHUNK = 1 << 26
"""Most mask values that are resized at a time, so that memory does not grow with queries times pixels."""


class Sizes(NamedTuple):
    """Three (height, width) in pixels: the padded input, the image inside it, and the result."""

    padded: Size
    content: Size
    output: Size


class PanopticSegment(NamedTuple):
    """One segment: its value in the map, its class, the best score of its queries, whether it is a thing."""

    id: int
    category: int
    score: float
    is_thing: bool


class Instances(NamedTuple):
    """Instances by falling score: ``score`` ``(n,)`` in 0..1, ``category`` ``(n,)``, ``query`` ``(n,)`` int64."""

    score: Tensor
    category: Tensor
    query: Tensor


def resized(maps: Tensor, sizes: Sizes) -> Tensor:
    """Maps ``(q, h, w)`` to ``(q, H, W)`` of the result: up to the padded input, cut, then to the output size."""
    if not len(maps):
        return maps.new_zeros(0, *sizes.output)
    (h, w), out = sizes.content, maps[None]
    if maps.shape[1:] != sizes.padded:
        out = F.interpolate(out, size=sizes.padded, mode="bilinear", align_corners=False)
    out = out[:, :, :h, :w]
    if sizes.content != sizes.output:
        out = F.interpolate(out, size=sizes.output, mode="bilinear", align_corners=False)
    return out[0]


def semantic_scores(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """``(q, classes + 1)`` and ``(q, h, w)`` to scores ``(classes, h, w)``; they are sums, no probabilities."""
    return torch.einsum("qc,qhw->chw", class_logits.softmax(1)[:, :-1], mask_logits.sigmoid())


def confident(class_logits: Tensor, score_threshold: float) -> Tensor:
    """Queries ``(k,)`` int64 that panoptic inference keeps: an object, and with a higher score than the threshold."""
    score, category = class_logits.softmax(1).max(1)
    return ((category != class_logits.shape[1] - 1) & (score > score_threshold)).nonzero()[:, 0]


def panoptic(
    class_logits: Tensor, mask_logits: Tensor, things: frozenset[int], overlap_threshold: float
) -> tuple[Tensor, list[PanopticSegment]]:
    """Give every pixel to one query, then drop queries that lost too much of their mask.

    Args:
        class_logits: ``(k, classes + 1)`` of the confident queries only.
        mask_logits: ``(k, H, W)`` at the size of the result.
        things: classes whose segments stay apart; segments of one other class become one.
        overlap_threshold: share of its mask (probability at least 0.5) that a query must own. All pixels it owns
            count, those below 0.5 as well, though these are not painted.

    Returns:
        Segment of every pixel ``(H, W)`` int32, 0 for none, and the segments, ids from 1 in the order of queries.
    """
    queries = len(class_logits)
    blank = torch.zeros(mask_logits.shape[1:], dtype=torch.int32, device=mask_logits.device)
    if not queries:
        return blank, []
    score, category = class_logits.softmax(1).max(1)
    probability = mask_logits.sigmoid()
    owner = (score[:, None, None] * probability).argmax(0)
    painted = probability.gather(0, owner[None])[0] >= 0.5
    whole = (probability >= 0.5).flatten(1).sum(1)
    owned = owner.flatten().bincount(minlength=queries)
    seen = owner[painted].bincount(minlength=queries)
    stays = (seen > 0) & (owned.double() / whole.clamp_min(1) >= overlap_threshold)
    ids, segments = _numbered(stays.tolist(), category.tolist(), score.tolist(), things)
    number = torch.tensor(ids, dtype=torch.int32, device=owner.device)
    return torch.where(painted, number[owner], blank), segments


def _numbered(
    stays: list[bool], categories: list[int], scores: list[float], things: frozenset[int]
) -> tuple[list[int], list[PanopticSegment]]:
    """Segment id of every query, 0 where it was dropped, and the segments."""
    ids = [0] * len(stays)
    segments: list[PanopticSegment] = []
    stuff: dict[int, int] = {}
    for query, (category, score) in enumerate(zip(categories, scores, strict=True)):
        if not stays[query]:
            continue
        if category in stuff:
            ids[query] = stuff[category]
            present = segments[ids[query] - 1]
            segments[ids[query] - 1] = present._replace(score=max(present.score, score))
            continue
        ids[query] = len(segments) + 1
        segments.append(PanopticSegment(ids[query], category, score, category in things))
        if category not in things:
            stuff[category] = ids[query]
    return ids, segments


def best_pairs(class_logits: Tensor, most: int, things: frozenset[int] | None = None) -> Instances:
    """The ``most`` best (query, class) pairs by class score alone; of these only ``things``, if given."""
    classes = class_logits.shape[1] - 1
    flat = class_logits.softmax(1)[:, :-1].flatten()
    score, index = flat.topk(min(most, len(flat)))
    category, query = index % classes, index // classes
    if things is not None:
        keep = torch.tensor([c in things for c in category.tolist()], dtype=torch.bool, device=score.device)
        score, category, query = score[keep], category[keep], query[keep]
    return Instances(score, category, query)


def mask_quality(mask_logits: Tensor) -> Tensor:
    """Mean probability inside each mask: ``(q, H, W)`` to ``(q,)``; 0 for empty masks."""
    inside = (mask_logits > 0).flatten(1)
    total = torch.where(inside, mask_logits.sigmoid().flatten(1), 0.0).sum(1)
    return total / (inside.sum(1) + 1e-6)


def rescored(pairs: Instances, quality: Tensor) -> Instances:
    """Scores times the quality ``(q,)`` of every query's mask, sorted by score, then query, then class."""
    score = pairs.score * quality[pairs.query]
    classes = int(pairs.category.max()) + 1 if len(score) else 1
    order = (pairs.query * classes + pairs.category).argsort()
    order = order[score[order].argsort(descending=True, stable=True)]
    return Instances(score[order], pairs.category[order], pairs.query[order])


def masks_and_quality(mask_logits: Tensor, queries: Tensor, sizes: Sizes) -> tuple[Tensor, Tensor]:
    """Masks ``(k, H, W)`` bool of ``queries`` ``(k,)`` at the size of the result, and the quality of each ``(k,)``.

    A few masks at a time are resized: the logits of all of them at the size of a photograph are never in memory.
    """
    pixels = max(sizes.padded[0] * sizes.padded[1], sizes.output[0] * sizes.output[1])
    masks, quality = [mask_logits.new_zeros(0, *sizes.output, dtype=torch.bool)], [mask_logits.new_zeros(0)]
    for some in queries.split(max(CHUNK // pixels, 1)):
        logits = resized(mask_logits[some], sizes)
        masks.append(logits > 0)
        quality.append(mask_quality(logits))
    return torch.cat(masks), torch.cat(quality)


def resized_argmax(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Argmax over the classes of bilinearly resized logits: ``(classes, h, w)`` -> ``(H, W)`` int32."""
    if logits.shape[1:] == size:
        return logits.argmax(0).int()
    return torch.cat([strip.argmax(0).int() for strip in _resized_strips(logits, size)])


def mean_argmax(maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Argmax of the mean softmax of bilinearly resized logits: several ``(classes, h, w)`` -> ``(H, W)`` int32."""
    strips = zip(*(_resized_strips(logits, size) for logits in maps), strict=True)
    return torch.cat([sum(strip.softmax(0) for strip in together).argmax(0).int() for together in strips])


def _resized_strips(logits: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
    """Rows of the resized logits from top to bottom, ``(classes, rows, W)`` each.

    Logits of all classes at the size of a large photograph are never in memory at once.
    """
    classes, h, _ = logits.shape
    height, width = size
    place = ((torch.arange(height, device=logits.device) + 0.5) * (h / height) - 0.5).clamp(0, h - 1)
    low = place.long()
    far = (place - low)[:, None]
    step = max(STRIP // (classes * width), 1)
    for first in range(0, height, step):
        rows = slice(first, first + step)
        upper, lower = logits[:, low[rows]], logits[:, (low[rows] + 1).clamp(max=h - 1)]
        strip = torch.lerp(upper, lower, far[rows].to(logits.dtype))
        yield F.interpolate(strip[None], size=(strip.shape[1], width), mode="bilinear", align_corners=False)[0]
