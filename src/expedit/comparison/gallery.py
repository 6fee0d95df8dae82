"""Pictures of a report: every example with what each method makes of it."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from .. import draw, draw_values
from ..evaluation.agreement import cosines
from ..prediction import Prediction
from .plots import data_uri
from .result import Example, View

IGNORE = 255
"""Class of pixels that do not count."""

LONGEST = 800
"""Pixels of a picture's longer side on the page."""


def check_examples(examples: Sequence[Example]) -> None:
    """ValueError where an example has no view, or a prediction another size than its picture."""
    for example in examples:
        if not example.views:
            raise ValueError(f"{example.name}: expected the dense view first, got no views")
        size = example.image.shape[:2]
        for name, found in {"truth": example.truth, **{view.spec: view.prediction for view in example.views}}.items():
            if found is not None and found.features is None and _size(found) != size:
                raise ValueError(f"{example.name}, {name}: expected a prediction of shape {size}, got {_size(found)}")


def gallery(example: Example) -> dict[str, Any]:
    """Pictures of one example: what is given, then a card for each method."""
    truth, (dense, *others) = example.truth, example.views
    given = [("Picture", _photo(example.image))]
    if truth is not None:
        given.append(("Ground truth", _drawn(example.image, truth)))
    given.append(("Dense prediction", _drawn(example.image, dense.prediction)))
    labels, right = class_map(dense.prediction), None if truth is None else class_map(truth)
    if labels is not None and right is not None:
        share = _agreement(labels, right)
        shown = draw.difference(small(labels), small(right), IGNORE)
        given.append((f"Dense against truth: {share:.1%} equal", _mask(shown)))
    height, width = example.image.shape[:2]
    cards = [_card(example.image, view, labels, dense.prediction) for view in others]
    return {
        "name": example.name,
        "shape": f"{width} / {height}",
        "given": given,
        "cards": cards,
        "over": dense.prediction.task == "semantic",  # colours that are drawn over the picture
    }


def _card(image: np.ndarray, view: View, dense: np.ndarray | None, reference: Prediction) -> dict[str, Any]:
    """Prediction, difference from dense and clusters of one method on one picture."""
    pictures = [("Prediction", _drawn(image, view.prediction, reference))]
    labels, agreement = class_map(view.prediction), None
    if labels is not None and dense is not None:
        agreement = _agreement(labels, dense)
    pictures += [
        (caption, _mask(shown))
        for caption, shown in (change(view.prediction, reference), groups(image, view))
        if shown is not None
    ]
    return {"spec": view.spec, "agreement": agreement, "pictures": pictures, "clusters": view.owner is not None}


def change(prediction: Prediction, reference: Prediction) -> tuple[str, np.ndarray | None]:
    """Caption and picture of how a prediction departs from the dense one; no picture of instances."""
    if reference.task == "features":
        shown = cosines(prediction, reference)
        return f"Cosine with dense, mean {shown.mean():.3f}", draw_values.enlarged(draw_values.shares(shown))
    if prediction.depth is not None and reference.depth is not None:
        apart = abs(prediction.depth - reference.depth) / max(float(abs(reference.depth).mean()), 1e-12)
        return f"Distance from dense, mean {apart.mean():.1%}", draw_values.shares(small(1 - apart))
    labels, dense = class_map(prediction), class_map(reference)
    if labels is None or dense is None:
        return "Difference", None
    return "Difference", draw.difference(small(labels), small(dense), IGNORE)


def groups(image: np.ndarray, view: View) -> tuple[str, np.ndarray | None]:
    """Caption and picture of the clusters of tokens; no picture where there is no single map."""
    if view.owner is None:
        return "Clusters", None
    picture = draw.clusters(small(image if view.seen is None else view.seen), view.owner)
    return f"{len(np.unique(view.owner))} clusters", picture


def legend(examples: Sequence[Example]) -> list[tuple[str, str]]:
    """Name and CSS colour of every class that some picture shows."""
    present: dict[int, tuple[str, str]] = {}
    for example in examples:
        for found in (example.truth, *(view.prediction for view in example.views)):
            if found is not None and found.classes == example.views[0].prediction.classes:
                for index in _present(found):
                    present[index] = found.classes[index], "#" + bytes(found.palette[index]).hex()
    return [present[index] for index in sorted(present)]


def class_map(prediction: Prediction) -> np.ndarray | None:
    """``(H, W)`` class of every pixel, ``IGNORE`` for none; ``None`` of instances, which may overlap."""
    if prediction.task == "panoptic" and prediction.labels is not None:
        classes = np.full(1 + max((s.id for s in prediction.segments), default=0), IGNORE)
        for segment in prediction.segments:
            classes[segment.id] = segment.category
        return classes[np.where(prediction.labels < len(classes), prediction.labels, 0)]
    return prediction.labels


def _present(prediction: Prediction) -> list[int]:
    """Class indices that a prediction shows."""
    if prediction.task == "semantic" and prediction.labels is not None:
        return [index for index in np.unique(prediction.labels).tolist() if index < len(prediction.classes)]
    return [segment.category for segment in prediction.segments]


def _size(prediction: Prediction) -> tuple[int, ...]:
    if prediction.depth is not None:
        return prediction.depth.shape
    maps = prediction.masks if prediction.labels is None else prediction.labels[None]
    assert maps is not None, "a prediction has labels or masks"
    return maps.shape[1:]


def _agreement(labels: np.ndarray, reference: np.ndarray) -> float:
    """Share of equal pixels in 0..1 where the reference counts; nan where it never does."""
    counts = reference != IGNORE
    return float((labels == reference)[counts].mean()) if counts.any() else math.nan


def small(array: np.ndarray) -> np.ndarray:
    """Every n-th row and column of a picture or label map, so that the page stays light."""
    step = -(-max(array.shape[:2]) // LONGEST)
    return array[::step, ::step]


def picture_of(image: np.ndarray, prediction: Prediction, reference: Prediction | None = None) -> np.ndarray:
    """Classes and depth as colours, segments over the image, features by the components of the reference."""
    if prediction.depth is not None:
        return draw_values.depth(small(prediction.depth), prediction.depth_kind)
    if prediction.features is not None:
        other = prediction.features if reference is None or reference.features is None else reference.features
        return draw_values.enlarged(draw_values.components(prediction.features, draw_values.Components.of(other)))
    labels, masks = prediction.labels, prediction.masks
    if prediction.task == "semantic":
        assert labels is not None, "a semantic prediction has labels"
        return draw.colorize(small(labels), prediction.palette, IGNORE)
    smaller = replace(
        prediction,
        labels=None if labels is None else small(labels),
        masks=None if masks is None else np.moveaxis(small(np.moveaxis(masks, 0, 2)), 2, 0),
    )
    return draw.segments(small(image), smaller)


def _drawn(image: np.ndarray, prediction: Prediction, reference: Prediction | None = None) -> str:
    encoded = _photo if prediction.task in ("panoptic", "instance") else _mask
    return encoded(picture_of(image, prediction, reference))


def _photo(image: np.ndarray) -> str:
    """JPEG data URI."""
    photo, file = Image.fromarray(image), io.BytesIO()
    photo.thumbnail((LONGEST, LONGEST))
    photo.save(file, "JPEG", quality=88, subsampling=0)
    return data_uri("image/jpeg", file.getvalue())


def _mask(picture: np.ndarray) -> str:
    """PNG data URI, with a palette where there are at most 256 colours."""
    packed = picture.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colors, places = np.unique(packed, return_inverse=True)
    image = Image.fromarray(picture)
    if len(colors) <= 256:
        image = Image.fromarray(places.reshape(packed.shape).astype(np.uint8))
        image.putpalette(np.stack((colors >> 16, colors >> 8 & 255, colors & 255), 1).astype(np.uint8).tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return data_uri("image/png", file.getvalue())
