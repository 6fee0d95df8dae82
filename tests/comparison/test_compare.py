"""The comparison: counts by hand, resume, tables, and the verb on the model that ships."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from expedit import Expedit, Pool
from expedit.checkpoints import safetensors_format
from expedit.checkpoints.zoo import SHIPPED, load
from expedit.cli import main
from expedit.comparison.compare import Contest, first_window, rows, run
from expedit.core import LOGITS, Method, Span, attn
from expedit.data.toy import Toy
from expedit.evaluation.resume import Partial
from expedit.methods import METHODS as KNOWN
from expedit.methods.pool import Averages
from expedit.models import Segmenter

METHODS = [Expedit(alpha=1, grid=(4, 4), top_k=4), Pool(alpha=1, grid=(4, 4))]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(2)
    return Segmenter(classes=12, image_size=(64, 64), patch=8, width=32, depth=3, heads=2, head_layers=1).eval()


DATA = Toy(length=5, size=64)


def test_counts_are_those_of_the_labels(model):
    contest = Contest(model, METHODS)
    run(contest, DATA, 3)
    found = [contest.labels(DATA[index]) for index in range(3)]
    for place, spec in enumerate(contest.models):
        truth, dense = np.zeros((12, 12), int), np.zeros((12, 12), int)
        for index, labels in enumerate(found):
            label = DATA[index].label
            np.add.at(truth, (label[label != 255], labels[spec][label != 255]), 1)
            np.add.at(dense, (labels["dense"], labels[spec]), 1)
        assert np.array_equal(contest.counts[place, 0], truth)
        assert np.array_equal(contest.counts[place, 1], dense)


def test_a_killed_run_goes_on(model, tmp_path):
    whole = Contest(model, METHODS)
    run(whole, DATA, 5)
    state = Partial(tmp_path / "state", {"x": 1})
    first = Contest(model, METHODS)
    run(first, DATA, 2, state)
    second = Contest(model, METHODS)
    run(second, DATA, 5, state)
    assert second.done == [2, 3, 4]
    assert np.array_equal(second.counts, whole.counts)


def test_rows_without_time_and_without_accuracy(model):
    from expedit.cost.benchmark import count

    counted = count(model, METHODS, (64, 64))
    table = rows(counted, [], None)
    assert [row.spec for row in table] == ["dense", *map(repr, METHODS)]
    assert all(row.ms is None and row.miou is None and row.agreement is None for row in table)
    assert table[1].mac_ratio > 1


def test_a_window_is_what_methods_are_timed_on(model):
    assert first_window(model, Toy(length=1, size=100)[0]).shape == (1, 3, 64, 64)


def test_the_verb_writes_table_and_report(tmp_path, capsys):
    out = tmp_path / "report"
    argv = ["compare", "--limit", "2", "--rounds", "1", "--examples", "1", "-o", str(out)]
    argv += ["-m", "expedit(alpha=4, grid=(16, 16))", "-m", "tome(ratio=0.3)"]
    assert main(argv) == 0
    assert {path.name for path in out.iterdir()} == {"report.html", "table.csv", "table.json"}
    table = json.loads((out / "table.json").read_text())
    assert [row["spec"] for row in table["rows"]] == ["dense", "expedit(alpha=4, grid=(16, 16))", "tome(ratio=0.3)"]
    for row in table["rows"]:
        assert row["efficiency"] == pytest.approx(row["speedup"] / row["mac_ratio"])
        assert 0 < row["agreement"] <= 1
    dense = table["rows"][0]
    assert (dense["agreement"], dense["mac_ratio"], dense["delta_miou"]) == (1, 1, 0)
    assert "data:image/" in (out / "report.html").read_text()
    assert "agreement" in capsys.readouterr().out


@dataclass(frozen=True, repr=False)
class Coarse(Method):
    """A method of one's own: no published table has it."""

    alpha: int = 1

    def cuts(self, net):
        return [Span(Averages((4, 4)), attn(self.alpha), LOGITS)]


def test_a_method_of_ones_own_is_compared_and_benchmarked(model, tmp_path, monkeypatch):
    monkeypatch.setitem(KNOWN, "coarse", Coarse)
    safetensors_format.save(model, tmp_path / "tiny.safetensors")
    argv = ["-m", "coarse(alpha=2)", "--rounds", "1", "--threads", "1"]
    files = ["--weights", str(tmp_path / "tiny.safetensors"), "-o", str(tmp_path)]
    assert main(["compare", *argv, *files, "--limit", "1", "--examples", "1"]) == 0
    dense, own = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert own["gmacs"] < dense["gmacs"]
    assert 0 < own["agreement"] < 1
    assert main(["benchmark", files[1], *argv, "--json", str(tmp_path / "b.json")]) == 0
    dense, own = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert dense["published_convention_gmacs"] > 0
    assert "published_convention_gmacs" not in own


def test_published_recipes_count_without_data_and_weights(tmp_path, capsys):
    argv = ["compare", "segmenter-pascal-context", "--macs-only", "-m", "tome(ratio=0.2)", "-o", str(tmp_path)]
    assert main(argv) == 0
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["rows"][1]["gmacs"] == pytest.approx(283.9, abs=0.1)
    assert "tome(ratio=0.2)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["compare", "segmenter-ade20k"], "--data"),
        (["compare", "segmenter-ade2k"], "did you mean 'segmenter-ade20k'"),
    ],
)
def test_what_is_missing_is_named(argv, word, tmp_path, capsys):
    assert main([*argv, "-o", str(tmp_path)]) == 2
    assert word in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--limit", "--rounds", "--window-batch", "--threads"])
def test_what_counts_is_positive(flag, capsys):
    with pytest.raises(SystemExit):
        main(["compare", flag, "0"])
    assert f"{flag}: expected a positive integer, got '0'" in capsys.readouterr().err


def test_a_resumed_comparison_is_of_the_same_images(tmp_path, capsys):
    argv = ["compare", "--rounds", "1", "--examples", "1", "-m", "pool(alpha=4, grid=(16, 16))", "-o", str(tmp_path)]
    assert main([*argv, "--limit", "2", "--resume"]) == 0
    assert main([*argv, "--limit", "1", "--resume"]) == 2
    assert "other settings, {'images': 2}" in capsys.readouterr().err


def test_the_shipped_model_is_small_and_good():
    """A toy of its own kind: 12 images are enough to see that the weights are the trained ones."""
    assert SHIPPED["segmenter-mini"].stat().st_size < 8e6
    contest = Contest(load("segmenter-mini"), [])
    run(contest, Toy(length=12), 12)
    from expedit.metrics import SemanticScores

    assert SemanticScores(contest.counts[0, 0]).miou() > 0.75
