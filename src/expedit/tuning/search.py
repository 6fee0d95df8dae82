"""The search: dense predictions once, then every setting that fits the budget, best agreement first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

import numpy as np
from torch import nn

from ..core import Method
from ..core.checks import number
from .bench import Bench, Picture
from .budget import Family, families
from .promise import fewest, longest_kept

PICKING = 8
"""Pictures by which the family is picked where a promise is made on all others."""

MIDDLE = 0.6
"""Budget at which families are compared where the budget itself is looked for."""

LADDER = tuple(share / 100 for share in range(95, 20, -5))
"""Shares of the dense multiply-adds, from nearly all to few: the order in which a promise is tested."""

NEAR, SLOW = 0.02, 0.05
"""How far from the wished speed-up one goes on looking, and how far below it a setting is too slow."""

LOOKS = 4
"""Most measurements by which the multiply-adds of a family follow the clock."""


@dataclass(frozen=True)
class Trial:
    """One setting.

    Attributes:
        spec: of the method.
        macs: its multiply-adds as a share of the dense ones, operators included.
        agreement: mean over the pictures; 1 repeats the dense model.
        speedup: dense time over its time, where it was measured.
    """

    spec: str
    macs: float
    agreement: float
    speedup: float | None = None


@dataclass(frozen=True)
class Tuned:
    """What came out of a search.

    Attributes:
        method: the chosen spec, "dense" where no setting was good enough.
        trials: all settings that were tried on pictures, in order.
        images: pictures that the agreement of the chosen one was measured on.
        reason: why it was chosen, with the promise, in one sentence.
    """

    method: str
    trials: tuple[Trial, ...]
    images: int
    reason: str

    def as_json(self) -> dict[str, Any]:
        """What ``-m @FILE`` reads, and how it came about."""
        return {**asdict(self), "trials": [asdict(trial) for trial in self.trials]}


def tune(
    model: nn.Module,
    images: Sequence[Picture],
    *,
    macs: float | None = None,
    speedup: float | None = None,
    agreement: float | None = None,
    confidence: float | None = None,
    shrink: bool = False,
    progress: Callable[[str], object] = lambda text: None,
) -> Tuned:
    """Find method and settings for ``model`` from photographs like those it will see; no labels are needed.

    Args:
        model: dense, from ``expedit.load``.
        images: whatever ``expedit.predict`` takes, eight or more; with ``confidence`` hundreds.
        macs: the most multiply-adds, as a share of the dense ones.
        speedup: how many times faster it shall be, measured on this machine with the threads at hand.
        agreement: the least agreement with the dense model, as a share: the cheapest setting that keeps it.
        confidence: with ``agreement``: the probability with which the promise holds that its *expectation* over
            images like these is at least that.
        shrink: try a smaller image, too. Agreement judges it too hard, so compare it with labels if there are any.
        progress: called with what is done next.

    Raises:
        ValueError: not exactly one of macs, speedup and agreement, no pictures, a number out of range, or a model that
            is accelerated already or has no agreement.

    Example:
        >>> import expedit, numpy
        >>> picture = numpy.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=numpy.uint8)
        >>> expedit.tune(expedit.load("segmenter-mini"), [picture], macs=0.6).images
        1
    """
    goals = {"macs": macs, "speedup": speedup, "agreement": agreement}
    given = {name: value for name, value in goals.items() if value is not None}
    if len(given) != 1:
        raise ValueError(f"expected exactly one of macs, speedup and agreement, got {', '.join(given) or 'none'}")
    if confidence is not None and agreement is None:
        raise ValueError("confidence: belongs to a promise of agreement, expected agreement, too")
    search = Search(Bench(model, images, progress), shrink)
    if macs is not None:
        return search.by_macs(number("macs", macs, 0, 1))
    if speedup is not None:
        return search.by_speed(number("speedup", speedup, 1, 100))
    assert agreement is not None
    least = number("agreement", agreement, 0, 1)
    if least == 1 or (confidence is not None and number("confidence", confidence, 0, 1) == 1):
        raise ValueError("agreement and confidence: expected less than 1; only the dense model is certain")
    return search.by_agreement(least, confidence)


class Search:
    """One search on one bench."""

    def __init__(self, bench: Bench, shrink: bool) -> None:
        self.bench = bench
        self.families = [family for family in families(shrink) if bench.runs(family.build(0.5)[0])]
        self.trials: list[Trial] = []

    def by_macs(self, budget: float) -> Tuned:
        """The setting of most agreement within a share of the multiply-adds."""
        for family in self.families:
            for method in family.within(budget, self.bench.macs):
                self._try(method, self._all())
        return self._best(f"most agreement within {budget:g} of the dense multiply-adds")

    def by_speed(self, goal: float) -> Tuned:
        """The setting of most agreement among those that are fast enough on this machine."""
        for family in self.families:
            methods, speedup = self._as_fast(family, goal)
            for method in methods if speedup >= (1 - SLOW) * goal else ():
                self._try(method, self._all(), speedup)
        return self._best(f"most agreement among settings {goal:g} times as fast, measured here")

    def by_agreement(self, least: float, confidence: float | None) -> Tuned:
        """The cheapest setting of the family that agrees most at a middle budget, as far as the pictures carry it."""
        picking, testing = self._split(confidence)
        ladder, risk = self._ladder(picking), 1 - least
        sequence = (self._try(method, testing) for method in ladder)
        if confidence is None:
            kept = len(list(takewhile(lambda losses: float(np.mean(losses)) <= risk, sequence)))
            reason = f"the cheapest that agrees by {least:g} on these pictures"
        else:
            kept = longest_kept(sequence, risk, confidence)
            promise = f"the expected agreement on images like these is at least {least:g}"
            reason = f"with {100 * confidence:g} % confidence {promise}"
        if not kept:
            return Tuned("dense", tuple(self.trials), len(testing), _why_not(risk, confidence, len(testing)))
        return Tuned(repr(ladder[kept - 1]), tuple(self.trials), len(testing), reason)

    def _all(self) -> list[int]:
        return list(range(len(self.bench.images)))

    def _split(self, confidence: float | None) -> tuple[list[int], list[int]]:
        """Pictures that pick the family, and those that prove something: none does both."""
        places = self._all()
        if confidence is None or len(places) < 2:
            return places, places
        picking = places[:: max(len(places) // PICKING, 2)]
        return picking, [place for place in places if place not in picking]

    def _ladder(self, places: list[int]) -> list[Method]:
        """From costly to cheap: the family, and the variant of it, of most agreement at a middle budget."""
        found = {}
        for family in self.families:
            for variant, method in enumerate(family.within(MIDDLE, self.bench.macs)):
                found[family, variant] = float(np.mean(self._try(method, places)))
        if not found:
            return []
        family, variant = min(found, key=found.__getitem__)
        rungs = (family.within(share, self.bench.macs) for share in LADDER)
        return list(dict.fromkeys(methods[variant] for methods in rungs if methods))

    def _as_fast(self, family: Family, goal: float) -> tuple[tuple[Method, ...], float]:
        """Settings of ``family`` that are ``goal`` times as fast, and how fast they are."""
        budget, speedup = 1 / goal, 0.0
        methods: tuple[Method, ...] = ()
        for _ in range(LOOKS):
            fitting = family.within(budget, self.bench.macs)
            if not fitting or fitting == methods:
                break
            methods, speedup = fitting, self.bench.speedup(fitting[0])
            if abs(speedup / goal - 1) <= NEAR:
                break
            budget = min(budget * speedup / goal, 1.0)
        return methods, speedup

    def _try(self, method: Method, places: list[int], speedup: float | None = None) -> list[float]:
        """Losses on pictures; the trial is noted."""
        losses = self.bench.losses(method, places)
        agreement = 1 - float(np.mean(losses))
        self.trials.append(Trial(repr(method), self.bench.macs(method), agreement, speedup))
        return losses

    def _best(self, reason: str) -> Tuned:
        """The trial of most agreement."""
        images = len(self.bench.images)
        if not self.trials:
            return Tuned("dense", (), images, "no setting reaches this budget, so it is the dense model")
        best = max(self.trials, key=lambda trial: trial.agreement)
        return Tuned(best.spec, tuple(self.trials), images, reason)


def _why_not(risk: float, confidence: float | None, images: int) -> str:
    """Why it is the dense model."""
    text = f"no setting was shown to agree by {1 - risk:g} on {images} pictures, so it is the dense model"
    if confidence is None or images >= (needed := fewest(risk, confidence)):
        return text
    return (
        f"{text}; a promise of {100 * confidence:g} % takes {needed} pictures or more beside those that pick the family"
    )
