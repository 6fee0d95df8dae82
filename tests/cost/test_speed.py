"""Interleaved timing."""

import pytest

from expedit.cost import speed
from expedit.cost.speed import interleave


def test_a_gpu_is_timed_by_runs_back_to_back(monkeypatch):
    """A tenth of a second between two readings of the clock: one run may be over before it is started."""
    clock, runs = [0.0], []

    def run(name, seconds):
        runs.append(name)
        clock[0] += seconds

    monkeypatch.setattr(speed, "now", lambda device: clock[0])
    timings = interleave({"a": lambda: run("a", 0.02), "b": lambda: run("b", 0.5)}, 2, warmup=2, device="cuda")
    assert [timing.seconds for timing in timings.values()] == [pytest.approx((0.02, 0.02)), pytest.approx((0.5, 0.5))]
    assert (runs.count("a"), runs.count("b")) == (1 + 3 * 5, 4)
