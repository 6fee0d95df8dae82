"""What photographs prove of a setting: fixed-sequence testing with the Hoeffding-Bentkus bound.

Angelopoulos et al., "Learn then Test: Calibrating Predictive Algorithms to Achieve Risk Control", 2021, with the bound
of Bates et al., "Distribution-Free, Risk-Controlling Prediction Sets", JACM 2021. Losses lie in [0, 1]; pictures are
taken to be drawn independently from those that the promise is about.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def p_value(losses: Sequence[float], risk: float) -> float:
    """How likely losses as small as these are if their expectation is above ``risk``, at most 1.

    The smaller of Hoeffding's bound in its binomial form and of Bentkus's.
    """
    n = len(losses)
    mean = sum(losses) / n
    if mean >= risk:
        return 1.0
    hoeffding = math.exp(-n * _divergence(mean, risk))
    return min(hoeffding, math.e * _binomial(math.ceil(n * mean - 1e-9), n, risk), 1.0)


def longest_kept(sequence: Iterable[Sequence[float]], risk: float, confidence: float) -> int:
    """How many settings of ``sequence`` keep the promise: all before the first whose losses do not prove it.

    The order is fixed before any loss is seen, which is why no correction for the number of settings is due: with
    probability ``confidence`` all that are kept have an expected loss of at most ``risk``.
    """
    kept = 0
    for losses in sequence:
        if p_value(losses, risk) > 1 - confidence:
            break
        kept += 1
    return kept


def fewest(risk: float, confidence: float) -> int:
    """Pictures without which not even losses of 0 prove anything."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - risk))


def _divergence(a: float, b: float) -> float:
    """Relative entropy of a coin of probability ``a`` to one of ``b``, both in [0, 1), b above a."""
    one = a * math.log(a / b) if a > 0 else 0.0
    return one + (1 - a) * math.log((1 - a) / (1 - b))


def _binomial(k: int, n: int, p: float) -> float:
    """Probability of at most ``k`` of ``n`` throws of a coin of probability ``p`` in (0, 1)."""
    logs = (
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log(1 - p)
        for i in range(k + 1)
    )
    return math.fsum(math.exp(value) for value in logs)
