"""Families of settings with one knob that a budget turns, and how far."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..core import Method
from ..methods import Expedit, Regions, Shrink

LEAST = 0.1
"""Share below which no knob is turned."""

STEPS = 1000
"""Settings of a knob between nothing and all."""

CLOSE, LOOKS = 0.98, 5
"""Share of a budget that is used well enough, and most settings that are counted to come closer."""


@dataclass(frozen=True)
class Family:
    """Settings that differ in one share, of the tokens or of the sides of a lattice, that is left.

    Attributes:
        build: methods of one and the same cost for a share in [LEAST, 1]; with all left that of the dense network.
    """

    build: Callable[[float], tuple[Method, ...]]

    def within(self, budget: float, cost: Callable[[Method], float]) -> tuple[Method, ...]:
        """The methods that use the most of ``budget``; none where the least is too much.

        Args:
            budget: as a share of the dense network's cost.
            cost: of a method, growing with its share, in the same unit.
        """
        if budget >= 1:
            return self.build(1.0)
        low, high = round(LEAST * STEPS), STEPS
        best: tuple[Method, ...] = ()
        used, ceiling = 0.0, 1.0
        for look in range(LOOKS):
            if high - low < 2 or used >= CLOSE * budget:
                break
            # nearly straight between the two, but in steps where a lattice has few rows: every third look halves
            part = 0.5 if look % 3 == 2 else (budget - used) / (ceiling - used)
            middle = min(max(low + math.floor(part * (high - low)), low + 1), high - 1)
            methods = self.build(middle / STEPS)
            found = cost(methods[0])
            if found <= budget:
                low, best, used = middle, methods, found
            else:
                high, ceiling = middle, found
        if not best and cost(self.build(LEAST)[0]) <= budget:
            return self.build(LEAST)
        return best


def families(shrink: bool) -> list[Family]:
    """What is searched: regions by depth, clusters by depth and sharpness and, if asked for, the smaller image.

    In a smaller image a fixed share of the tokens that arrive is left, by which both save about as much.
    """
    found = [Family(lambda share, a=alpha: (Regions(alpha=a, keep=share),)) for alpha in (0, 2)]  # type: ignore[misc]
    found += [Family(lambda share, a=alpha: _clusters(a, share)) for alpha in (1, 2, 4)]  # type: ignore[misc]
    smaller = [Family(lambda share: (Shrink(share),)), Family(lambda share: (Shrink(share) + Regions(keep=0.73),))]
    return [*found, *(smaller if shrink else [])]


def _clusters(alpha: int, share: float) -> tuple[Method, ...]:
    return tuple(Expedit(alpha=alpha, grid=share, sharpness=sharpness) for sharpness in (10.0, 40.0))
