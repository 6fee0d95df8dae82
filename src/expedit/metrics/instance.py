"""Mask and box average precision of COCO: AP over IoU 0.50:0.05:0.95, at 0.50 and 0.75, by size, and average recall."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from ..data.rle import area, box, to_rle

Kind = Literal["segm", "bbox"]
Entry = dict[str, Any]
SizeRanges = tuple[tuple[float, float], ...]
COCO_SIZES: SizeRanges = ((0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10))
"""Areas in square pixels of: all, small, medium, large."""


@dataclass(frozen=True)
class AveragePrecision:
    """The twelve COCO figures, 0..1; -1 where the ground truth holds nothing to measure.

    Attributes:
        ap, ap50, ap75: mean over classes; over ten IoU thresholds, at 0.50, at 0.75; 100 detections an image.
        aps, apm, apl: ``ap`` of small, medium, large ones.
        ar1, ar10, ar100: recall with at most 1, 10, 100 detections an image.
        ars, arm, arl: ``ar100`` of small, medium, large ones.
        per_class: category id of the file to its ``ap``, for categories with ground truth.
    """

    ap: float
    ap50: float
    ap75: float
    aps: float
    apm: float
    apl: float
    ar1: float
    ar10: float
    ar100: float
    ars: float
    arm: float
    arl: float
    per_class: dict[int, float] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        """The twelve by the names of COCO: "AP", "AP50", "APs", "AR100", ..."""
        twelve = {name: value for name, value in asdict(self).items() if name != "per_class"}
        return {name[:2].upper() + name[2:]: value for name, value in twelve.items()}


def instance_ap(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    kind: Kind = "segm",
    image_ids: Collection[int | str] | None = None,
) -> AveragePrecision:
    """What the COCO server would report for a results file.

    The sizes of detections follow the COCO tools: where the first result has a box, all are measured by their boxes,
    else by their masks. Leave the boxes out to have masks measured, as Mask2Former's own evaluation does.

    Args:
        truth: an ``instances_*.json``: images, annotations, categories.
        results: ``{"image_id", "category_id", "segmentation", "score"}`` each, ``"bbox"`` optional.
        kind: compare masks or boxes.
        image_ids: evaluate on these images of the ground truth only.

    Raises:
        ValueError: a file without its fields, or a result of an unknown image or category.
    """
    images = by_id(truth, "images")
    chosen = sorted(images if image_ids is None else set(image_ids), key=lambda image: (isinstance(image, str), image))
    if unknown := [image for image in chosen if image not in images]:
        raise ValueError(f"image_ids: {unknown[0]!r} is not an image of the ground truth")
    place = {image: index + 1 for index, image in enumerate(chosen)}
    objects = [
        _entry(item, images, place, "annotation") | {"iscrowd": int(item.get("iscrowd", 0))}
        for item in required(truth, "annotations")
        if item.get("image_id") in place
    ]
    chosen_results = [item for item in results if owner(item, "image_id", images) in place]
    found = _found(chosen_results, images, place, boxed=bool(results and results[0].get("bbox")))
    canvases = [{"id": place[image], **_size(images[image])} for image in chosen]
    return average_precision(canvases, list(by_id(truth, "categories")), objects, found, kind)


def _found(
    results: Sequence[Mapping[str, Any]], images: Mapping[Any, Entry], place: Mapping[Any, int], boxed: bool
) -> list[Entry]:
    """Results as entries; ``boxed``: their area is that of their box."""
    found = []
    for item in results:
        entry = _entry({key: item[key] for key in item if key != "area"}, images, place, "result")
        entry["score"] = score_of(item)
        if boxed:
            entry["area"] = entry["bbox"][2] * entry["bbox"][3]
        found.append(entry)
    return found


def average_precision(
    images: Sequence[Entry],
    categories: Sequence[int],
    truth: Sequence[Entry],
    found: Sequence[Entry],
    kind: Kind = "segm",
    sizes: SizeRanges = COCO_SIZES,
) -> AveragePrecision:
    """The evaluation itself, on entries that have image_id, category_id, segmentation, bbox and area.

    ``truth`` entries have iscrowd too, ``found`` ones a score. ``sizes``: area ranges of all, small, medium, large.
    """
    from hotcoco import COCO, COCOeval

    known = set(categories)
    for entry in (*truth, *found):
        if entry["category_id"] not in known:
            raise ValueError(f"category {entry['category_id']!r} is not among the categories of the ground truth")
    places = {category: index + 1 for index, category in enumerate(sorted(known))}
    shared = {"images": list(images), "categories": [{"id": place, "name": str(place)} for place in places.values()]}
    sides = [COCO({**shared, "annotations": _numbered(side, places)}) for side in (truth, found)]
    evaluation = COCOeval(sides[0], sides[1], kind)
    evaluation.params.area_rng = [list(limits) for limits in sizes]
    evaluation.evaluate()
    evaluation.accumulate()
    measured: Any = evaluation.eval
    return _figures(measured["precision"], measured["recall"], sorted(known))


def _figures(precision: np.ndarray, recall: np.ndarray, categories: Sequence[int]) -> AveragePrecision:
    """From ``precision`` (10 IoU, 101 recall, classes, 4 sizes, 3 caps) and ``recall`` (10, classes, 4, 3)."""
    per_class = {category: _mean(precision[:, :, k, 0, 2]) for k, category in enumerate(categories)}
    figures = {
        **{name: _mean(precision[at, :, :, 0, 2]) for name, at in (("ap", slice(None)), ("ap50", 0), ("ap75", 5))},
        **{f"ap{size}": _mean(precision[:, :, :, place, 2]) for place, size in enumerate("sml", start=1)},
        **{f"ar{cap}": _mean(recall[:, :, 0, place]) for place, cap in enumerate((1, 10, 100))},
        **{f"ar{size}": _mean(recall[:, :, place, 2]) for place, size in enumerate("sml", start=1)},
    }
    return AveragePrecision(**figures, per_class={key: value for key, value in per_class.items() if value > -1})


def _mean(values: np.ndarray) -> float:
    """Mean of what could be measured; the evaluator marks the rest with -1."""
    measured = values[values > -1]
    return float(measured.mean()) if measured.size else -1.0


def _numbered(entries: Sequence[Entry], places: Mapping[int, int]) -> list[Entry]:
    return [{**entry, "id": n + 1, "category_id": places[entry["category_id"]]} for n, entry in enumerate(entries)]


def _entry(item: Mapping[str, Any], images: Mapping[Any, Entry], place: Mapping[Any, int], what: str) -> Entry:
    """One annotation or result with its mask, box and area, its image numbered from 1."""
    name = f"{what} of image {item.get('image_id')!r}"
    if "category_id" not in item:
        raise ValueError(f"{name}: expected a category_id, got only {sorted(item)}")
    size = _size(images[item["image_id"]])
    entry: Entry = {"image_id": place[item["image_id"]], "category_id": item["category_id"]}
    try:
        if item.get("segmentation"):
            entry["segmentation"] = to_rle(item["segmentation"], size["height"], size["width"])
        elif not item.get("bbox"):
            raise ValueError("expected a segmentation or a bbox, got neither")
        entry["bbox"] = [float(side) for side in item.get("bbox") or box(entry["segmentation"])]
        if len(entry["bbox"]) != 4:
            raise ValueError(f"expected a bbox of four numbers, got {len(entry['bbox'])}")
        if "segmentation" not in entry:
            entry["segmentation"] = to_rle([_corners(*entry["bbox"])], size["height"], size["width"])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    entry["area"] = float(item["area"]) if "area" in item else area(entry["segmentation"])
    return entry


def _corners(x: float, y: float, width: float, height: float) -> list[float]:
    return [x, y, x, y + height, x + width, y + height, x + width, y]


def _size(image: Mapping[str, Any]) -> dict[str, int]:
    try:
        return {"height": int(image["height"]), "width": int(image["width"])}
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"image {image.get('id')!r}: expected a height and a width in pixels") from None


def by_id(truth: Mapping[str, Any], what: str) -> dict[Any, Entry]:
    """The list ``what`` of an annotation file by the ids in it."""
    try:
        return {item["id"]: item for item in required(truth, what)}
    except (KeyError, TypeError):
        raise ValueError(f"the ground truth: expected every entry of {what!r} to have an id") from None


def required(truth: Mapping[str, Any], what: str) -> list[Entry]:
    """The list ``what`` of an annotation file; ValueError where there is none."""
    if not isinstance(truth.get(what), list):
        raise ValueError(
            f"the ground truth has no list {what!r}: expected images or videos, annotations and categories"
        )
    entries: list[Entry] = truth[what]
    return entries


def owner(item: Mapping[str, Any], key: str, known: Mapping[Any, Entry]) -> int | str:
    """The image or video that an annotation or result belongs to; ValueError for one that is not known."""
    value = item.get(key)
    if not isinstance(value, (int, str)) or value not in known:
        raise ValueError(f"an annotation or result has {key} {value!r}, which the ground truth does not list")
    return value


def score_of(item: Mapping[str, Any]) -> float:
    """The confidence of a result; ValueError where it is none."""
    score = item.get("score")
    if not isinstance(score, (int, float)) or not np.isfinite(score):
        raise ValueError(f"a result has score {score!r}: expected a finite number")
    return float(score)
