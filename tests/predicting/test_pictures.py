"""What predict writes is what it has announced, and so checked, before."""

import numpy as np
import pytest

from expedit.cli.writes import WRITES
from expedit.data.listing import RESULT
from expedit.data.rle import decode
from expedit.predicting.pictures import KINDS, Shown, usual
from expedit.prediction import Prediction, Segment

IMAGE = np.zeros((8, 12, 3), np.uint8)
LABELS, MASKS = np.ones((8, 12), np.int32), np.ones((1, 8, 12), bool)
DEPTH = np.linspace(1, 2, 96, dtype=np.float32).reshape(8, 12)
NAMES = ("a", "b"), ((1, 2, 3), (4, 5, 6))

PREDICTIONS = {
    "semantic": Prediction("semantic", *NAMES, LABELS),
    "panoptic": Prediction("panoptic", *NAMES, LABELS, (Segment(1, 0, 0.9),)),
    "instance": Prediction("instance", *NAMES, segments=(Segment(0, 0, 0.9),), masks=MASKS),
    "depth": Prediction("depth", (), (), depth=DEPTH, depth_kind="metric"),
    "features": Prediction("features", (), (), features=np.random.default_rng(0).normal(size=(4, 6, 5)).astype("f4")),
}

ALONE = {"tokens", "rle", "parquet"}


@pytest.mark.parametrize("task", KINDS)
def test_every_kind_makes_its_file(task):
    shown = Shown(IMAGE, PREDICTIONS[task], facts={"image": "x.png"}, tokens=IMAGE)
    for kind in KINDS[task].values():
        made = kind.make(shown)
        if kind.end.endswith(".json"):
            assert made["image"] == "x.png"
            assert made["task"] == task
        else:
            assert isinstance(made, np.ndarray)
        assert not kind.end.endswith(".png") or RESULT.fullmatch(f"photo{kind.end}")


@pytest.mark.parametrize("task", KINDS)
def test_what_is_usual(task):
    assert set(KINDS[task]) < set(WRITES)
    few, many = usual(task, 100), usual(task, 101)
    assert set(many) <= set(few) <= set(KINDS[task]) - ALONE
    assert "json" in many
    if task in ("semantic", "panoptic", "depth"):
        assert many == ("labels", "json")


def test_run_lengths_are_the_masks_of_every_class():
    shown = Shown(IMAGE, Prediction("semantic", *NAMES, np.eye(8, 12, dtype=np.int32)))
    found = KINDS["semantic"]["rle"].make(shown)["classes"]
    assert [one["id"] for one in found] == [0, 1]
    assert np.array_equal(decode(found[1]["segmentation"]), np.eye(8, 12, dtype=bool))
