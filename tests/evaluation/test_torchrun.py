"""The launcher of torch itself, which every other test of several processes stands in for."""

import json
import os
import subprocess
import sys

import pytest
import torch

from expedit.checkpoints import safetensors_format
from expedit.models import Segmenter

ONE = [sys.executable]
TWO = [*ONE, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.mark.slow
def test_two_processes_of_torchrun_find_what_one_does(tmp_path):
    torch.manual_seed(0)
    model = Segmenter(classes=12, image_size=(64, 64), width=32, depth=2, heads=2, head_layers=1)
    safetensors_format.save(model, tmp_path / "m.safetensors")
    scores = {}
    for world, launcher in ((1, ONE), (2, TWO)):
        file = tmp_path / f"{world}.json"
        verb = ["-m", "expedit", "evaluate", tmp_path / "m.safetensors", "toy", "--limit", "9", "--json", file]
        subprocess.run([*launcher, *verb], check=True, timeout=200, env={**os.environ, "OMP_NUM_THREADS": "1"})
        scores[world] = json.loads(file.read_text())
    assert scores[1]["images_this_run"] == scores[2]["images_this_run"] == 9
    assert scores[1]["miou"] == scores[2]["miou"]
    assert scores[1]["classes"] == scores[2]["classes"]
