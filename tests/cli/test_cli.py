"""The command line as a user meets it: files out, and one clear sentence with status 2 for everything wrong."""

import json
import pickle
import re
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import requires
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from data_files import opened
from expedit.checkpoints import safetensors_format
from expedit.cli import main
from expedit.cli.doctor import CORE
from expedit.methods import METHODS
from expedit.runtime import multiplies_in

SPEC = "expedit(alpha=1, grid=(3, 4), top_k=5)"


def refused(capsys, argv, *words):
    """Status 2, one sentence with these words, no traceback."""
    try:
        status = main([str(a) for a in argv])
    except SystemExit as stop:
        status = stop.code
    error = capsys.readouterr().err
    assert status == 2
    assert "Traceback" not in error
    for word in words:
        assert word in error, error
    return error


def test_predict_writes_mask_overlay_labels_clusters_and_json(checkpoint, photo, tmp_path):
    out = tmp_path / "out"
    assert main(["predict", str(checkpoint), str(photo), "-m", SPEC, "-o", str(out), "--tokens"]) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "photo.json",
        "photo_labels.png",
        "photo_legend.png",
        "photo_mask.png",
        "photo_overlay.png",
        "photo_tokens.png",
    ]
    labels = np.array(opened(out / "photo_labels.png"))
    assert labels.shape == (70, 100)
    for kind in ("mask", "overlay", "tokens"):
        assert opened(out / f"photo_{kind}.png").size == (100, 70)
    summary = json.loads((out / "photo.json").read_text())
    assert (summary["height"], summary["width"], summary["method"]) == (70, 100, SPEC)
    assert sum(c["pixels"] for c in summary["classes"]) == labels.size
    assert {c["id"]: c["pixels"] for c in summary["classes"]} == dict(
        zip(*(values.tolist() for values in np.unique(labels, return_counts=True)), strict=True)
    )


@pytest.mark.parametrize(("flags", "told"), [("fpu avx2", True), ("fpu avx512_bf16", False)])
def test_half_precision_without_products_is_told(flags, told, checkpoint, photo, tmp_path, capsys, monkeypatch):
    read, content = Path.read_text, f"processor : 0\nflags : {flags}\n"
    monkeypatch.setattr(Path, "read_text", lambda p, *a, **k: content if p.name == "cpuinfo" else read(p, *a, **k))
    assert multiplies_in("fp32") is True
    assert multiplies_in("bf16") is not told
    assert main(["predict", str(checkpoint), str(photo), "--dtype", "bf16", "-o", str(tmp_path / "out")]) == 0
    assert ("no bf16 products" in capsys.readouterr().err) is told


def odd_pictures():
    rgb = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    image = Image.fromarray(rgb)
    alpha = image.convert("RGBA")
    alpha.putalpha(100)
    yield "one_pixel.png", Image.new("RGB", (1, 1), "red")
    yield "line.png", Image.new("RGB", (120, 1), "blue")
    yield "sixteen_bit.png", Image.fromarray(rgb[:, :, 0].astype(np.uint16) * 257)
    yield "palette.png", image.quantize(16)
    yield "cmyk.jpg", image.convert("CMYK")
    yield "alpha.png", alpha
    yield "grey.png", image.convert("L")
    yield "grey_alpha.png", image.convert("LA")
    yield "bilevel.png", image.convert("1")


@pytest.mark.parametrize(("name", "image"), list(odd_pictures()), ids=lambda v: v if isinstance(v, str) else "")
def test_odd_images_are_handled(checkpoint, tmp_path, name, image):
    image.save(tmp_path / name)
    assert main(["predict", str(checkpoint), str(tmp_path / name), "-m", SPEC, "-o", str(tmp_path / "out")]) == 0
    stem = name.split(".")[0]
    assert opened(tmp_path / "out" / f"{stem}_labels.png").size == image.size


def test_a_folder_goes_on_past_a_broken_image(checkpoint, photo, tmp_path, capsys):
    folder = tmp_path / "folder"
    folder.mkdir()
    whole = photo.read_bytes()
    (folder / "a.png").write_bytes(whole[: len(whole) // 2])
    (folder / "b.png").write_bytes(whole)
    (folder / "notes.txt").write_text("not an image")
    error = refused(capsys, ["predict", checkpoint, folder, "-o", tmp_path / "out"], "a.png", "cut short")
    assert "notes" not in error
    assert (tmp_path / "out" / "b_labels.png").exists()


def test_paths_that_are_no_images(checkpoint, photo, tmp_path, capsys):
    text = tmp_path / "text.png"
    text.write_text("hello")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(capsys, ["predict", checkpoint, tmp_path / "gone.png"], "gone.png", "no such file")
    refused(capsys, ["predict", checkpoint, text, "-o", tmp_path / "out"], "text.png", "expected an image")
    refused(capsys, ["predict", checkpoint, empty], "no pictures in this folder")
    twin = tmp_path / "other" / "photo.png"
    twin.parent.mkdir()
    opened(photo).save(twin)
    refused(capsys, ["predict", checkpoint, photo, twin], "overwrite one another")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nosuch(alpha=3)", ["unknown method", ", ".join(METHODS)]),
        ("expedit(alfa=3)", ["unknown setting 'alfa'", "alpha, grid, iterations"]),
        ("expedit(alpha=3, grid=(3, 4), top_k=5)", ["alpha", "0..2"]),
        ("expedit(alpha=1, grid=(9, 9))", ["grid (9, 9) is larger than the token map"]),
        ("expedit(alpha=1, grid=(3, 4), top_k=0)", ["top_k", ">= 1"]),
    ],
)
def test_wrong_methods(checkpoint, photo, tmp_path, capsys, spec, words):
    refused(capsys, ["predict", checkpoint, photo, "-m", spec, "-o", tmp_path / "out"], *words)
    refused(capsys, ["benchmark", checkpoint, "-m", spec, "--macs-only"], *words)


def test_wrong_checkpoints(checkpoint, photo, tmp_path, capsys):
    out = ["-o", tmp_path / "out"]
    refused(capsys, ["predict", "segmenter-minny", photo, *out], "did you mean 'segmenter-mini'")
    refused(capsys, ["predict", "segmenter-vit-l16-ade20k", photo, *out], "architecture without weights")
    state = load_file(checkpoint)
    state["encoder.extra"] = torch.zeros(2)
    del state["decoder.cls_emb"], state["encoder.blocks.1.norm1.weight"]
    save_file(state, tmp_path / "keys.safetensors")
    refused(capsys, ["predict", tmp_path / "keys.safetensors", photo, *out], "decoder.cls_emb")
    state["decoder.cls_emb"] = torch.zeros(1, 5, 32)
    save_file(state, tmp_path / "keys.safetensors")
    refused(
        capsys,
        ["predict", tmp_path / "keys.safetensors", photo, *out],
        "missing keys (1): encoder.blocks.1.norm1.weight",
        "unknown keys (1): encoder.extra",
    )
    short = tmp_path / "short.safetensors"
    short.write_bytes(checkpoint.read_bytes()[:5000])
    refused(capsys, ["predict", short, photo, *out], "damaged or cut short")
    tensors, told = safetensors_format.read(checkpoint)
    for change, word in (
        ({"format": "expedit-99"}, "expected the format 'expedit-1', got 'expedit-99'"),
        ({"settings": "{"}, "its metadata does not fit"),
        ({"settings": '{"depth": 3}'}, "unexpected keyword argument 'depth'"),
        ({"card": '{"task": "semantic"}'}, "missing 2 required positional arguments"),
        ({"card": json.dumps({**asdict(told.card), "stride": 99})}, "stride: expected 1..64"),
        ({"card": json.dumps({**asdict(told.card), "task": "poetry"})}, "task: expected one of"),
    ):
        save_file(tensors, tmp_path / "told.safetensors", change)
        refused(capsys, ["predict", tmp_path / "told.safetensors", photo, *out], "told.safetensors", word)
    (tmp_path / "model.onnx").write_bytes(b"x")
    refused(capsys, ["predict", tmp_path / "model.onnx", photo, *out], "expected a checkpoint, got a text file")


class Payload:
    """A pickle that leaves a file behind if anybody runs it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_a_pickle_that_would_run_code_is_refused(photo, tmp_path, capsys, suffix):
    trace, evil = tmp_path / "executed", tmp_path / f"evil{suffix}"
    if suffix == ".pth":
        torch.save({"model": Payload(trace)}, evil)
    else:
        evil.write_bytes(pickle.dumps({"model": Payload(trace)}))
    refused(capsys, ["predict", evil, photo, "-o", tmp_path / "out"], f"evil{suffix}")
    assert not trace.exists()


def test_output_that_cannot_be_written(checkpoint, photo, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    refused(capsys, ["predict", checkpoint, photo, "-o", tmp_path / "file"], "file")
    refused(capsys, ["compare", "--macs-only", "-o", tmp_path / "file" / "inside"], "file")


def test_benchmark_counts_into_json(checkpoint, tmp_path):
    out = tmp_path / "out.json"
    argv = ["benchmark", str(checkpoint), "-m", SPEC, "-m", "tome(ratio=0.3)", "--macs-only", "--json", str(out)]
    assert main(argv) == 0
    content = json.loads(out.read_text())
    assert content["model"] == str(checkpoint)
    assert [row["spec"] for row in content["rows"]] == ["dense", SPEC, "tome(ratio=0.3)"]
    for row in content["rows"]:
        assert {"spec", "published_convention_gmacs", "true_gmacs", "tokens"} <= row.keys()
    assert content["rows"][1]["true_gmacs"] < content["rows"][0]["true_gmacs"]


def test_benchmark_times(checkpoint, tmp_path, capsys):
    out = tmp_path / "out.json"
    argv = ["benchmark", checkpoint, "-m", SPEC, "--batch", 1, 2, "--rounds", 2, "--size", 64, 96, "--json", out]
    assert main([str(a) for a in argv]) == 0
    timings = json.loads(out.read_text())["timings"]
    assert [(t["spec"], t["batch"]) for t in timings] == [("dense", 1), (SPEC, 1), ("dense", 2), (SPEC, 2)]
    for t in timings:
        assert t["efficiency"] == pytest.approx(t["speedup"] / t["mac_ratio"])
        assert t["speedup_low"] <= t["speedup"] <= t["speedup_high"]
        reduced = t["spec"] != "dense"
        assert all((t["parts_ms"][part] > 0) == reduced for part in ("reduce", "blocks after", "restore"))
    assert timings[0]["speedup"] == 1
    assert "efficiency" in capsys.readouterr().out


@pytest.mark.slow
def test_the_profiler_of_benchmark_is_quiet(checkpoint):
    """Torch's profiler, which tells the peak of tensors, writes to the terminal unless told not to."""
    argv = [sys.executable, "-m", "expedit", "benchmark", str(checkpoint), "--rounds", "1", "--threads", "1"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "efficiency" in done.stdout
    assert "ProfilerHandler" not in done.stderr


def test_benchmark_refuses_what_the_machine_does_not_have(checkpoint, capsys):
    refused(capsys, ["benchmark", checkpoint, "--device", "cuda:7"], "--device cuda:7")
    refused(capsys, ["benchmark", checkpoint, "--batch", 0], "--batch")
    refused(capsys, ["benchmark", checkpoint, "--size", 0, 5], "--size")


def test_list_and_doctor(capsys):
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert "segmenter-mini" in listed
    assert "keep_rate=0.8" in listed
    assert main(["doctor"]) == 0
    needed = [line for line in requires("expedit") if "extra ==" not in line]
    assert {re.match(r"[\w-]+", line)[0].lower() for line in needed} == {name.lower() for name in CORE}
    checked = capsys.readouterr().out
    assert "torch" in checked
    assert "no problems found" in checked


def test_no_verb_and_wrong_verb(capsys):
    assert main([]) == 2
    refused(capsys, ["compress"], "invalid choice")
    assert main(["--version"]) == 0
