"""What a prediction of things and stuff is worth: one record per image, and the figures of all records.

A record is plain JSON, so that it survives a kill and travels between processes. Records are added up in the order of
the images: the figures do not depend on how many processes made them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..data.coco_files import InstanceFiles, PanopticFiles
from ..data.png_ids import ids_to_png
from ..data.samples import InstanceSample, PanopticSample
from ..data.submissions import instance_results, panoptic_annotation, write_panoptic, write_results
from ..data.writing import write_png
from ..data.youtubevis import VideoFiles
from ..metrics.instance import instance_ap
from ..metrics.panoptic import PanopticQuality
from ..prediction import Prediction
from .video_judge import VideoJudge

Record = Any
Figures = dict[str, float]


class Judge(Protocol):
    """Scores the predictions of one data set."""

    def record(self, sample: Any, prediction: Any) -> Record:
        """What one image or clip adds, as plain JSON."""

    def figures(self, records: Sequence[Record]) -> tuple[Figures, dict[str, Figures]]:
        """Headline figures, and those of every class that has any, of the first images of the data set."""

    def submit(self, records: Sequence[Record]) -> Path | None:
        """Write the submission file if there shall be one; returns its path."""


class PanopticJudge:
    """Panoptic quality; submissions as the COCO server takes them, ``panoptic.json`` and a folder of PNGs."""

    def __init__(self, data: PanopticFiles, folder: Path | None) -> None:
        self.data = data
        self.path = None if folder is None else folder / "panoptic.json"

    def record(self, sample: PanopticSample, prediction: Prediction) -> Record:
        """Counts of the classes that occur, and the entry of the submission; its PNG is written."""
        assert prediction.labels is not None
        quality = self._nothing()
        quality.add(sample.ids, sample.segments, prediction.labels, prediction.segments, sample.name)
        occurring = np.flatnonzero(quality.counts.any(0)).tolist()
        counts = [[index, float(quality.iou[index]), *quality.counts[:, index].tolist()] for index in occurring]
        if self.path is None:
            return {"counts": counts}
        ids = self.data.categories.ids
        entry = panoptic_annotation(sample.image_id, sample.name, prediction.labels, prediction.segments, ids)
        write_png(self.path.with_suffix("") / entry["file_name"], ids_to_png(prediction.labels))
        return {"counts": counts, "entry": entry}

    def figures(self, records: Sequence[Record]) -> tuple[Figures, dict[str, Figures]]:
        """PQ, SQ and RQ of all classes, things and stuff, 0..1."""
        quality = self._nothing()
        for record in records:
            for index, iou, *counts in record["counts"]:
                quality.iou[index] += iou
                quality.counts[:, index] += counts
        scores = quality.scores()
        classes = {
            self.data.classes[index]: {"PQ": one.pq, "SQ": one.sq, "RQ": one.rq}
            for index, one in scores.per_class.items()
        }
        return scores.figures(), classes

    def submit(self, records: Sequence[Record]) -> Path | None:
        """The JSON beside the PNGs; ValueError if one of an earlier run, which this one continues, is gone."""
        if self.path is None:
            return None
        folder = self.path.with_suffix("")
        if gone := [name for record in records if not (folder / (name := record["entry"]["file_name"])).is_file()]:
            raise ValueError(f"{folder}: {len(gone)} pictures of a run before are gone, such as {gone[0]}; start anew")
        return write_panoptic(self.path, [record["entry"] for record in records], self.data.truth)

    def _nothing(self) -> PanopticQuality:
        return PanopticQuality(len(self.data.classes), self.data.categories.things)


class InstanceJudge:
    """Average precision of masks; submissions as COCO results, ``results.json``.

    Results have no boxes, so that small, medium and large detections are told by their masks, as in Mask2Former's own
    evaluation.
    """

    def __init__(self, data: InstanceFiles, folder: Path | None) -> None:
        self.data = data
        self.path = None if folder is None else folder / "results.json"

    def record(self, sample: InstanceSample, prediction: Prediction) -> Record:
        """The COCO results of the image."""
        assert prediction.masks is not None
        categories = [segment.category for segment in prediction.segments]
        scores = [segment.score for segment in prediction.segments]
        ids = self.data.categories.ids
        return instance_results(sample.image_id, prediction.masks, categories, scores, ids, boxes=False)

    def figures(self, records: Sequence[Record]) -> tuple[Figures, dict[str, Figures]]:
        """The twelve COCO figures, 0..1; -1 where there is nothing to measure."""
        images = [record.entry["id"] for record in self.data.records[: len(records)]]
        scores = instance_ap(self.data.truth, _flat(records), image_ids=images)
        names = dict(zip(self.data.categories.ids, self.data.classes, strict=True))
        return scores.figures(), {names[category]: {"AP": ap} for category, ap in scores.per_class.items()}

    def submit(self, records: Sequence[Record]) -> Path | None:
        """All results in one list."""
        return None if self.path is None else write_results(self.path, _flat(records))


def _flat(records: Sequence[Record]) -> list[dict[str, Any]]:
    return [entry for record in records for entry in record]


JUDGES: Mapping[str, tuple[type, Callable[[Any, Path | None], Judge]]] = {
    "panoptic": (PanopticFiles, PanopticJudge),
    "instance": (InstanceFiles, InstanceJudge),
    "video": (VideoFiles, VideoJudge),
}
"""By task: the kind of data set, and who scores it."""
