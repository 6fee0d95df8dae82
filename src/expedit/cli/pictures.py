"""What a prediction of one image becomes on disk: pictures, and JSON that says what is in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from ..prediction import Prediction, Segment

SURE = 0.5
"""Score from which on an instance is drawn, if nothing else is asked for."""


@dataclass(frozen=True)
class Result:
    """``pictures`` and ``arrays`` by the end of their file's name; ``facts`` for the JSON beside them."""

    pictures: dict[str, np.ndarray]
    facts: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def semantic(image: np.ndarray, prediction: Prediction, min_score: float) -> Result:
    """Label values, their colours, both over the image, a legend, and the classes by area."""
    import numpy as np

    from .. import draw

    labels, classes, palette = prediction.labels, prediction.classes, prediction.palette
    assert labels is not None
    index, pixels = np.unique(labels, return_counts=True)
    listed = [
        {"id": int(i), "name": classes[i], "color": list(palette[i]), "pixels": int(n)}
        for i, n in sorted(zip(index, pixels, strict=True), key=lambda item: -item[1])
    ]
    pictures = {
        "labels": labels.astype("uint8" if len(classes) <= 256 else "uint16"),
        "mask": draw.colorize(labels, palette, ignore=None),
        "overlay": draw.overlay(image, labels, palette, ignore=None),
        "legend": draw.legend(classes, palette, set(index.tolist())),
    }
    return Result(pictures, {"classes": listed})


def panoptic(image: np.ndarray, prediction: Prediction, min_score: float) -> Result:
    """Segment ids as COCO codes them in RGB, the segments over the image, and what each id is."""
    import numpy as np

    from .. import draw
    from ..data.png_ids import ids_to_png
    from ..data.rle import box_of

    labels = prediction.labels
    assert labels is not None
    areas = np.bincount(labels.ravel())
    segments = [
        {
            "id": segment.id,
            **_named(segment, prediction),
            "is_thing": segment.is_thing,
            "area": int(areas[segment.id]),
            "bbox": box_of(labels == segment.id),
        }
        for segment in prediction.segments
    ]
    pictures = {"panoptic": ids_to_png(labels), "overlay": draw.segments(image, prediction)}
    return Result(pictures, {"segments": segments})


def instance(image: np.ndarray, prediction: Prediction, min_score: float) -> Result:
    """Instances of at least ``min_score`` over the image, and every instance with its mask as COCO run lengths."""
    from dataclasses import replace

    from .. import draw
    from ..data.rle import area, box, encode

    assert prediction.masks is not None
    segments = [
        {**_named(segment, prediction), "area": int(area(mask)), "bbox": box(mask), "segmentation": mask}
        for segment, mask in zip(prediction.segments, encode(prediction.masks), strict=True)
    ]
    sure = [place for place, segment in enumerate(prediction.segments) if segment.score >= min_score]
    drawn = replace(
        prediction, segments=tuple(prediction.segments[place] for place in sure), masks=prediction.masks[sure]
    )
    return Result({"overlay": draw.segments(image, drawn)}, {"instances": segments})


def depth(image: np.ndarray, prediction: Prediction, min_score: float) -> Result:
    """Depth in colours, the values themselves, and their range."""
    import numpy as np

    from .. import draw_values

    values, kind = prediction.depth, prediction.depth_kind
    assert values is not None
    low, middle, high = (float(value) for value in np.percentile(values, (0, 50, 100)))
    unit = "metres" if kind == "metric" else "inverse depth, up to a scale and a shift"
    facts = {"depth": {"unit": unit, "least": low, "median": middle, "largest": high}}
    return Result({"depth": draw_values.depth(values, kind)}, facts, {"depth": values})


def features(image: np.ndarray, prediction: Prediction, min_score: float) -> Result:
    """Three principal components as colours, and the features themselves."""
    from .. import draw_values

    values = prediction.features
    assert values is not None
    h, w, channels = values.shape
    picture = draw_values.enlarged(draw_values.components(values))
    facts = {"features": {"height": h, "width": w, "channels": channels}}
    return Result({"features": picture}, facts, {"features": values})


def _named(segment: Segment, prediction: Prediction) -> dict[str, Any]:
    return {
        "category": segment.category,
        "name": prediction.classes[segment.category],
        "score": round(segment.score, 6),
    }


RESULTS: dict[str, Callable[[np.ndarray, Prediction, float], Result]] = {
    "semantic": semantic,
    "panoptic": panoptic,
    "instance": instance,
    "depth": depth,
    "features": features,
}
"""By task: what becomes of an image ``(H, W, 3)`` uint8 RGB and its prediction."""

ENDS: dict[str, tuple[str, ...]] = {
    "semantic": ("_labels.png", "_mask.png", "_overlay.png", "_legend.png"),
    "panoptic": ("_panoptic.png", "_overlay.png"),
    "instance": ("_overlay.png",),
    "depth": ("_depth.png", "_depth.npy"),
    "features": ("_features.png", "_features.npy"),
}
"""By task: how the names of the pictures and arrays end."""
