"""What a method costs, how fast it is and how far it repeats the dense model: every fact once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..core import Method
from ..cost.macs import cost, measured_part, noise, nominal_size
from ..cost.speed import interleave
from ..data.photographs import Photographs
from ..evaluation.agreement import REPETITIONS
from ..inference import predict_prepared
from ..models.card import card_of
from ..prediction import Prediction
from ..prepare import pixels_of, views_of
from ..surgery import accelerate

Picture = str | Path | Image.Image | np.ndarray

ROUNDS = 5
"""Timed rounds of every measurement of speed."""


class Bench:
    """One dense model and some pictures.

    Args:
        model: with a card.
        images: whatever ``expedit.predict`` takes.
        progress: called with what is done next.
    """

    def __init__(self, model: nn.Module, images: Sequence[Picture], progress: Callable[[str], object]) -> None:
        card = card_of(model)
        if card.task not in REPETITIONS:
            raise ValueError(f"expected a model for {', '.join(REPETITIONS)} to tune, got {card.task}")
        if not images:
            raise ValueError("images: expected photographs like those that the model will see, got none")
        self.model, self.images, self.progress = model, images, progress
        self.judge = REPETITIONS[card.task](card, Photographs(()))
        self.size = nominal_size(model)
        self.dense_macs = cost(model, None, self.size).true_macs
        self.shares: dict[Method, float] = {}
        self.references: dict[int, Prediction] = {}

    def runs(self, method: Method) -> bool:
        """Whether the network can be cut like that; ValueError for one that is accelerated already."""
        try:
            accelerate(measured_part(self.model), method)
        except ValueError as error:
            if "accelerated already" in str(error):
                raise
            return False
        return True

    def macs(self, method: Method) -> float:
        """Multiply-adds as a share of the dense ones, operators included."""
        if method not in self.shares:
            self.progress(f"counting {method!r}")
            self.shares[method] = cost(self.model, method, self.size).true_macs / self.dense_macs
        return self.shares[method]

    def speedup(self, method: Method) -> float:
        """Dense time over the method's, runs in turn on one image of noise."""
        self.progress(f"timing {method!r}")
        part = measured_part(self.model)
        pixels = noise(self.size, next(part.parameters()))
        networks = {"dense": part, "fast": accelerate(part, method)}
        with torch.inference_mode():
            runs = {name: partial(network, pixels) for name, network in networks.items()}
            timings = interleave(runs, ROUNDS, device=str(pixels.device))
        return timings["fast"].speedup_over(timings["dense"])

    def losses(self, method: Method, places: Sequence[int]) -> list[float]:
        """How far the dense model is *not* repeated on the pictures at ``places``, each within 0..1."""
        self.progress(f"{len(places)} pictures with {method!r}")
        fast = accelerate(self.model, method)
        values = [self.judge.measure(self._predict(fast, place), self._reference(place)) for place in places]
        higher = self.judge.agreement is None or self.judge.agreement.higher
        return [min(max(1 - value if higher else value, 0.0), 1.0) for value in values]

    def _reference(self, place: int) -> Prediction:
        """What the dense model says of a picture, asked once."""
        if place not in self.references:
            self.references[place] = self._predict(self.model, place)
        return self.references[place]

    def _predict(self, model: nn.Module, place: int) -> Prediction:
        pixels = pixels_of(self.images[place])
        height, width = pixels.shape[:2]
        return predict_prepared(model, views_of(model, pixels), (height, width))
