"""Images through a model in batches: decoded ahead of it, and none of them ends the others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from ..evaluation.pipeline import ahead
from ..inference import predict_batch
from ..prediction import Prediction
from ..prepare import pixels_of, views_of


class Prepared(NamedTuple):
    """An image ``(H, W, 3)`` uint8 RGB and what the model takes of it."""

    image: np.ndarray
    views: Any

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        height, width = self.image.shape[:2]
        return height, width


class Seen(NamedTuple):
    """An item of a batch and what came of it: image and prediction, or what went wrong."""

    item: Any
    prepared: Prepared | None = None
    prediction: Prediction | None = None
    error: Exception | None = None

    @property
    def found(self) -> tuple[Prepared, Prediction]:
        """Image and prediction; raises what went wrong."""
        if self.error is not None:
            raise self.error
        assert self.prepared is not None, "what did not fail has an image"
        assert self.prediction is not None, "and a prediction"
        return self.prepared, self.prediction


@contextmanager
def predictions(
    model: nn.Module,
    batches: Sequence[Sequence[Any]],
    read: Callable[[Any], np.ndarray],
    workers: int,
    window_batch: int | None = None,
) -> Iterator[Iterator[Seen]]:
    """Every item of all batches in order, with what came of it.

    Args:
        model: with a card that is not of video.
        batches: items that run together.
        read: an item to ``(H, W, 3)`` uint8 RGB, in threads.
        workers: how many threads.
        window_batch: sliding windows that run together; ``None``: as many as there are images in a batch.
    """

    def load(item: Any) -> Prepared | Exception:
        try:
            image = pixels_of(read(item))
            return Prepared(image, views_of(model, image))
        except Exception as error:  # whatever is wrong with one image
            return error

    most = max((len(batch) for batch in batches), default=1)
    items = (item for batch in batches for item in batch)
    with ahead(load, items, workers, lead=most + 2 * workers) as loaded:
        yield _in_batches(model, batches, loaded, window_batch or most)


def _in_batches(
    model: nn.Module, batches: Sequence[Sequence[Any]], loaded: Iterator[Prepared | Exception], window_batch: int
) -> Iterator[Seen]:
    for batch in batches:
        found = [next(loaded) for _ in batch]
        results = iter(together(model, [one for one in found if isinstance(one, Prepared)], window_batch))
        for item, one in zip(batch, found, strict=True):
            yield _seen(item, one, next(results)) if isinstance(one, Prepared) else Seen(item, error=one)


def _seen(item: Any, prepared: Prepared, result: Prediction | Exception) -> Seen:
    if isinstance(result, Exception):
        return Seen(item, error=result)
    return Seen(item, prepared, result)


def together(model: nn.Module, images: Sequence[Prepared], window_batch: int) -> list[Prediction | Exception]:
    """Predictions of a batch; if it fails, of every image alone, so that the others do not suffer from one."""
    if not images:
        return []
    try:
        return [*predict_batch(model, [one.views for one in images], [one.size for one in images], window_batch)]
    except Exception as error:  # not only what the network says: memory, numbers that are not finite, a method
        failure = error.with_traceback(None)
    if len(images) == 1:
        return [failure]
    warnings.warn(f"a batch of {len(images)} images failed, they run one by one ({failure})", stacklevel=2)
    return [result for one in images for result in together(model, [one], 1)]
