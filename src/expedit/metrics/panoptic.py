"""Panoptic quality (Kirillov et al., "Panoptic Segmentation", CVPR 2019), matched and averaged as the COCO tools do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..data.samples import SegmentLike, TrueSegment

VOID = 0


@dataclass(frozen=True)
class Quality:
    """PQ = SQ x RQ, 0..1, averaged over the ``classes`` that occur in ground truth or prediction."""

    pq: float
    sq: float
    rq: float
    classes: int


@dataclass(frozen=True)
class PanopticScores:
    """All classes, things, stuff, and class index to quality for the classes that occur."""

    all: Quality
    things: Quality
    stuff: Quality
    per_class: dict[int, Quality] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        """The nine headline figures: "PQ", "SQ", "RQ", and the same of things ("PQ_th") and stuff ("PQ_st")."""
        groups = (("", self.all), ("_th", self.things), ("_st", self.stuff))
        return {f"{name.upper()}{end}": getattr(group, name) for end, group in groups for name in ("pq", "sq", "rq")}


class PanopticQuality:
    """Add one image after the other, then ask for ``scores()``; counts of several processes ``merge``.

    A predicted and a true segment of one class match where their IoU exceeds 0.5, void pixels (id 0) left out of the
    union. Predictions that lie mostly on void, or on a crowd of their own class, are not counted as wrong; crowds need
    not be found.
    """

    def __init__(self, classes: int, things: Collection[int]) -> None:
        """Class indices are 0..classes-1; those in ``things`` are countable, the others stuff."""
        if unknown := [thing for thing in things if not 0 <= thing < classes]:
            raise ValueError(f"things: expected class indices below {classes}, got {unknown[0]}")
        self.things = frozenset(things)
        self.iou = np.zeros(classes)
        self.counts = np.zeros((3, classes), dtype=np.int64)
        """Matched, wrong and missed segments by class."""

    def add(
        self,
        true_ids: np.ndarray,
        true_segments: Sequence[TrueSegment],
        ids: np.ndarray,
        segments: Iterable[SegmentLike],
        name: str = "prediction",
    ) -> None:
        """Count one image.

        Args:
            true_ids: ``(H, W)`` segment ids of the ground truth, 0 is void.
            true_segments: what these ids are.
            ids: ``(H, W)`` predicted segment ids, 0 is void.
            segments: what these ids are.
            name: of the image, for messages.

        Raises:
            ValueError: sizes differ, ids and segments do not agree, or a class is unknown.
        """
        if true_ids.shape != ids.shape:
            raise ValueError(f"{name}: expected a map of ids of shape {true_ids.shape}, got {ids.shape}")
        overlaps, areas = _overlaps(true_ids, ids)
        found = self._checked(segments, areas, name)
        known = {segment.id: segment for segment in true_segments}
        matched_true, matched = self._match(known, found, areas, overlaps)
        crowds: dict[int, int] = {}
        for segment in true_segments:
            if segment.iscrowd:
                crowds[segment.category] = segment.id  # the COCO tools keep a class's last crowd only
            elif segment.id not in matched_true:
                self.counts[2, segment.category] += 1
        for id_, category in found.items():
            if id_ in matched:
                continue
            forgiven = overlaps.get((VOID, id_), 0)
            if category in crowds:
                forgiven += overlaps.get((crowds[category], id_), 0)
            if forgiven / areas[id_] <= 0.5:
                self.counts[1, category] += 1

    def scores(self) -> PanopticScores:
        """The figures of everything added so far."""
        matched, wrong, missed = self.counts
        total = matched + 0.5 * wrong + 0.5 * missed
        sq = self.iou / np.maximum(matched, 1)
        pq, rq = self.iou / np.maximum(total, 0.5), matched / np.maximum(total, 0.5)
        occurring = [index for index in range(len(total)) if total[index] > 0]

        def mean(chosen: list[int]) -> Quality:
            if not chosen:
                return Quality(0.0, 0.0, 0.0, 0)
            means = [float(values[chosen].mean()) for values in (pq, sq, rq)]
            return Quality(means[0], means[1], means[2], len(chosen))

        return PanopticScores(
            mean(occurring),
            mean([index for index in occurring if index in self.things]),
            mean([index for index in occurring if index not in self.things]),
            {index: mean([index]) for index in occurring},
        )

    def _checked(self, segments: Iterable[SegmentLike], areas: dict[int, int], name: str) -> dict[int, int]:
        """Predicted id to class, in agreement with the map of ids."""
        found = {segment.id: segment.category for segment in segments}
        if missing := found.keys() - areas.keys():
            raise ValueError(f"{name}: segment {min(missing)} is described but has no pixel in the map of ids")
        if extra := areas.keys() - found.keys() - {VOID}:
            raise ValueError(f"{name}: the map of ids holds segment {min(extra)}, which is not described")
        if unknown := [category for category in found.values() if not 0 <= category < len(self.iou)]:
            raise ValueError(f"{name}: expected class indices below {len(self.iou)}, got {unknown[0]}")
        return found

    def _match(
        self,
        known: dict[int, TrueSegment],
        found: dict[int, int],
        areas: dict[int, int],
        overlaps: dict[tuple[int, int], int],
    ) -> tuple[set[int], set[int]]:
        """Counts the matches; ids of the true and of the predicted segments that have one."""
        matched_true, matched = set(), set()
        for (true_id, id_), overlap in overlaps.items():
            segment = known.get(true_id)
            if segment is None or id_ not in found or segment.iscrowd or segment.category != found[id_]:
                continue
            union = areas[id_] + segment.area - overlap - overlaps.get((VOID, id_), 0)
            if overlap / union > 0.5:
                self.counts[0, segment.category] += 1
                self.iou[segment.category] += overlap / union
                matched_true.add(true_id)
                matched.add(id_)
        return matched_true, matched


def _overlaps(true_ids: np.ndarray, ids: np.ndarray) -> tuple[dict[tuple[int, int], int], dict[int, int]]:
    """Pixels by (true id, predicted id), and by predicted id."""
    pairs = true_ids.astype(np.int64) << 32 | ids.astype(np.int64)
    values, counts = np.unique(pairs, return_counts=True)
    overlaps: dict[tuple[int, int], int] = {}
    areas: dict[int, int] = {}
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        true_id, id_ = value >> 32, value & 0xFFFFFFFF
        overlaps[true_id, id_] = count
        areas[id_] = areas.get(id_, 0) + count
    return overlaps, areas
