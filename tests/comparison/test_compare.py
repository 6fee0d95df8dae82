"""The comparison: counts by hand, resume, tables, and the verb on the model that ships."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from expedit import Expedit, Pool, predict
from expedit.checkpoints import safetensors_format
from expedit.checkpoints.zoo import SHIPPED, load
from expedit.cli import main
from expedit.comparison.compare import contestants, first_window, rows
from expedit.comparison.result import Comparison, Printed
from expedit.core import LOGITS, Method, Span, attn
from expedit.cost.benchmark import count
from expedit.data.toy import Toy
from expedit.evaluation.evaluate import Run, evaluate
from expedit.evaluation.judge import Metric
from expedit.evaluation.semantic import SemanticJudge
from expedit.methods import METHODS as KNOWN
from expedit.methods.pool import Averages
from expedit.models import Segmenter

METHODS = [Expedit(alpha=1, grid=(4, 4), top_k=4), Pool(alpha=1, grid=(4, 4))]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(2)
    return Segmenter(classes=12, image_size=(64, 64), patch=8, width=32, depth=3, heads=2, head_layers=1).eval()


DATA = Toy(length=5, size=64)


def evaluated(model, methods, images):
    models, judge = contestants(model, methods, {}), SemanticJudge(model.card, DATA)
    return list(evaluate(models, DATA, judge, Run(limit=images, against="dense")).values())


def test_rows_are_those_of_the_labels(model):
    counted = count(model, METHODS, (64, 64))
    table = rows(counted, [], evaluated(model, METHODS, 3), [None] * 3)
    models, right = contestants(model, METHODS, {}), np.array([DATA[index].label for index in range(3)])
    labels = {name: np.array([predict(net, DATA[i].image).labels for i in range(3)]) for name, net in models.items()}
    assert [row.spec for row in table] == list(models) == ["dense", *map(repr, METHODS)]
    for row in table:
        found, inside = labels[row.spec], right != 255
        shares = []
        for index in range(12):
            both, either = (found == index) & (right == index), ((found == index) & inside) | (right == index)
            shares += [both.sum() / either.sum()] if either.any() else []
        assert row.value == pytest.approx(np.mean(shares))
        assert row.agreement == (found == labels["dense"]).mean()
        assert row.delta == row.value - table[0].value
        assert row.published_gmacs == pytest.approx(row.gmacs, rel=0.4)


def test_rows_without_time_and_without_scores(model):
    counted = count(model, METHODS, (64, 64))
    table = rows(counted, [], [], [Printed(2.5, 1.5, 0.4), None, None])
    assert all(row.ms is row.value is row.delta is row.agreement is None for row in table)
    assert table[1].mac_ratio > 1
    metric = Metric("PQ", "PQ", "panoptic quality")
    dense, *others = Comparison("t", metric, None, table, {}).as_json()
    assert dense["gmacs"] == counted[0].true_gmacs
    assert dense["published_convention_gmacs"] == counted[0].published_convention_gmacs
    assert (dense["published_gflops"], dense["published_speedup"], dense["published_pq"]) == (2.5, 1.5, 0.4)
    assert all(row["published_gflops"] is row["pq"] is row["delta_pq"] is None for row in others)


def test_a_window_is_what_methods_are_timed_on(model):
    assert first_window(model, Toy(length=1, size=100)[0].image).shape == (1, 3, 64, 64)


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
    head, first, *_ = (out / "table.csv").read_text().splitlines()
    assert head.split(",") == list(dense)
    assert first.startswith(f"dense,{dense['tokens']},{dense['gmacs']},1.0,{dense['published_convention_gmacs']},")
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


def test_a_resumed_comparison_of_more_images_and_methods_runs_what_is_new(model, tmp_path, capsys):
    safetensors_format.save(model, tmp_path / "tiny.safetensors")
    argv = ["compare", "--weights", str(tmp_path / "tiny.safetensors"), "--rounds", "1", "--examples", "0"]
    pool, tome = ["-m", "pool(alpha=1, grid=(4, 4))"], ["-m", "tome(ratio=0.3)"]
    states = []
    for more, images, resumed in ((pool, 2, True), (pool + tome, 3, True), (pool + tome, 3, False), (tome, 1, True)):
        out = tmp_path / ("resumed" if resumed else "whole")
        assert main([*argv, *more, "--limit", str(images), "-o", str(out), *["--resume"] * resumed]) == 0
        state = sorted((out / "state").glob("*")) if resumed else []
        states.append([len(path.read_text().splitlines()) - 1 for path in state])
        if not resumed:
            kept = [json.loads((tmp_path / name / "table.json").read_text())["rows"] for name in ("resumed", "whole")]
    assert states == [[4], [4, 2 + 3], [], [4, 5, 0]]
    for row, other in zip(*kept, strict=True):
        assert all(row[name] == other[name] for name in ("spec", "miou", "delta_miou", "agreement"))
    assert main([*argv, *pool, "-o", str(tmp_path / "resumed"), "--resume", "--dtype", "bf16"]) == 2
    assert "other settings, {'dtype': 'fp32'}" in capsys.readouterr().err


def test_the_shipped_model_is_small_and_good():
    """A toy of its own kind: 12 images are enough to see that the weights are the trained ones."""
    assert SHIPPED["segmenter-mini"].stat().st_size < 8e6
    model, data = load("segmenter-mini"), Toy(length=12)
    assert evaluate({"model": model}, data, SemanticJudge(model.card, data))["model"].value > 0.75
