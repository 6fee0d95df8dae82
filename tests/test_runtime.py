"""What a forward pass is made of."""

import pytest
import torch

from expedit import accelerate
from expedit.core import TokenMap
from expedit.cost import speed
from expedit.cost.breakdown import PARTS, parts
from expedit.cost.macs import cost, flop_counter
from expedit.cost.speed import interleave
from expedit.models import Segmenter
from expedit.spec import parse

SIZES = {"image_size": (48, 64), "patch": 8, "width": 32, "depth": 3, "heads": 4}


@pytest.mark.parametrize(
    ("spec", "reduced"),
    [
        (None, set()),
        ("expedit(alpha=1, grid=(3, 4), top_k=4)", {"reduce", "blocks after", "restore"}),
        ("tome(ratio=0.3)", {"reduce", "blocks after"}),
    ],
)
def test_the_parts_are_the_whole(spec, reduced):
    """Multiply-adds as the gauge: exact, so every one is booked once. Copying back has none."""
    model, image = Segmenter(classes=4, **SIZES).eval(), torch.randn(1, 3, 48, 64)
    want = cost(model, None if spec is None else parse(spec), (48, 64)).true_macs
    model = model if spec is None else accelerate(model, spec)
    with flop_counter() as counter:
        spent = parts(model, image, lambda: counter.get_total_flops() / 2)
    assert spent.keys() == set(PARTS)
    assert sum(spent.values()) == want
    assert spent["embed"] == 48 * 3 * 64 * 32
    assert spent["upsample"] == 0
    assert {part for part in ("reduce", "blocks after", "restore") if spent[part]} == reduced
    assert model.decoder._forward_hooks == {}, "nothing of it stays in the model"


def test_every_way_back_is_booked():
    """The clock only ticks inside ``TokenMap.up``: all of it is "restore", of merges around a branch as of spans."""
    model, ticks = Segmenter(classes=4, **SIZES).eval(), []
    for spec, ways in (("tome(ratio=0.3)", 6), ("pool(alpha=1, grid=(3, 4))", 1)):
        ticks.clear()
        with pytest.MonkeyPatch.context() as patch:
            up = TokenMap.up
            patch.setattr(TokenMap, "up", lambda self, y, up=up: (ticks.append(1), up(self, y))[1])
            spent = parts(accelerate(model, spec), torch.randn(1, 3, 48, 64), lambda: float(len(ticks)))
        assert spent["restore"] == sum(spent.values()) == ways


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
