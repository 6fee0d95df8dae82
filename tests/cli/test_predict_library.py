"""``expedit predict`` and ``expedit list`` with networks of transformers."""

import json

import numpy as np
import pytest
from PIL import Image

import expedit
from data_files import opened, picture, write
from expedit.backbones import ADAPTERS
from expedit.cli import main
from expedit.cli.list import _fits
from expedit.methods import METHODS
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


def test_evaluate_and_benchmark_take_the_same_settings(tmp_path, capsys):
    write_folder("eomt", tmp_path / "eomt")
    write_folder("dinov2", tmp_path / "dinov2")
    files = {"data/images/val/x.png": picture(64, 64), "data/labels/val/x.png": picture(64, 64)[..., 0] % 4}
    data = write(tmp_path, {**files, "data/classes.txt": "\n".join(f"class {i}" for i in range(4))}) / "data"
    scores, macs = tmp_path / "scores.json", tmp_path / "macs.json"
    evaluate = ["evaluate", tmp_path / "eomt", data, "--json", scores, "--threads", "1"]
    assert main([*map(str, evaluate), "--task", "semantic"]) == 0
    assert json.loads(scores.read_text())["task"] == "semantic"
    write_folder("sam2-vision", tmp_path / "sam2")
    for name in ("eomt", "sam2"):  # EoMT's own loop asks a buffer for values, SAM 2 names what it gives its branches
        assert main(["benchmark", str(tmp_path / name), "--macs-only"]) == 0
    benchmark = ["benchmark", tmp_path / "dinov2", "--macs-only", "--json", macs]
    assert main([*map(str, benchmark), "--pixels", "112", "140"]) == 0
    assert json.loads(macs.read_text())["size"] == [112, 140]
    assert main(["benchmark", "segmenter-vit-l16-ade20k", "--macs-only", "--task", "semantic"]) == 2
    assert "task: segmenter-vit-l16-ade20k is an architecture" in capsys.readouterr().err


def test_list_has_the_families(capsys):
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    for words in ("DINOv2 with registers", "panoptic, instance, semantic", "looks at clips", "kitti-depth"):
        assert words in shown


WORKS = {
    "Dinov2Model": dict.fromkeys(METHODS, True),
    "SiglipVisionModel": {"expedit": True, "tome": True, "act": True, "shrink": True, "evit": False},
    "VitPoseBackbone": {"tome": True, "shrink": False, "evit": False},
    "BeitModel": {"expedit": True, "pool": True, "tome": False, "act": False, "evit": False, "shrink": False},
    "SwinModel": {"expedit": True, "pool": True, "tome": False, "act": False, "evit": False, "shrink": False},
}


@pytest.mark.parametrize("backbone", WORKS)
def test_list_says_which_methods_work_on_which_backbone(backbone):
    adapter = next(adapter for name, adapter in ADAPTERS.items() if name.endswith(f".{backbone}"))
    assert {name: _fits(METHODS[name](), adapter) for name in WORKS[backbone]} == WORKS[backbone]
