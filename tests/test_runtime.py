"""The C library's memory, and what a forward pass is made of."""

import subprocess
import sys

import pytest
import torch

from expedit import accelerate
from expedit.measure.floor import Machine, Roofline
from expedit.measure.flops import flop_counter, matrix_macs
from expedit.measure.parts import PARTS, parts
from expedit.models import Segmenter
from expedit.runtime import keep_memory

SIZES = {"image_size": (48, 64), "patch": 8, "width": 32, "depth": 3, "heads": 4}

FAULTS = """
import resource, sys, torch
from expedit.runtime import keep_memory, release_memory
kept = sys.argv[1] == "keep" and keep_memory()
def run():
    for _ in range(10):
        torch.ones(16 << 20).add_(1)
run()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
run()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
release_memory()
"""


@pytest.mark.skipif(sys.platform != "linux" or not keep_memory(), reason="needs Linux with glibc")
def test_kept_memory_is_not_faulted_in_again():
    faults = {}
    for mode in ("default", "keep"):
        done = subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, check=True)
        kept, faults[mode] = done.stdout.split()
        assert kept == str(mode == "keep")
    assert int(faults["keep"]) < 0.1 * int(faults["default"])


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
    model = model if spec is None else accelerate(model, spec)
    with flop_counter() as counter:
        spent = parts(model, image, lambda: counter.get_total_flops() / 2)
    assert spent.keys() == set(PARTS)
    assert sum(spent.values()) == matrix_macs(model, image)
    assert spent["embed"] == 48 * 3 * 64 * 32
    assert spent["upsample"] == 0
    assert {part for part in ("reduce", "blocks after", "restore") if spent[part]} == reduced
    assert model.decoder._forward_hooks == {}, "nothing of it stays in the model"


def test_the_floor_is_arithmetic_or_memory_whichever_is_slower():
    layer, x = torch.nn.Linear(64, 32, bias=False), torch.randn(100, 64)
    macs, moved = 100 * 64 * 32, 4 * (100 * 64 + 64 * 32 + 100 * 32)
    for machine, want in ((Machine(1.0, 1e12), macs), (Machine(1e12, 1.0), moved)):
        with torch.inference_mode(), Roofline(machine) as roofline:
            layer(x).view(-1)
        assert roofline.seconds == pytest.approx(want)
