import json

import numpy as np
import pytest

import expedit
from expedit import cli
from expedit.models.card import generic_card
from expedit.models.segmenter import Segmenter
from expedit.spec import parse
from expedit.tuning.bench import Bench
from expedit.tuning.budget import Family, families
from expedit.tuning.search import LADDER, tune

SIZES = {"classes": 4, "image_size": (64, 64), "patch": 8, "width": 32, "depth": 6, "heads": 2, "head_layers": 1}


@pytest.fixture(scope="module")
def model():
    import torch

    torch.manual_seed(0)
    made = Segmenter(**SIZES).eval()
    made.card = generic_card(4, 64)
    for parameter in made.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made


@pytest.fixture
def counted(monkeypatch):
    """Multiply-adds that need no counting: blocks before and after the cut, by the tokens that are left."""

    def macs(self, method):
        left = method.keep if isinstance(method, expedit.Regions) else method.grid**2
        return 0.02 + 0.98 * (method.alpha + (6 - method.alpha) * left) / 6

    monkeypatch.setattr(Bench, "macs", macs)


def pictures(number):
    generator = np.random.default_rng(1)
    coarse = generator.integers(256, size=(number, 8, 8, 3), dtype=np.uint8)
    return list(coarse.repeat(8, 1).repeat(8, 2))


@pytest.mark.parametrize("power", [1, 2, 3])
@pytest.mark.parametrize("budget", [0.15, 0.5, 0.83])
def test_a_family_uses_its_budget(power, budget):
    asked = []

    def cost(share):
        asked.append(share)
        return 0.05 + 0.95 * share**power if share < 1 else 1.0

    found = Family(lambda share: (share,)).within(budget, cost)
    least = 0.05 + 0.95 * 0.1**power
    if least > budget:
        assert found == ()
    else:
        assert 0.9 * budget <= cost(found[0]) <= budget
    assert len(asked) <= 7


def test_a_budget_of_all_leaves_all():
    assert Family(lambda share: (share,)).within(1.0, lambda share: share) == (1.0,)


def test_a_smaller_image_is_tried_only_if_asked_for():
    specs = [repr(method) for family in families(True) for method in family.build(0.5)]
    assert sum("shrink" in spec for spec in specs) == 2
    assert not any("shrink" in repr(method) for family in families(False) for method in family.build(0.5))


def test_within_a_budget_the_setting_of_most_agreement_is_chosen(model, counted):
    seen = []
    tuned = tune(model, pictures(2), macs=0.7, progress=seen.append)
    assert len(tuned.trials) == 8
    assert all(0.5 < trial.macs <= 0.7 for trial in tuned.trials)
    assert all(0 <= trial.agreement <= 1 for trial in tuned.trials)
    best = max(tuned.trials, key=lambda trial: trial.agreement)
    assert tuned.method == best.spec
    assert tuned.images == 2
    assert sum("pictures with" in text for text in seen) == 8
    dense = [expedit.predict(model, picture).labels for picture in pictures(2)]
    fast = [expedit.predict(expedit.accelerate(model, best.spec), picture).labels for picture in pictures(2)]
    assert best.agreement == pytest.approx(np.mean([np.mean(a == b) for a, b in zip(dense, fast, strict=True)]))


def test_the_search_costs_as_many_passes_as_were_said(model, counted):
    """Eight pictures once dense and eight settings at half of the multiply-adds: 40 dense passes."""
    tuned = tune(model, pictures(1), macs=0.5)
    assert 8 * (1 + sum(trial.macs for trial in tuned.trials)) <= 40


def test_the_cheapest_that_agrees_is_chosen(model, counted):
    tuned = tune(model, pictures(3), agreement=0.8)
    chosen = next(trial for trial in reversed(tuned.trials) if trial.spec == tuned.method)
    assert chosen.agreement >= 0.8
    later = tuned.trials[tuned.trials.index(chosen) + 1 :]
    assert not later or later[0].agreement < 0.8


def test_a_promise_takes_pictures_that_did_not_pick_the_family(model, counted):
    tuned = tune(model, pictures(24), agreement=0.6, confidence=0.8)
    assert tuned.images == 16
    assert "80 % confidence" in tuned.reason
    assert tuned.method != "dense"


def test_too_few_pictures_promise_nothing(model, counted):
    tuned = tune(model, pictures(4), agreement=0.98, confidence=0.95)
    assert tuned.method == "dense"
    assert "149 pictures or more" in tuned.reason


def test_a_speed_up_is_measured(model, counted, monkeypatch):
    """With a clock that knows the multiply-adds and adds something of its own to them."""
    monkeypatch.setattr(Bench, "speedup", lambda self, method: 1 / (0.2 + 0.8 * self.macs(method)))
    tuned = tune(model, pictures(1), speedup=1.5)
    assert tuned.trials
    assert all(trial.speedup == pytest.approx(1.5, rel=0.1) for trial in tuned.trials)
    monkeypatch.setattr(Bench, "speedup", lambda self, method: 1.01)
    assert tune(model, pictures(1), speedup=1.5).method == "dense"


@pytest.mark.parametrize(
    ("goals", "message"),
    [
        ({}, "exactly one of macs, speedup and agreement, got none"),
        ({"macs": 0.5, "speedup": 2}, "got macs, speedup"),
        ({"macs": 0.5, "confidence": 0.9}, "belongs to a promise of agreement"),
        ({"macs": 0}, r"macs: expected a number in \(0, 1\]"),
        ({"agreement": 1.0}, "only the dense model is certain"),
        ({"agreement": 0.9, "confidence": 1.0}, "only the dense model is certain"),
    ],
)
def test_goals_that_mean_nothing_are_refused(model, goals, message):
    with pytest.raises(ValueError, match=message):
        tune(model, pictures(1), **goals)


def test_models_and_pictures_that_cannot_be_tuned_are_refused(model):
    with pytest.raises(ValueError, match="photographs like those"):
        tune(model, [], macs=0.5)
    with pytest.raises(ValueError, match="accelerated already"):
        tune(expedit.accelerate(model, "pool(alpha=2)"), pictures(1), macs=0.5)


def test_the_command_writes_a_file_that_every_spec_can_name(counted, tmp_path, capsys):
    from PIL import Image

    for number, picture in enumerate(pictures(2)):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    file = tmp_path / "tuned.json"
    assert cli.main(["tune", "segmenter-mini", str(tmp_path), "--macs", "0.6", "--limit", "1", "-o", str(file)]) == 0
    written = json.loads(file.read_text())
    out = capsys.readouterr().out
    assert written["method"] in out
    assert f"-m @{file}" in out
    assert repr(parse(f"@{file}")) == written["method"]
    assert cli.main(["benchmark", "segmenter-mini", "--macs-only", "-m", f"@{file}"]) == 0
    assert written["method"] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected a file of expedit tune"),
        ("[]", "expected a file of expedit tune"),
        ('{"method": 3}', "expected a file of expedit tune"),
        ('{"method": "@x"}', "expected a file of expedit tune"),
        ('{"method": "dense"}', "no setting was good enough"),
        ('{"method": "nothing(a=1)"}', "unknown method"),
        ('{"x": "' + "x" * 2**20 + '"}', "more than 1048576 bytes"),
    ],
)
def test_files_without_a_setting_are_refused(tmp_path, content, message):
    file = tmp_path / "tuned.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=message):
        parse(f"@{file}")


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match=r"missing\.json"):
        parse("@missing.json")


def test_the_ladder_goes_down():
    assert list(LADDER) == sorted(LADDER, reverse=True)
