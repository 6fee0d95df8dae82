"""``expedit compare MODEL IMAGES``: agreement with the dense model on photographs without labels."""

import json

import numpy as np
import pytest
from PIL import Image

import expedit
from expedit.cli import main
from expedit.evaluation.agreement import classes_of
from expedit.prediction import Prediction, Segment
from families import write_folder

POOL = "pool(alpha=2, grid=(3, 3))"


def by_hand(task, one, other):
    if task == "features":
        lengths = np.linalg.norm(one.features, axis=2) * np.linalg.norm(other.features, axis=2)
        return ((one.features * other.features).sum(2) / lengths).mean()
    if task == "depth":
        return np.abs(one.depth - other.depth).mean() / np.abs(other.depth).mean()
    return (one.labels == other.labels).mean()


@pytest.mark.parametrize(
    ("name", "task"), [("dinov2", "features"), ("depth-anything", "depth"), ("upernet", "semantic")]
)
def test_a_network_and_a_folder_give_a_table_and_a_page(name, task, tmp_path):
    write_folder(name, tmp_path / "model")
    (tmp_path / "photos").mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (80, 100, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    out = tmp_path / "out"
    arguments = ["compare", str(tmp_path / "model"), str(tmp_path / "photos"), "-m", POOL, "--rounds", "1"]
    assert main([*arguments, "-o", str(out)]) == 0
    rows = json.loads((out / "table.json").read_text())["rows"]
    dense, fast = expedit.load(tmp_path / "model"), expedit.accelerate(expedit.load(tmp_path / "model"), POOL)
    expected = []
    for path in sorted((tmp_path / "photos").iterdir()):
        expected.append(by_hand(task, expedit.predict(fast, path), expedit.predict(dense, path)))
    assert rows[1]["agreement"] == pytest.approx(np.mean(expected), rel=1e-5)
    assert rows[0]["agreement"] == pytest.approx(0.0 if task == "depth" else 1.0)
    assert rows[1]["mac_ratio"] > 1
    page = (out / "report.html").read_text()
    assert "9 clusters" in page
    assert page.count("data:image/png") >= 4


def test_of_instances_that_overlap_the_surest_counts():
    masks = np.array([[[True, True, False]], [[False, True, False]]])
    segments = (Segment(0, 5, 0.4), Segment(1, 7, 0.9))
    found = classes_of(Prediction("instance", (), (), segments=segments, masks=masks))
    assert found.tolist() == [[5, 7, -1]]
    panoptic = Prediction("panoptic", (), (), np.array([[0, 2, 1]]), (Segment(1, 3, 1.0), Segment(2, 4, 1.0)))
    assert classes_of(panoptic).tolist() == [[-1, 4, 3]]
