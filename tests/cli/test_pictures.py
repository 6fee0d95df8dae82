"""What predict writes is what it has announced, and so checked, before."""

import numpy as np
import pytest

from expedit.cli.pictures import ENDS, RESULTS
from expedit.data.listing import RESULT
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


@pytest.mark.parametrize("task", RESULTS)
def test_ends_of_names(task):
    result = RESULTS[task](IMAGE, PREDICTIONS[task], 0.5)
    names = {f"_{kind}.png" for kind in result.pictures} | {f"_{kind}.npy" for kind in result.arrays}
    assert names == set(ENDS[task])
    assert all(RESULT.fullmatch(f"photo_{kind}.png") for kind in result.pictures)
