"""``expedit predict`` and ``expedit list`` with networks of transformers."""

import json

import numpy as np
import pytest
from PIL import Image

import expedit
from data_files import opened
from expedit.cli import main
from families import write_folder

POOL = ["-m", "pool(alpha=2, grid=(3, 3))"]


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_depth_is_a_picture_and_the_values(tmp_path, photo):
    write_folder("depth-anything", tmp_path / "model")
    assert main(["predict", str(tmp_path / "model"), str(photo), *POOL, "-o", str(tmp_path / "out")]) == 0
    values = np.load(tmp_path / "out" / "photo_depth.npy")
    fast = expedit.accelerate(expedit.load(tmp_path / "model"), POOL[1])
    assert np.allclose(values, expedit.predict(fast, photo).depth, rtol=1e-5)
    assert opened(tmp_path / "out" / "photo_depth.png").size == (90, 60)
    told = json.loads((tmp_path / "out" / "photo.json").read_text())
    assert told["task"] == "depth"
    assert told["depth"]["largest"] == pytest.approx(float(values.max()))


def test_features_are_a_picture_and_with_a_flag_the_values(tmp_path, photo):
    write_folder("dinov2", tmp_path / "model")
    arguments = ["predict", str(tmp_path / "model"), str(photo), *POOL, "-o", str(tmp_path / "out")]
    assert main([*arguments, "--tokens"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "photo.json",
        "photo_features.png",
        "photo_tokens.png",
    ]
    assert opened(tmp_path / "out" / "photo_tokens.png").size == (70, 70)  # the part that the processor cuts out
    assert main([*arguments, "--save-features", "--pixels", "112"]) == 0
    assert np.load(tmp_path / "out" / "photo_features.npy").shape == (8, 12, 32)
    assert main([*arguments, "--pixels", "1", "2", "3"]) == 2


def test_the_task_is_what_is_asked_for(tmp_path, photo):
    write_folder("eomt", tmp_path / "model")
    arguments = ["predict", str(tmp_path / "model"), str(photo), "-o", str(tmp_path / "out")]
    assert main([*arguments, "--task", "semantic"]) == 0
    assert json.loads((tmp_path / "out" / "photo.json").read_text())["task"] == "semantic"


def test_list_has_the_families(capsys):
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    for words in ("DINOv2 with registers", "panoptic, instance, semantic", "looks at clips", "kitti-depth"):
        assert words in shown
