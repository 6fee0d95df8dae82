"""Predictions in the official submission formats: COCO panoptic, COCO results, YouTubeVIS results."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .annotations import Id
from .rle import Rle, box, box_of, encode
from .samples import SegmentLike
from .writing import MARK, whole, write_json

Entry = dict[str, Any]


def panoptic_annotation(
    image_id: Id, name: str, ids: np.ndarray, segments: Iterable[SegmentLike], category_ids: Sequence[Id]
) -> Entry:
    """What the JSON of a panoptic submission says of one image.

    Args:
        image_id: as in the annotation file.
        name: of the PNG, without ending.
        ids: ``(H, W)`` segment ids, 0 = none.
        segments: what these ids are; those without a pixel are left out.
        category_ids: category id of every class index.

    Raises:
        ValueError: an id is not described.
    """
    described = {segment.id: segment.category for segment in segments}
    infos = []
    for id_ in np.unique(ids).tolist():
        if id_ == 0:
            continue
        if id_ not in described:
            raise ValueError(f"{name}: the map of ids holds segment {id_}, which is not described")
        mask = ids == id_
        category = category_ids[described[id_]]
        infos.append({"id": id_, "category_id": category, "area": int(mask.sum()), "bbox": box_of(mask), "iscrowd": 0})
    return {"image_id": image_id, "file_name": f"{name}.png", "segments_info": infos}


def write_panoptic(path: Path, annotations: Iterable[Entry], truth: Mapping[str, Any] | None = None) -> Path:
    """Write the JSON; images and categories are taken from ``truth``, the annotation file, where it is given."""
    copied = {key: truth[key] for key in ("images", "categories") if key in truth} if truth else {}
    write_json(path, {**copied, "annotations": list(annotations)})
    return path


def instance_results(
    image_id: Id,
    masks: np.ndarray,
    categories: Sequence[int],
    scores: Sequence[float],
    category_ids: Sequence[Id],
    boxes: bool = True,
) -> list[Entry]:
    """The instances of one image as COCO results.

    Args:
        image_id: as in the annotation file.
        masks: ``(n, H, W)`` bool.
        categories: n class indices.
        scores: n confidences, 0..1.
        category_ids: category id of every class index.
        boxes: add ``[x, y, w, h]`` around the masks. The COCO tools then tell small, medium and large detections by
            their boxes; without, by their masks, as Mask2Former's own evaluation does.
    """
    entries = []
    for rle, category, score in zip(encode(masks), categories, scores, strict=True):
        entry: Entry = {"image_id": image_id, "category_id": category_ids[category], "segmentation": rle}
        if boxes:
            entry["bbox"] = box(rle)
        entries.append({**entry, "score": float(score)})
    return entries


def track_results(
    video_id: Id,
    tracks: Sequence[Sequence[Rle | None]],
    categories: Sequence[int],
    scores: Sequence[float],
    category_ids: Sequence[Id],
) -> list[Entry]:
    """The tracks of one clip as YouTubeVIS results.

    ``tracks[i][t]`` is the mask of track i in frame t, ``None`` where it is not seen; the others as in
    ``instance_results``.
    """
    return [
        {
            "video_id": video_id,
            "category_id": category_ids[category],
            "segmentations": list(masks),
            "score": float(score),
        }
        for masks, category, score in zip(tracks, categories, scores, strict=True)
    ]


def write_results(path: Path, entries: Sequence[Entry]) -> Path:
    """Write COCO or YouTubeVIS results; returns the path."""
    write_json(path, list(entries))
    return path


def write_video_submission(folder: Path, entries: Sequence[Entry]) -> Path:
    """Write ``results.json``, and ``results.zip`` with it inside for the server; returns the path of the zip."""
    path = write_results(folder / "results.json", entries)
    packed = folder / "results.zip"
    with whole(packed) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = MARK.encode()
        archive.write(path, "results.json")
    return packed
