"""Average precision of tracks, YouTubeVIS: the IoU of two tubes sums intersections and unions over the frames.

The frames of a video side by side make one wide image, and a tube in it one mask, so the COCO evaluation does the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..data.rle import area, side_by_side, to_rle
from .instance import AveragePrecision, Entry, SizeRanges, average_precision, by_id, owner, required, score_of

VIDEO_SIZES: SizeRanges = ((0, 1e10), (0, 128**2), (128**2, 256**2), (256**2, 1e10))
"""Mean area of a track over its non-empty frames, in square pixels: all, small, medium, large."""


def video_ap(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    video_ids: Collection[int | str] | None = None,
) -> AveragePrecision:
    """What the YouTubeVIS evaluation reports for a ``results.json``.

    Args:
        truth: an annotation file of a split with ground truth: videos, annotations, categories.
        results: ``{"video_id", "category_id", "segmentations", "score"}`` each; ``segmentations[t]`` is the mask of
            frame t or null.
        video_ids: evaluate on these videos of the ground truth only.

    Raises:
        ValueError: a file without its fields, a track with another number of frames or another size than its video,
            or one of an unknown video or category.
    """
    videos = by_id(truth, "videos")
    chosen = sorted(videos if video_ids is None else set(video_ids))
    if unknown := [video for video in chosen if video not in videos]:
        raise ValueError(f"video_ids: {unknown[0]!r} is not a video of the ground truth")
    place = {video: index + 1 for index, video in enumerate(chosen)}
    tracks = [
        _tube(item, videos, place, item.get("areas")) | {"iscrowd": int(item.get("iscrowd", 0))}
        for item in required(truth, "annotations")
        if item.get("video_id") in place
    ]
    found = []
    for item in results:
        if owner(item, "video_id", videos) in place:
            found.append(_tube(item, videos, place, None) | {"score": score_of(item)})
    canvases = [_canvas(videos[video], place[video]) for video in chosen]
    return average_precision(canvases, list(by_id(truth, "categories")), tracks, found, sizes=VIDEO_SIZES)


def _canvas(video: Mapping[str, Any], place: int) -> Entry:
    height, width, length = _shape(video)
    return {"id": place, "height": height, "width": width * length}


def _shape(video: Mapping[str, Any]) -> tuple[int, int, int]:
    """Height, width and number of frames."""
    try:
        length = video["length"] if "length" in video else len(video["file_names"])
        return int(video["height"]), int(video["width"]), int(length)
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"video {video['id']!r}: expected a height, a width and a length or file_names") from None


def _tube(
    item: Mapping[str, Any], videos: Mapping[Any, Entry], place: Mapping[Any, int], areas: Sequence[float | None] | None
) -> Entry:
    """One track as one mask of the video's canvas; ``areas`` per frame where the file has them."""
    height, width, length = _shape(videos[item["video_id"]])
    name = f"track of video {item['video_id']!r}"
    masks = item.get("segmentations")
    if "category_id" not in item or not isinstance(masks, list):
        raise ValueError(f"{name}: expected a category_id and segmentations, got only {sorted(item)}")
    if len(masks) != length:
        raise ValueError(f"{name}: expected {length} segmentations, one per frame (null: absent), got {len(masks)}")
    try:
        frames = [to_rle(mask, height, width) if mask else None for mask in masks]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if areas is None:
        areas = [area(frame) for frame in frames if frame is not None]
    seen = [float(value) for value in areas if value]
    return {
        "image_id": place[item["video_id"]],
        "category_id": item["category_id"],
        "segmentation": side_by_side(frames, height, width),
        "bbox": [0.0, 0.0, 0.0, 0.0],
        "area": sum(seen) / len(seen) if seen else 0.0,
    }
