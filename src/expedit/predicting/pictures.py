"""What a prediction of one image becomes: files by kind, each made only if it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..prediction import Prediction, Segment
from . import SURE


@dataclass(frozen=True)
class Shown:
    """An image, what was found in it, and how it is to be shown.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        prediction: of the image.
        min_score: of instances that are drawn.
        facts: what the JSON says of the run.
        tokens: the picture of the token clusters, if one was asked for.
    """

    image: np.ndarray
    prediction: Prediction
    min_score: float = SURE
    facts: Mapping[str, Any] = field(default_factory=dict)
    tokens: np.ndarray | None = None


@dataclass(frozen=True)
class Kind:
    """One file of a prediction: how its name ends after that of the image, and its content."""

    end: str
    make: Callable[[Shown], Any]


def semantic_labels(shown: Shown) -> np.ndarray:
    """Class of every pixel: ``(H, W)`` uint8, uint16 where there are more than 256 classes."""
    labels, classes = shown.prediction.labels, shown.prediction.classes
    assert labels is not None
    return labels.astype("uint8" if len(classes) <= 256 else "uint16")


def _mask(shown: Shown) -> np.ndarray:
    from .. import draw

    assert shown.prediction.labels is not None
    return draw.colorize(shown.prediction.labels, shown.prediction.palette, ignore=None)


def _overlay(shown: Shown) -> np.ndarray:
    from .. import draw

    assert shown.prediction.labels is not None
    return draw.overlay(shown.image, shown.prediction.labels, shown.prediction.palette, ignore=None)


def _legend(shown: Shown) -> np.ndarray:
    from .. import draw

    prediction = shown.prediction
    assert prediction.labels is not None
    present = set(np.flatnonzero(np.bincount(prediction.labels.ravel())).tolist())
    return draw.legend(prediction.classes, prediction.palette, present)


def semantic_classes(prediction: Prediction) -> list[dict[str, Any]]:
    """The classes of an image by falling area."""
    assert prediction.labels is not None
    pixels = np.bincount(prediction.labels.ravel())
    order = sorted(np.flatnonzero(pixels).tolist(), key=lambda index: -pixels[index])
    return [
        {"id": i, "name": prediction.classes[i], "color": list(prediction.palette[i]), "pixels": int(pixels[i])}
        for i in order
    ]


def panoptic_ids(shown: Shown) -> np.ndarray:
    """Segment ids as COCO codes them in RGB."""
    from ..data.png_ids import ids_to_png

    assert shown.prediction.labels is not None
    return ids_to_png(shown.prediction.labels)


def _segments(shown: Shown) -> np.ndarray:
    """Panoptic segments, or the instances of at least ``min_score``, over the image."""
    from .. import draw

    found = shown.prediction
    if found.masks is not None:
        sure = [place for place, segment in enumerate(found.segments) if segment.score >= shown.min_score]
        found = replace(found, segments=tuple(found.segments[place] for place in sure), masks=found.masks[sure])
    return draw.segments(shown.image, found)


def panoptic_segments(prediction: Prediction) -> list[dict[str, Any]]:
    """What each id is, how large, and where."""
    from ..data.rle import box_of

    labels = prediction.labels
    assert labels is not None
    areas = np.bincount(labels.ravel())
    return [
        {
            "id": segment.id,
            **_named(segment, prediction),
            "is_thing": segment.is_thing,
            "area": int(areas[segment.id]),
            "bbox": box_of(labels == segment.id),
        }
        for segment in prediction.segments
    ]


def instances(prediction: Prediction) -> list[dict[str, Any]]:
    """Every instance with its mask as COCO run lengths."""
    from ..data.rle import area, box, encode

    assert prediction.masks is not None
    return [
        {**_named(segment, prediction), "area": int(area(mask)), "bbox": box(mask), "segmentation": mask}
        for segment, mask in zip(prediction.segments, encode(prediction.masks), strict=True)
    ]


def _depth_facts(prediction: Prediction) -> dict[str, Any]:
    values, kind = prediction.depth, prediction.depth_kind
    assert values is not None
    low, middle, high = (float(value) for value in np.percentile(values, (0, 50, 100)))
    unit = "metres" if kind == "metric" else "inverse depth, up to a scale and a shift"
    return {"unit": unit, "least": low, "median": middle, "largest": high}


def _feature_facts(prediction: Prediction) -> dict[str, Any]:
    assert prediction.features is not None
    return dict(zip(("height", "width", "channels"), prediction.features.shape, strict=True))


def _depth(shown: Shown) -> np.ndarray:
    from .. import draw_values

    assert shown.prediction.depth is not None
    return draw_values.depth(shown.prediction.depth, shown.prediction.depth_kind)


def _features(shown: Shown) -> np.ndarray:
    """Three principal components as colours."""
    from .. import draw_values

    assert shown.prediction.features is not None
    return draw_values.enlarged(draw_values.components(shown.prediction.features))


def _named(segment: Segment, prediction: Prediction) -> dict[str, Any]:
    return {
        "category": segment.category,
        "name": prediction.classes[segment.category],
        "score": round(segment.score, 6),
    }


FACTS: dict[str, tuple[str, Callable[[Prediction], Any]]] = {
    "semantic": ("classes", semantic_classes),
    "panoptic": ("segments", panoptic_segments),
    "instance": ("instances", instances),
    "depth": ("depth", _depth_facts),
    "features": ("features", _feature_facts),
}
"""By task: what the JSON says of the prediction, and under which name."""


def _facts(shown: Shown) -> dict[str, Any]:
    """The JSON of an image."""
    name, make = FACTS[shown.prediction.task]
    return {**shown.facts, "task": shown.prediction.task, name: make(shown.prediction)}


def run_lengths(prediction: Prediction) -> list[dict[str, Any]]:
    """Every class, segment or instance with its mask as COCO run lengths."""
    from ..data.rle import encode

    _, make = FACTS[prediction.task]
    found: list[dict[str, Any]] = make(prediction)
    if prediction.labels is None:
        return found
    masks = (encode((prediction.labels == one["id"])[None]) for one in found)
    return [{**one, "segmentation": mask} for one, (mask,) in zip(found, masks, strict=True)]


def _rle(shown: Shown) -> dict[str, Any]:
    name, _ = FACTS[shown.prediction.task]
    return {**shown.facts, "task": shown.prediction.task, name: run_lengths(shown.prediction)}


_JSON, _RLE, _TOKENS = Kind(".json", _facts), Kind("_rle.json", _rle), Kind("_tokens.png", lambda shown: shown.tokens)
_SEGMENTS = Kind("_overlay.png", _segments)

KINDS: dict[str, dict[str, Kind]] = {
    "semantic": {
        "labels": Kind("_labels.png", semantic_labels),
        "mask": Kind("_mask.png", _mask),
        "overlay": Kind("_overlay.png", _overlay),
        "legend": Kind("_legend.png", _legend),
        "tokens": _TOKENS,
        "json": _JSON,
        "rle": _RLE,
    },
    "panoptic": {
        "labels": Kind("_panoptic.png", panoptic_ids),
        "overlay": _SEGMENTS,
        "tokens": _TOKENS,
        "json": _JSON,
        "rle": _RLE,
    },
    "instance": {"overlay": _SEGMENTS, "tokens": _TOKENS, "json": _JSON, "rle": _RLE},
    "depth": {
        "labels": Kind("_depth.npy", lambda shown: shown.prediction.depth),
        "overlay": Kind("_depth.png", _depth),
        "tokens": _TOKENS,
        "json": _JSON,
    },
    "features": {
        "labels": Kind("_features.npy", lambda shown: shown.prediction.features),
        "overlay": Kind("_features.png", _features),
        "tokens": _TOKENS,
        "json": _JSON,
    },
}
"""By task and the name that ``--write`` gives it. "labels" is the result itself as numbers, "overlay" as a picture."""

ASKED = ("tokens", "rle", "parquet")
"""What is written only if it is asked for; so are features as numbers."""
FEW = 100
"""Images up to which everything is written, if nothing else is asked for."""


def usual(task: str, images: int) -> tuple[str, ...]:
    """What is written of that many images where nothing else is asked for."""
    kinds = tuple(kind for kind in KINDS[task] if kind not in ASKED)
    if task == "features":
        return tuple(kind for kind in kinds if kind != "labels")
    return kinds if images <= FEW else tuple(kind for kind in kinds if kind in ("labels", "json"))
