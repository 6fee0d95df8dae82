"""Depth models on NYU pictures: the judge, and the verb from the folder of a checkpoint to the table."""

import json

import numpy as np
import pytest
from PIL import Image

import expedit
from expedit.cli import main
from expedit.data import open_dataset
from expedit.evaluation.depth import DepthJudge
from expedit.evaluation.evaluate import Run, evaluate
from expedit.metrics.depth import DepthProtocol, depth_errors
from expedit.models.card import Card
from families import write_folder


@pytest.fixture
def nyu(tmp_path):
    """Three pictures of 96 x 128 pixels; of the last one nothing was measured."""
    generator, folder = np.random.default_rng(0), tmp_path / "nyu"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(generator.integers(0, 256, (96, 128, 3), dtype=np.uint8)).save(folder / f"image_{number}.png")
        metres = generator.uniform(0.5, 12, (96, 128)) * (number < 2)
        Image.fromarray((1000 * metres).astype(np.uint16)).save(folder / f"depth_{number}.png")
    return folder


@pytest.fixture
def model(tmp_path):
    write_folder("depth-anything", tmp_path / "model")
    return tmp_path / "model"


def by_hand(model, nyu, protocol):
    """Means over the pictures of which something was measured."""
    data, found = open_dataset(nyu, "val", "depth"), []
    for index in range(2):
        sample = data[index]
        found.append(depth_errors(expedit.predict(model, sample.image).depth, sample.depth, protocol, model.card.depth))
    return {name: np.mean([errors[name] for errors in found]) for name in found[0]}


def test_scores_are_means_over_pictures(model, nyu):
    model = expedit.load(model)
    fast = expedit.accelerate(model, "pool(alpha=2, grid=(4, 4))")
    data = open_dataset(nyu, "val", "depth")
    judge = DepthJudge(model.card, data)
    assert judge.protocol == DepthProtocol(most=10.0, crop="nyu-eigen", align="least-squares")
    found = evaluate({"dense": model, "fast": fast}, data, judge, Run(against="dense"))
    for name, contestant in (("dense", model), ("fast", fast)):
        assert found[name].scores.overall == pytest.approx(by_hand(contestant, nyu, judge.protocol))
        assert found[name].scores.details["images_without_depth"] == 1
    assert found["dense"].scores.agreement == {"relative_difference": 0.0}
    distances = []
    for index in range(3):
        ours, theirs = (expedit.predict(network, data[index].image).depth for network in (fast, model))
        distances.append(np.abs(ours - theirs).mean() / np.abs(theirs).mean())
    assert found["fast"].scores.agreement["relative_difference"] == pytest.approx(np.mean(distances), rel=1e-5)
    assert found["fast"].value == found["fast"].scores.overall["abs_rel"]


def test_the_verb_takes_the_folder_of_a_checkpoint(model, nyu, tmp_path, capsys):
    settings = ["--align", "median", "--crop", "none", "--depth-range", "1", "8"]
    out = tmp_path / "scores.json"
    assert main(["evaluate", str(model), f"nyu-depth:{nyu}", *settings, "--json", str(out)]) == 0
    scores, shown = json.loads(out.read_text()), capsys.readouterr().out
    protocol = DepthProtocol(1.0, 8.0, "none", "median")
    expected = by_hand(expedit.load(model), nyu, protocol)
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    assert scores["protocol"] == {"least": 1.0, "most": 8.0, "crop": "none", "align": "median"}
    for words in ("abs rel", "RMSE (m)", "δ1", f"{expected['abs_rel']:.4g}"):
        assert words in shown
    assert main(["evaluate", str(model), str(nyu), "-m", "pool(alpha=2, grid=(4, 4))", "--against", "dense"]) == 0
    assert "distance from the dense model's depth" in capsys.readouterr().out


def test_an_evaluation_of_depth_goes_on(model, nyu, tmp_path, capsys):
    state = ["--resume", str(tmp_path / "state")]
    assert main(["evaluate", str(model), str(nyu), *state, "--limit", "2"]) == 0
    assert main(["evaluate", str(model), str(nyu), *state]) == 0
    assert main(["evaluate", str(model), str(nyu), *state, "--align", "median"]) == 2
    assert "align" in capsys.readouterr().err


def test_what_does_not_go_together_is_refused(model, nyu, tmp_path):
    data = open_dataset(nyu, "val", "depth")
    inverse, metric = (Card("depth", (), (), output="depth", depth=kind) for kind in ("inverse", "metric"))
    assert DepthJudge(metric, data).protocol.align == "none"
    with pytest.raises(ValueError, match="neither scale nor shift"):
        DepthJudge(inverse, data, align="none")
    with pytest.raises(ValueError, match="no submission files"):
        DepthJudge(metric, data, tmp_path)
    with pytest.raises(ValueError, match="expected data for depth models"):
        DepthJudge(metric, open_dataset("toy"))
    with pytest.raises(ValueError, match="least and most"):
        DepthJudge(metric, data, depth_range=(3.0, 2.0))


def test_semantic_networks_of_transformers_are_scored_like_all_others(tmp_path, capsys):
    """The processor prepares and decides; several scales and flips are refused."""
    write_folder("upernet", tmp_path / "model")
    model = expedit.load(tmp_path / "model")
    generator = np.random.default_rng(1)
    for folder in ("images", "labels"):
        (tmp_path / "data" / folder / "val").mkdir(parents=True)
    picture, right = generator.integers(0, 256, (60, 70, 3), dtype=np.uint8), 0
    Image.fromarray(picture).save(tmp_path / "data" / "images" / "val" / "a.png")
    labels = generator.integers(0, 4, (60, 70), dtype=np.uint8)
    Image.fromarray(labels).save(tmp_path / "data" / "labels" / "val" / "a.png")
    (tmp_path / "data" / "classes.txt").write_text("".join(f"class {i}\n" for i in range(4)))
    arguments = ["evaluate", str(tmp_path / "model"), str(tmp_path / "data"), "--json", str(tmp_path / "scores.json")]
    assert main(arguments) == 0
    right = (expedit.predict(model, picture).labels == labels).mean()
    assert json.loads((tmp_path / "scores.json").read_text())["pixel_accuracy"] == pytest.approx(right)
    for flag in (["--flip"], ["--scales", "0.5", "1"]):
        assert main([*arguments, *flag]) == 2
        assert "scale" in capsys.readouterr().err
