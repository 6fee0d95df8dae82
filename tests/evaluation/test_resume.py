"""Evaluations and comparisons that are killed three times, by one process and by two, find what undisturbed ones do."""

import json
import random
import shutil
import time

import pytest
import torch

from expedit.checkpoints import safetensors_format
from expedit.data import coco
from expedit.models import Segmenter
from forked import Server
from small_mask2former import coco_tree, network, saved

METHODS = ["-m", "pool(alpha=1, grid=(2, 2))", "-m", "tome(ratio=0.3)"]
SWIN = "expedit(alpha=5, grid=(4, 4), top_k=6)"
RECIPE = f"""\
title: small
architecture: mask2former-swin-l-coco-panoptic
data: coco-panoptic
split: val
images: 5000
weights: none
measured_at: [1, 64, 64]
rows:
  - {{method: dense}}
  - {{method: "{SWIN}"}}
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Command lines that evaluate and compare a small Segmenter on 16 toy pictures."""
    torch.manual_seed(0)
    model = Segmenter(classes=12, image_size=(64, 64), width=32, depth=2, heads=2, head_layers=1)
    path = tmp_path_factory.mktemp("toy") / "m.safetensors"
    safetensors_format.save(model, path)
    evaluate = ["evaluate", path, "toy", "--limit", 16, *METHODS[:2], "--against", "dense"]
    compare = ["compare", "--weights", path, "--limit", 16, *METHODS, "--rounds", 1, "--examples", 0]
    return {"evaluate": evaluate, "compare": compare}


@pytest.fixture(scope="module")
def panoptic(shared, tmp_path_factory):
    """The same of a small Mask2Former on COCO's pictures, each of them five times."""
    pytest.importorskip("transformers")
    root = tmp_path_factory.mktemp("panoptic")
    data = coco_tree(shared, root)
    file = data / "annotations/panoptic_val2017.json"
    truth = json.loads(file.read_text())
    listed = {key: [] for key in ("images", "annotations")}
    for copy in range(5):
        for key, folder, number in (("images", "val2017", "id"), ("annotations", "panoptic_val2017", "image_id")):
            for entry in truth[key]:
                name = f"{copy}_{entry['file_name']}"
                shutil.copy(data / folder / entry["file_name"], data / folder / name)
                listed[key].append({**entry, "file_name": name, number: 10 * entry[number] + copy})
    file.write_text(json.dumps(truth | listed))
    model = saved(network("panoptic", coco.panoptic_categories()), root)
    (root / "small.yaml").write_text(RECIPE)
    compare = ["compare", root / "small.yaml", "--weights", model, "--data", data, "--rounds", 1, "--examples", 0]
    return {"evaluate": ["evaluate", model, f"coco-panoptic:{data}", "-m", SWIN], "compare": compare}


def into(argv, folder):
    """The command line with its results and its state in ``folder``."""
    folder.mkdir()
    if argv[0] == "compare":
        return [*argv, "-o", folder, "--resume"]
    more = ["--submission", folder / "out"] if "coco" in argv[2] else []
    return [*argv, "--json", folder / "scores.json", "--resume", folder / "state", *more]


def found(folder):
    """What a run found, without what depends on its times."""
    if (folder / "table.json").exists():
        timed = {"ms", "speedup", "efficiency"}
        rows = json.loads((folder / "table.json").read_text())["rows"]
        return [{key: value for key, value in row.items() if key not in timed} for row in rows]
    scores = json.loads((folder / "scores.json").read_text())
    written = {path.name: path.read_bytes() for path in (folder / "out").rglob("*") if path.is_file()}
    timed = {"images_this_run", "images_per_second", "seconds", "seconds_waiting_for_images", "submission"}
    return {key: value for key, value in scores.items() if key not in timed}, written


def lines(folder):
    """Records on disk."""
    return sum(max(path.read_bytes().count(b"\n") - 1, 0) for path in (folder / "state").glob("*.jsonl"))


@pytest.fixture(scope="module")
def server():
    with Server() as server:
        yield server


QUICK = {("toy", "evaluate", 2), ("panoptic", "evaluate", 1), ("toy", "compare", 1)}
EVERY = [(data, verb, world) for data in ("toy", "panoptic") for verb in ("evaluate", "compare") for world in (1, 2)]


@pytest.mark.parametrize(
    ("data", "verb", "world"), [pytest.param(*c, marks=[] if c in QUICK else pytest.mark.slow) for c in EVERY]
)
def test_killed_three_times_it_finds_the_same(data, verb, world, server, request, tmp_path):
    argv, log, chance = request.getfixturevalue(data)[verb], tmp_path / "log", random.Random(world)
    whole, killed = into(argv, tmp_path / "whole"), into(argv, tmp_path / "killed")
    assert server.wait(server.start(whole, log)) == [0], log.read_text()
    counts = [0]
    for _ in range(3):
        pids = server.start(killed, log, world)
        while lines(tmp_path / "killed") == counts[-1] and server.ended(pids[0]) is None:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.05))
        server.kill(pids)
        counts.append(lines(tmp_path / "killed"))
    everything = lines(tmp_path / "whole")
    assert 0 < counts[1] < everything, "the first run was over before it was killed"
    assert server.wait(server.start(killed, log, world)) == [0] * world, log.read_text()
    assert found(tmp_path / "killed") == found(tmp_path / "whole")
    assert lines(tmp_path / "killed") == everything
