"""Panoptic quality, and average precision of masks and of tracks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import nn

from ..data.coco_files import InstanceFiles, PanopticFiles
from ..data.png_ids import ids_to_png
from ..data.rle import decode, to_rle
from ..data.samples import InstanceSample, PanopticSample, TrueInstance, TrueTrack, VideoClip
from ..data.submissions import (
    instance_results,
    panoptic_annotation,
    track_results,
    write_panoptic,
    write_results,
    write_video_submission,
)
from ..data.writing import remove_partials, write_png
from ..data.youtubevis import VideoFiles
from ..metrics.instance import AveragePrecision, instance_ap
from ..metrics.panoptic import PanopticQuality
from ..metrics.video import video_ap
from ..models.card import Card
from ..models.video_mask2former import FRAME_BATCH
from ..prediction import Prediction, Segment
from ..video import Tracks, track
from .judge import Judge, Metric, Record, Scores

DRAWN_SCORE = 0.5
"""Score from which on instances and tracks are drawn."""


@dataclass(frozen=True)
class PanopticJudge(Judge):
    """Panoptic quality; submissions as the COCO server takes them, ``panoptic.json`` and a folder of PNGs."""

    task: ClassVar[str] = "panoptic"
    kind: ClassVar[Any] = PanopticFiles
    headline: ClassVar[Metric] = Metric("PQ", "PQ", "panoptic quality")

    def record(self, sample: PanopticSample, prediction: Prediction, reference: Prediction | None) -> Record:
        """Counts of the classes that occur, and the entry of the submission; its PNG is written."""
        assert prediction.labels is not None
        quality = self._nothing()
        quality.add(sample.ids, sample.segments, prediction.labels, prediction.segments, sample.name)
        occurring = np.flatnonzero(quality.counts.any(0)).tolist()
        counts = [[index, float(quality.iou[index]), *quality.counts[:, index].tolist()] for index in occurring]
        if self.submission is None:
            return {"counts": counts}
        ids = self.data.categories.ids
        entry = panoptic_annotation(sample.image_id, sample.name, prediction.labels, prediction.segments, ids)
        write_png(self.submission / "panoptic" / entry["file_name"], ids_to_png(prediction.labels))
        return {"counts": counts, "entry": entry}

    def scores(self, records: Sequence[Record]) -> Scores:
        """PQ, SQ and RQ of all classes, things and stuff, 0..1."""
        quality = self._nothing()
        for record in records:
            for index, iou, *counts in record["counts"]:
                quality.iou[index] += iou
                quality.counts[:, index] += counts
        found = quality.scores()
        names = self.data.classes
        per_class = {names[i]: {"PQ": one.pq, "SQ": one.sq, "RQ": one.rq} for i, one in found.per_class.items()}
        return Scores(found.figures(), per_class)

    def submit(self, records: Sequence[Record]) -> Path | None:
        """The JSON beside the PNGs; ValueError if one of an earlier run, which this one continues, is gone."""
        if self.submission is None:
            return None
        folder = self.submission / "panoptic"
        if gone := [name for record in records if not (folder / (name := record["entry"]["file_name"])).is_file()]:
            raise ValueError(f"{folder}: {len(gone)} pictures of a run before are gone, such as {gone[0]}; start anew")
        remove_partials(folder)  # all processes have written; a server unpacks whatever lies there
        return write_panoptic(folder.with_suffix(".json"), [record["entry"] for record in records], self.data.truth)

    def truth(self, sample: PanopticSample) -> Prediction:
        """The segments of the annotation file."""
        things = self.data.categories.things
        segments = tuple(Segment(s.id, s.category, 1.0, s.category in things) for s in sample.segments)
        return Prediction("panoptic", self.card.classes, self.card.palette, sample.ids, segments)

    def _nothing(self) -> PanopticQuality:
        return PanopticQuality(len(self.data.classes), self.data.categories.things)


@dataclass(frozen=True)
class InstanceJudge(Judge):
    """Average precision of masks; submissions as COCO results, ``results.json``.

    Results have no boxes, so that small, medium and large detections are measured by their masks, as in Mask2Former's
    own evaluation.
    """

    task: ClassVar[str] = "instance"
    kind: ClassVar[Any] = InstanceFiles
    headline: ClassVar[Metric] = Metric("AP", "AP", "average precision of masks over ten IoU thresholds")

    def record(self, sample: InstanceSample, prediction: Prediction, reference: Prediction | None) -> Record:
        """The image's id in the annotation file, and its COCO results."""
        assert prediction.masks is not None
        categories = [segment.category for segment in prediction.segments]
        scores = [segment.score for segment in prediction.segments]
        ids = self.data.categories.ids
        results = instance_results(sample.image_id, prediction.masks, categories, scores, ids, boxes=False)
        return {"image": sample.image_id, "results": results}

    def scores(self, records: Sequence[Record]) -> Scores:
        """The twelve COCO scores, 0..1, of the images that have a record."""
        images = [record["image"] for record in records]
        return _precision(instance_ap(self.data.truth, _results(records), image_ids=images), self.data)

    def submit(self, records: Sequence[Record]) -> Path | None:
        """All results in one list."""
        return None if self.submission is None else write_results(self.submission / "results.json", _results(records))

    def picture(self, sample: InstanceSample, prediction: Prediction) -> Prediction:
        """The instances of which the model is sure."""
        assert prediction.masks is not None
        sure = [place for place, segment in enumerate(prediction.segments) if segment.score >= DRAWN_SCORE]
        segments = tuple(prediction.segments[place] for place in sure)
        return replace(prediction, segments=segments, masks=prediction.masks[sure])

    def truth(self, sample: InstanceSample) -> Prediction:
        """The objects of the annotation file."""
        return _objects(self.card, sample.instances, sample.masks())


@dataclass(frozen=True)
class VideoJudge(Judge):
    """Average precision of tracks; submissions as the server takes them, ``results.json`` and ``results.zip``.

    Pictures are of the first frame.

    Attributes:
        frame_batch, window, overlap: as for ``expedit.video.track``; published are whole clips.
    """

    frame_batch: int = FRAME_BATCH
    window: int | None = None
    overlap: int | None = None

    task: ClassVar[str] = "video"
    kind: ClassVar[Any] = VideoFiles
    headline: ClassVar[Metric] = Metric("AP", "AP", "average precision of tracks over ten IoU thresholds")

    def prepare(self, model: nn.Module, sample: VideoClip) -> None:
        """Nothing: frames are decoded and prepared while the model works on those before."""

    def predict(self, model: nn.Module, sample: VideoClip, views: None) -> Tracks:
        """The tracks of the clip."""
        settings = {"frame_batch": self.frame_batch, "window": self.window, "overlap": self.overlap}
        return track(model, sample.frames, **settings)  # type: ignore[arg-type]

    def record(self, sample: VideoClip, prediction: Tracks, reference: Tracks | None) -> Record:
        """The clip's id in the annotation file, and its results; ValueError if it has other frames than stated."""
        seen, stated = (prediction.frames, *prediction.size), (len(sample.frames), *sample.size)
        if seen != stated:
            raise ValueError(f"{sample.name}: expected {stated} frames, rows and columns, got {seen}")
        categories = [segment.category for segment in prediction.segments]
        scores = [segment.score for segment in prediction.segments]
        ids = self.data.categories.ids
        results = track_results(sample.video_id, prediction.masks, categories, scores, ids)
        return {"video": sample.video_id, "results": results}

    def scores(self, records: Sequence[Record]) -> Scores:
        """The twelve scores, 0..1, of the clips that have a record; none where the ground truth is not public."""
        if not self.data.truth.get("annotations"):
            return Scores({})
        videos = [record["video"] for record in records]
        return _precision(video_ap(self.data.truth, _results(records), video_ids=videos), self.data)

    def submit(self, records: Sequence[Record]) -> Path | None:
        """All results in one list, and in a zip; returns the path of the zip."""
        return None if self.submission is None else write_video_submission(self.submission, _results(records))

    def picture(self, sample: VideoClip, prediction: Tracks) -> Prediction:
        """The tracks in the first frame."""
        return prediction.picture(0, DRAWN_SCORE)

    def truth(self, sample: VideoClip) -> Prediction | None:
        """The annotated tracks in the first frame, where the ground truth is public."""
        seen = [one for one in sample.tracks if one.segmentations[0]]
        masks = [decode(to_rle(one.segmentations[0], *sample.size)) for one in seen]
        return _objects(self.card, seen, np.stack(masks)) if masks else None

    def image(self, sample: VideoClip) -> np.ndarray:
        """The first frame."""
        return sample.frames[0]


def _objects(card: Card, objects: Sequence[TrueInstance | TrueTrack], masks: np.ndarray) -> Prediction:
    """Annotated objects with their ``(n, H, W)`` bool masks."""
    segments = tuple(Segment(place, one.category, 1.0) for place, one in enumerate(objects))
    return Prediction("instance", card.classes, card.palette, segments=segments, masks=masks)


def _results(records: Sequence[Record]) -> list[dict[str, Any]]:
    return [entry for record in records for entry in record["results"]]


def _precision(found: AveragePrecision, data: Any) -> Scores:
    """The scores of a COCO evaluation, which says -1 where there is nothing to measure."""
    names = dict(zip(data.categories.ids, data.classes, strict=True))
    overall = {name: None if value < 0 else value for name, value in found.figures().items()}
    return Scores(overall, {names[category]: {"AP": ap} for category, ap in found.per_class.items()})
