"""Mask2Former through the verbs that compare, predict and convert."""

import hashlib
import json
import re
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from safetensors import safe_open
from safetensors.torch import load_file

import expedit
from data_files import opened, write
from expedit.checkpoints import mask2former
from expedit.checkpoints.convert import convert
from expedit.cli import main
from expedit.cost.trace import token_clusters
from expedit.data import ade20k_panoptic, coco, open_dataset
from expedit.data.ade20k import open_ade20k
from expedit.evaluation.evaluate import Run, evaluate
from expedit.evaluation.judges import JUDGES
from expedit.models.mask2former import Architecture, Mask2Former
from small_mask2former import SPEC, coco_tree, network, saved

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def coco_panoptic(shared, tmp_path_factory):
    return coco_tree(shared, tmp_path_factory.mktemp("coco"))


RECIPE = """\
title: small
architecture: mask2former-swin-l-coco-ARCH
data: coco-TASK
split: val
images: 5000
weights: none
measured_at: [1, 96, 128]
options: {official_shift_mask: true, official_padding: true}
rows:
  - {method: dense, settings: released, published: {gflops: 0.2, fps: 4.3, METRIC: 50.1}}
  - method: expedit(alpha=6, grid=(4, 4), top_k=6)
    counted: expedit(alpha=5, grid=(4, 4), top_k=6)
    settings: released
    note: of two blocks
    published: {gflops: 0.1, fps: 5.4, METRIC: 49.1}
"""


def value_of(model, data, limit=None):
    judge = JUDGES[model.card.task](model.card, data)
    return evaluate({"model": model}, data, judge, Run(limit=limit))["model"].value


@pytest.mark.parametrize(("task", "metric", "figure"), [("panoptic", "pq", "PQ"), ("instance", "ap", "AP")])
def test_comparison_of_a_recipe(coco_panoptic, shared, tmp_path, capsys, task, metric, figure):
    root = {"panoptic": coco_panoptic, "instance": shared / "data/coco_instance/tinycoco"}[task]
    categories = {"panoptic": coco.panoptic_categories, "instance": coco.instance_categories}[task]()
    model, recipe = saved(network(task, categories), tmp_path), tmp_path / "small.yaml"
    recipe.write_text(RECIPE.replace("ARCH", task).replace("TASK", task).replace("METRIC", metric))
    argv = ["compare", recipe, "--weights", model, "--data", root, "--limit", 2, "--rounds", 1, "--threads", 1]
    argv += ["--examples", 1]
    for _ in range(2):  # the second time from what is kept
        assert main([str(word) for word in (*argv, "--resume", "-o", tmp_path / "out")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"{figure} is of expedit(alpha=6" in printed
    assert "0.20" in printed
    rows = json.loads((tmp_path / "out/table.json").read_text())["rows"]
    assert [row["spec"] for row in rows] == ["dense", "expedit(alpha=5, grid=(4, 4), top_k=6)"]
    assert rows[0]["gmacs"] > rows[1]["gmacs"] > 0
    assert min(row["ms"] for row in rows) > 0
    data = open_dataset(root, "val", task)
    fast = expedit.accelerate(
        expedit.load(model), "expedit(alpha=6, grid=(4, 4), top_k=6)", official_shift_mask=True, official_padding=True
    )
    assert [row[metric] for row in rows] == [value_of(net, data, 2) for net in (expedit.load(model), fast)]
    assert rows[1][f"delta_{metric}"] == rows[1][metric] - rows[0][metric]
    published = [(row["published_gflops"], row["published_speedup"], row[f"published_{metric}"]) for row in rows]
    assert published == [(0.2, 1, 0.501), (0.1, pytest.approx(5.4 / 4.3), 0.491)]
    assert all(row["published_convention_gmacs"] > row["gmacs"] for row in rows[:1])
    report = (tmp_path / "out/report.html").read_text()
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", report)
    assert {"Picture", "Ground truth", "Dense prediction", "Prediction"} <= set(captions)
    assert any(re.fullmatch(r"\d+ clusters", caption) for caption in captions)
    assert ("Difference" in captions) == (task == "panoptic")
    assert f"<button>Δ{figure}" in report or f">Δ{figure}</th>" in report


def test_comparison_of_a_semantic_recipe_that_answers_with_queries(tmp_path, capsys):
    rng = np.random.default_rng(0)
    tree = {}
    for name in ("a", "b"):
        tree[f"images/validation/{name}.jpg"] = rng.integers(0, 256, (60, 80, 3), np.uint8)
        tree[f"annotations/validation/{name}.png"] = rng.integers(0, 151, (60, 80), np.uint8)
    root, recipe = write(tmp_path / "ADEChallengeData2016", tree), tmp_path / "small.yaml"
    model = saved(network("semantic", ade20k_panoptic.panoptic_categories()), tmp_path)
    text = RECIPE.replace("coco-ARCH", "ade20k-semantic").replace("coco-TASK", "ade20k").replace("METRIC", "miou")
    recipe.write_text(text)
    argv = ["compare", recipe, "--weights", model, "--data", root, "--rounds", 1, "--threads", 1]
    assert main([str(word) for word in (*argv, "-o", tmp_path / "out")]) == 0
    assert "mIoU is of expedit(alpha=6" in " ".join(capsys.readouterr().out.split())
    rows = json.loads((tmp_path / "out/table.json").read_text())["rows"]
    assert rows[0]["miou"] == value_of(expedit.load(model), open_ade20k(root))
    assert rows[1]["delta_miou"] == rows[1]["miou"] - rows[0]["miou"]
    assert rows[0]["agreement"] == 1 > rows[1]["agreement"]
    assert "Difference" in (tmp_path / "out/report.html").read_text()


def test_predictions_on_disk(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (90, 140, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "photo.png")
    found = {}
    for task, categories in (("panoptic", coco.panoptic_categories()), ("instance", coco.instance_categories())):
        model = network(task, categories)
        out = tmp_path / task
        argv = ["predict", saved(model, tmp_path), tmp_path / "photo.png", "-o", out, "-m", SPEC, "--tokens"]
        assert main([str(word) for word in (*argv, "--option", "official_shift_mask")]) == 0
        found[task] = json.loads((out / "photo.json").read_text())
        assert opened(out / "photo_overlay.png").size == opened(out / "photo_tokens.png").size == (140, 90)
        fast = expedit.accelerate(model, SPEC, official_shift_mask=True)
        assert isinstance(fast, Mask2Former)
        found[task, "memory"] = expedit.predict(fast, image)
    ids = np.array(opened(tmp_path / "panoptic/photo_panoptic.png")).astype(int) @ [1, 256, 65536]
    prediction, written = found["panoptic", "memory"], found["panoptic"]["segments"]
    assert np.array_equal(ids, prediction.labels)
    assert len(written) > 1
    for segment, entry in zip(prediction.segments, written, strict=True):
        assert (entry["id"], entry["name"]) == (segment.id, prediction.classes[segment.category])
        rows, columns = np.nonzero(ids == entry["id"])
        x, y, width, height = entry["bbox"]
        assert (entry["area"], x, y) == (len(rows), columns.min(), rows.min())
        assert (x + width - 1, y + height - 1) == (columns.max(), rows.max())
    prediction, written = found["instance", "memory"], found["instance"]["instances"]
    assert len(written) == len(prediction.masks) > 5
    for mask, entry in zip(prediction.masks, written, strict=True):
        assert np.array_equal(coco_mask.decode(entry["segmentation"]), mask)
        assert entry["area"] == mask.sum()


@pytest.mark.parametrize("options", [{}, {"official_padding": True}])
def test_clusters_of_windows_are_drawn_where_they_are(options):
    """A reducer that hands out known tokens: every cluster is a block of the map, inside one window."""
    model = expedit.accelerate(network("panoptic", coco.panoptic_categories()), "pool(alpha=4, grid=(3, 3))", **options)
    owner = token_clusters(model, torch.zeros(1, 3, 192, 224))
    assert owner.shape == (12, 14)
    side = 6
    for h, w in np.ndindex(12, 14):
        members = np.argwhere(owner == owner[h, w])
        assert (members // side == (h // side, w // side)).all()
    whole = owner[:12, :12]
    assert len(np.unique(whole)) == 4 * 9
    blocks = whole.reshape(6, 2, 6, 2).transpose(0, 2, 1, 3).reshape(36, 4)
    assert (blocks == blocks[:, :1]).all()


def test_conversion_keeps_network_and_protocol(tmp_path, monkeypatch, capsys):
    model = network("instance", coco.instance_categories())
    folder = tmp_path / "folder"
    model.network.save_pretrained(folder)
    monkeypatch.setattr(mask2former, "PUBLISHED", {"small": model.architecture})
    monkeypatch.setattr(mask2former, "published_card", lambda name: model.card)
    target = tmp_path / "small.safetensors"
    assert main(["convert", str(folder), "-o", str(target)]) == 0
    printed = capsys.readouterr().out
    assert "Mask2Former Swin width=16 depths=2/2/4/2 window=6" in printed
    assert "whole images" in printed
    again, pixels = expedit.load(target), torch.randn(1, 3, 64, 96)
    assert replace(again.card, source="") == model.card
    assert again.card.source.startswith("folder/model.safetensors (sha256 ")
    with torch.inference_mode():
        for a, b in zip(model(pixels), again(pixels), strict=True):
            assert torch.equal(a, b)
    assert main(["convert", str(target), "-o", str(tmp_path / "twice.safetensors")]) == 0
    assert main(["convert", str(folder), "-o", str(folder / "model.safetensors"), "--force"]) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert main(["convert", str(folder), "-o", str(target), "--force", "--norm-eps", "1e-6"]) == 2
    assert "norm_eps has no meaning" in capsys.readouterr().err


def test_official_pickles_become_our_files(shared, tmp_path, monkeypatch):
    source = shared / "goldens/mask2former/mask2former_t_detectron2.pkl"
    with safe_open(source.with_name("mask2former_t_baseline_128x192.safetensors"), "pt") as file:
        config = json.loads(file.metadata()["config"])
    known = {field.name for field in fields(Architecture)}
    sizes = {key: tuple(v) if isinstance(v, list) else v for key, v in config.items() if key in known}
    architecture = Architecture(**sizes)
    names = tuple(f"class {index}" for index in range(architecture.classes))
    card = mask2former.protocol("panoptic", (128, 96), names, things=(0,))
    monkeypatch.setattr(mask2former, "PUBLISHED", {"small": architecture})
    monkeypatch.setattr(mask2former, "published_card", lambda name: card)
    done = convert(source, tmp_path / "t.safetensors")
    assert done.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    golden = load_file(source.with_name("mask2former_t_baseline_128x192.safetensors"))
    with torch.inference_mode():
        classes, masks = expedit.load(done.target)(golden["input.image"])
    torch.testing.assert_close(classes, golden["output.class_logits"], atol=2e-4, rtol=0)
    torch.testing.assert_close(masks, golden["output.mask_logits"], atol=5e-4, rtol=0)
