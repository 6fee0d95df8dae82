import math

import numpy as np
import pytest

from expedit.tuning.promise import fewest, longest_kept, p_value


@pytest.mark.parametrize(("n", "mean", "risk"), [(200, 0.005, 0.02), (50, 0.1, 0.3), (400, 0.0, 0.01), (30, 0.2, 0.25)])
def test_the_p_value_is_the_smaller_of_two_bounds(n, mean, risk):
    losses = [mean] * n
    hoeffding = (risk / mean) ** (n * mean) if mean else 1.0
    hoeffding *= ((1 - risk) / (1 - mean)) ** (n * (1 - mean))
    counts = range(math.ceil(round(n * mean, 6)) + 1)
    bentkus = math.e * sum(math.comb(n, k) * risk**k * (1 - risk) ** (n - k) for k in counts)
    assert p_value(losses, risk) == pytest.approx(min(hoeffding, bentkus, 1.0), rel=1e-6)


def test_losses_at_the_risk_prove_nothing():
    assert p_value([0.02] * 10_000, 0.02) == 1.0
    assert p_value([0.5, 0.0], 0.2) == 1.0


@pytest.mark.parametrize(("risk", "confidence"), [(0.02, 0.95), (0.1, 0.9), (0.3, 0.99)])
def test_so_many_pictures_are_needed(risk, confidence):
    n = fewest(risk, confidence)
    assert p_value([0.0] * n, risk) <= 1 - confidence < p_value([0.0] * (n - 1), risk)


@pytest.mark.parametrize("spread", [5.0, 0.05])
def test_the_promise_holds_in_95_of_100_draws(spread):
    """500 draws of pictures, of settings that get worse, one just over the limit; losses bunched and all-or-none."""
    generator, risk, confidence = np.random.default_rng(0), 0.1, 0.95
    expected = (0.02, 0.05, 0.08, 0.1001, 0.12, 0.2)
    broken, useful = 0, 0
    for _ in range(500):
        draws = [generator.beta(spread * mean, spread * (1 - mean), 150).tolist() for mean in expected]
        kept = longest_kept(draws, risk, confidence)
        broken += kept > 0 and expected[kept - 1] > risk
        useful += kept > 0
    assert broken <= 0.05 * 500
    assert useful > 0.9 * 500


def test_nothing_is_kept_after_the_first_that_fails():
    good, bad = [0.0] * 200, [0.5] * 200
    assert longest_kept([good, good, bad, good], 0.1, 0.95) == 2
    assert longest_kept(iter([bad]), 0.1, 0.95) == 0
    assert longest_kept([], 0.1, 0.95) == 0
