"""One model, one picture, one setting at a time: what changes, how long it takes, and the code that does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from .. import draw
from ..cost.speed import interleave, timed
from ..inference import predict_prepared
from ..methods import METHODS
from ..models.card import card_of
from ..prediction import Prediction
from ..prepare import views_of
from ..spec import parse
from ..surgery import accelerate, find_backbone
from .compare import image_view
from .gallery import change, groups, picture_of, small

Pictures = list[tuple[str, np.ndarray]]
"""Names and ``(H, W, 3)`` uint8 RGB."""

SECONDS, ROUNDS = 2.0, 5
"""How long dense runs may take beyond the first to be timed, and how many there are at most."""

CODE = """\
import expedit

model = expedit.load("{source}")
fast = expedit.accelerate(model, "{spec}")
prediction = expedit.predict(fast, "photo.jpg")
"""


class Knob(NamedTuple):
    """A setting that a slider moves: from ``low`` to ``high`` in steps, ``start`` at first."""

    low: float
    high: float
    step: float
    start: float
    meaning: str


@dataclass(frozen=True)
class Look:
    """What one setting makes of one picture.

    Attributes:
        dense, reduced: pictures of the two predictions, ``(H, W, 3)`` uint8 RGB.
        pictures: caption and picture of the difference and of the clusters, where there are any.
        dense_ms, ms: milliseconds of a prediction, medians of interleaved runs.
        code: what does the same in Python.
    """

    dense: np.ndarray
    reduced: np.ndarray
    pictures: tuple[tuple[str, np.ndarray], ...]
    dense_ms: float
    ms: float
    code: str


class Explorer:
    """A dense model and its accelerated selves, of which the latest are kept.

    Attributes:
        model: from ``expedit.load``, for images.
        source: what ``load`` was given.
        depth: blocks of its backbone.

    Raises:
        ValueError: a model for videos, or one that no adapter knows.
    """

    def __init__(self, model: nn.Module, source: str) -> None:
        if card_of(model).task == "video":
            raise ValueError(f"{source}: expected a model for images, got one for videos")
        path, adapter = find_backbone(model)
        self.model, self.source = model, source
        self.depth = adapter.anatomy(model.get_submodule(path)).depth
        self._accelerated = lru_cache(maxsize=8)(partial(accelerate, model))
        self._dense: tuple[np.ndarray, Any, Prediction, float] | None = None

    @property
    def knobs(self) -> dict[str, Knob]:
        """By name of a setting, whichever methods have it."""
        last = self.depth - 1
        return {
            "alpha": Knob(0, last, 1, max(last // 3, 1), "blocks at full resolution"),
            "grid": Knob(0.2, 0.95, 0.05, 0.6, "clusters, as a share of each side"),
            "keep_rate": Knob(0.3, 0.98, 0.02, 0.8, "share of tokens kept, each time"),
            "keep": Knob(0.3, 0.98, 0.02, 0.8, "share of tokens kept"),
            "ratio": Knob(0.05, 0.5, 0.05, 0.3, "share of tokens merged"),
            "query_hashes": Knob(4, 48, 2, 24, "hashes: more of them make more clusters"),
        }

    def spec(self, method: str, values: Mapping[str, float]) -> str:
        """The method with those of the values that it has; places in the network are scaled to its depth."""
        names = {field.name for field in fields(METHODS[method])}  # type: ignore[arg-type]
        chosen: dict[str, Any] = {name: value for name, value in values.items() if name in names}
        layers = getattr(METHODS[method](), "layers", ())
        if layers and max(layers) >= self.depth:
            chosen["layers"] = tuple(self.depth * (i + 1) // (len(layers) + 1) for i in range(len(layers)))
        return repr(parse(f"{method}({', '.join(f'{name}={value!r}' for name, value in chosen.items())})"))

    def look(self, image: np.ndarray, spec: str) -> Look:
        """Both predictions of ``(H, W, 3)`` uint8 RGB; ValueError where the setting does not fit the network."""
        fast, (ready, dense, seconds) = self._accelerated(spec), self._dense_of(image)
        size = image.shape[:2]
        prediction, taken = timed(lambda: predict_prepared(fast, ready, size), self._device)
        if rounds := min(int(SECONDS / seconds), ROUNDS):
            models = {"dense": self.model, "reduced": fast}
            runs = {name: partial(predict_prepared, model, ready, size) for name, model in models.items()}
            times = interleave(runs, rounds, warmup=0, device=self._device)
            seconds, taken = times["dense"].median, times["reduced"].median
        shown = change(prediction, dense), groups(image, image_view(fast, spec, prediction, image))
        return Look(
            dense=_over(image, dense, dense),
            reduced=_over(image, prediction, dense),
            pictures=tuple((caption, picture) for caption, picture in shown if picture is not None),
            dense_ms=1000 * seconds,
            ms=1000 * taken,
            code=CODE.format(source=self.source, spec=spec),
        )

    @property
    def _device(self) -> str:
        return str(next(self.model.parameters()).device)

    def _dense_of(self, image: np.ndarray) -> tuple[Any, Prediction, float]:
        """The picture as the model takes it, the dense prediction and its seconds; kept for the latest picture."""
        if self._dense is None or self._dense[0] is not image:
            ready = views_of(self.model, image)
            dense, seconds = timed(lambda: predict_prepared(self.model, ready, image.shape[:2]), self._device)
            self._dense = (image, ready, dense, seconds)
        return self._dense[1:]


def _over(image: np.ndarray, prediction: Prediction, dense: Prediction) -> np.ndarray:
    if prediction.task == "semantic" and prediction.labels is not None:
        return draw.overlay(small(image), small(prediction.labels), prediction.palette)
    return picture_of(image, prediction, dense)
