"""An argument that would change nothing is an error, for every verb and every argument it takes."""

import argparse
from importlib import import_module

import pytest

from expedit.cli import VERBS, main
from expedit.data import coco
from small_mask2former import network, saved
from small_video import small_model

METHOD = ("-m", "tome(ratio=0.3)")

CLIPS = ["--window 5", "--overlap 2", "--frame-batch 4"]

MACHINE = ["--device cpu", "--dtype fp32", "--threads 1"]

USELESS = {
    "predict SEMANTIC PHOTO": ["--option a", "--tokens"],
    "predict SEMANTIC PHOTO --dtype fp32": ["--actors 2", "--gpus-per-actor 1", "--rows-per-shard 5"],
    "predict SEMANTIC PHOTO --ray": ["--write json"],
    "predict SEMANTIC PHOTO METHOD": [*CLIPS, "--fps 3", "--frames", "--broken repeat", "--min-score 0.5"],
    "predict SEMANTIC PHOTO --threads 1": ["--save-features"],
    "predict PANOPTIC PHOTO": [*CLIPS, "--fps 24", "--frames", "--broken refuse", "--min-score 1", "--window-batch 1"],
    "predict INSTANCE PHOTO": [*CLIPS, "--fps 24", "--frames", "--broken refuse", "--window-batch 2", "--tokens"],
    "predict VIDEO PHOTO": ["--overlap 2", "--window-batch 1", "--compile", "--option a"],
    "predict VIDEO PHOTO METHOD": ["--tokens", "--compile", "--batch 2", "--workers 1", "--resume", "--ray"],
    "evaluate SEMANTIC toy": [
        *CLIPS,
        "--root .",
        "--max-pixels 9",
        "--submission sub",
        "--option a",
        "--align none",
        "--crop none",
        "--depth-range 0 1",
    ],
    "evaluate PANOPTIC coco-panoptic:x": [*CLIPS, "--against dense", "--flip", "--scales 1.0", "--window-batch 1"],
    "evaluate VIDEO youtubevis-2019:x": ["--overlap 2", "--against dense", "--flip", "--scales 1", "--window-batch 1"],
    "evaluate VIDEO youtubevis-2021:x": ["--compile"],
    "benchmark SEMANTIC": ["--option a"],
    "export SEMANTIC -o a.onnx": ["--option a"],
    "benchmark SEMANTIC --macs-only": ["--against bf16", "--batch 1", "--rounds 7", "--compile", *MACHINE],
    "compare": [
        "--data /no/such/place",
        "--classes classes.txt",
        "--max-pixels 9",
        "--revision main",
        "--task depth",
        "--pixels 224",
    ],
    "compare segmenter-ade20k": ["--classes classes.txt"],
    "compare segmenter-ade20k --speed-only": ["--data x", "--limit 1", "--examples 4", "--resume"],
    "compare SEMANTIC PHOTO": [
        "--data toy",
        "--classes classes.txt",
        "--weights x",
        "--resume",
        "--speed-only",
        "--window-batch 2",
    ],
    "compare SEMANTIC PHOTO --macs-only": ["--rounds 3"],
    "doctor": ["--max-pixels 9"],
    "compare --macs-only": ["--rounds 15", "--limit 1", "--window-batch 1", "--speed-only", *MACHINE],
}
"""Runs by the words that begin them, and arguments that would change nothing of what they do."""

ALWAYS = {
    "completion": set(),
    "explore": {"port", "device", "dtype", "threads", "revision", "task", "pixels"},
    "predict": {
        "method",
        "output",
        "revision",
        "task",
        "pixels",
        "max_pixels",
        "overwrite",
        "device",
        "dtype",
        "threads",
    },
    "evaluate": {
        "revision",
        "task",
        "pixels",
        "method",
        "split",
        "limit",
        "workers",
        "json",
        "resume",
        "norm_eps",
        "pos_embed",
        "overwrite",
    }
    | {"device", "dtype", "threads"},
    "export": {"method", "output", "format", "size", "batch", "overwrite", "revision", "task"},
    "benchmark": {"revision", "task", "pixels", "method", "size", "frames", "macs_only", "json", "overwrite"},
    "compare": {"method", "output", "macs_only", "overwrite"},
    "convert": {"output", "force", "architecture", "part", "image_size", "norm_eps", "pos_embed"},
    "prepare": {"split", "max_pixels"},
    "list": {"presets"},
    "tune": {"macs", "speedup", "agreement", "confidence", "shrink", "limit", "output", "overwrite", "revision", "task"}
    | {"pixels", "max_pixels", "device", "dtype", "threads"},
    "doctor": {"data"},
}
"""What changes every run of a verb, or is refused by the checkpoint's reader where it means nothing."""


@pytest.fixture(scope="module")
def models(tmp_path_factory, checkpoint):
    pytest.importorskip("transformers")
    kinds = {
        "PANOPTIC": network("panoptic", coco.panoptic_categories()),
        "INSTANCE": network("instance", coco.instance_categories()),
        "VIDEO": small_model(),
    }
    paths = {kind: saved(model, tmp_path_factory.mktemp(kind)) for kind, model in kinds.items()}
    return {"SEMANTIC": checkpoint, **paths}


@pytest.mark.parametrize(("run", "flag"), [(run, flag) for run, flags in USELESS.items() for flag in flags])
def test_what_changes_nothing_is_refused(run, flag, models, photo, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    words = {**models, "PHOTO": photo}
    argv = [part for word in run.split() for part in (METHOD if word == "METHOD" else (words.get(word, word),))]
    assert main([*map(str, argv), *flag.split()]) == 2
    captured = capsys.readouterr()
    [line] = captured.err.splitlines()
    assert line.startswith(f"expedit {argv[0]}: {flag.split()[0]}: ")
    assert captured.out == ""
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("verb", VERBS)
def test_every_argument_is_in_the_table(verb):
    parser = argparse.ArgumentParser()
    import_module(f"expedit.cli.{verb}").add_arguments(parser)
    known = {a.dest for a in parser._actions if a.option_strings} - {"help"}
    flags = [flag.split()[0] for run, flags in USELESS.items() if run.split()[0] == verb for flag in flags]
    useless = {flag.removeprefix("--").replace("-", "_") for flag in flags}
    assert known == useless | ALWAYS[verb]
    assert not useless & ALWAYS[verb]
