"""Every verb and everything that can be wrong with what it reads and writes: one sentence, and its exit status."""

import io
import os
import sys
from pathlib import Path

import pytest

from data_files import picture, write
from expedit.cli import VERBS, main

METHOD = ["-m", "pool(alpha=1, grid=(2, 2))"]
FAST = ["--threads", "1"]
LIMIT = [*FAST, "--limit", "1"]

READS = {
    "compare, weights": lambda path, at: ["compare", "--weights", path, *LIMIT, "-o", at / "o"],
    "compare, data": lambda path, at: ["compare", "segmenter-ade20k", "--weights", at / "m", "--data", path],
    "compare, recipe": lambda path, at: ["compare", path.with_suffix(".yaml"), "--weights", at / "m"],
    "compare, model": lambda path, at: ["compare", path, at / "photo.png", "-o", at / "o"],
    "compare, photographs": lambda path, at: ["compare", at / "m", path, "-o", at / "o", "--macs-only", *METHOD],
    "predict, model": lambda path, at: ["predict", path, at / "photo.png", "-o", at / "o"],
    "predict, image": lambda path, at: ["predict", at / "m", path, "-o", at / "o", *FAST],
    "evaluate, model": lambda path, at: ["evaluate", path, "toy", *LIMIT],
    "evaluate, data": lambda path, at: ["evaluate", at / "m", path, *LIMIT],
    "evaluate, named data": lambda path, at: ["evaluate", at / "m", f"folder:{path}", *LIMIT],
    "convert": lambda path, at: ["convert", path, "-o", at / "o.safetensors"],
    "benchmark": lambda path, at: ["benchmark", path, "--macs-only"],
    "export": lambda path, at: ["export", path, "-o", at / "o.onnx"],
    "prepare": lambda path, at: ["prepare", "ade20k-panoptic", path],
    "doctor": lambda path, at: ["doctor", "--data", path],
}
"""What each verb reads: the command line by the path that something is wrong with, and the folder of what is right."""

WRONG = {
    "missing": lambda path: None,
    "unreadable": lambda path: path.symlink_to(path.name),  # a circle: unreadable for an administrator, too
    "empty": lambda path: path.write_bytes(b""),
    "empty folder": lambda path: path.mkdir(),
    "text": lambda path: path.write_text("to whom it may concern\n"),
}

WRITES = {
    "compare": lambda at, out: ["compare", at / "m", at / "photo.png", "--macs-only", *METHOD, "-o", out],
    "predict": lambda at, out: ["predict", at / "m", at / "photo.png", *FAST, "-o", out],
    "evaluate": lambda at, out: ["evaluate", at / "m", at / "pairs", *LIMIT, "--json", out / "s.json"],
    "convert": lambda at, out: ["convert", at / "m", "-o", out / "o.safetensors"],
    "benchmark": lambda at, out: ["benchmark", at / "m", "--macs-only", "--json", out / "s.json"],
}
"""What each verb writes, by the folder of what it reads and the place; ``prepare`` has tests of its own."""

PRINTS = {
    **{verb: lambda at, verb=verb: WRITES[verb](at, at / "o") for verb in WRITES},
    "list": lambda at: ["list"],
    "doctor": lambda at: ["doctor", "--data", at / "pairs"],
}


@pytest.fixture
def at(tmp_path, checkpoint):
    """A folder with a model ``m``, a photograph and a data set."""
    place = tmp_path / "right"
    files = {f"pairs/{kind}/val/x.png": picture(64, 64)[..., :1 if kind == "labels" else 3].squeeze() % 5
             for kind in ("images", "labels")}  # fmt: skip
    write(place, {**files, "pairs/classes.txt": "\n".join("abcde"), "photo.png": picture(64, 64)})
    (place / "m").write_bytes(checkpoint.read_bytes())
    return place


def ended(argv, capsys):
    """Exit status, the sentences about what went wrong, and all that was printed on standard error.

    What is wrong with a data set is the very report of ``doctor``; its first line counts.
    """
    status = main([str(word) for word in argv])
    out, err = (text.splitlines() for text in capsys.readouterr())
    sentences = [line for line in err if line.startswith(f"expedit {argv[0]}: ")]
    return status, sentences or (out[:1] if argv[0] == "doctor" and status else []), err


def test_every_verb_is_in_the_matrix():
    assert {name.split(",")[0] for name in (*READS, *WRITES, *PRINTS)} >= set(VERBS) - {"explore", "completion", "tune"}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("reads", READS)
def test_what_cannot_be_read_is_one_sentence_that_names_it(reads, wrong, at, tmp_path, capsys):
    path = tmp_path / "wrong.yaml" if reads.endswith("recipe") else tmp_path / "wrong"
    WRONG[wrong](path)
    status, sentences, said = ended(READS[reads](path, at), capsys)
    assert status == 2
    assert len(sentences) == 1, said
    assert "wrong" in sentences[0]
    assert not any("Traceback" in line or "unexpected" in line for line in said)
    assert not (tmp_path / "o").exists()


FULL = OSError(28, "No space left on device")


@pytest.mark.parametrize("verb", WRITES)
def test_a_full_disk_is_one_sentence(verb, at, tmp_path, capsys, monkeypatch):
    def full(path, target):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "replace", full)
    status, sentences, said = ended(WRITES[verb](at, tmp_path / "out"), capsys)
    assert status == 2
    assert len(sentences) == 1, said
    assert "No space left on device" in sentences[0]
    assert "out" in sentences[0]
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("verb", WRITES)
def test_a_file_in_the_place_of_a_folder_is_one_sentence(verb, at, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    status, sentences, said = ended(WRITES[verb](at, tmp_path / "out"), capsys)
    assert status == 2
    assert len(sentences) == 1, said
    assert "out" in sentences[0]
    assert (tmp_path / "out").read_text() == "mine"


class Closed(io.StringIO):
    """A stream whose reader is gone, or whose disk is full."""

    def __init__(self, error):
        super().__init__()
        self.failure = error

    def write(self, text):
        raise self.failure


@pytest.mark.parametrize(("error", "status"), [(BrokenPipeError(32, "Broken pipe"), 0), (FULL, 2), (None, 0)])
@pytest.mark.parametrize("verb", PRINTS)
def test_a_closed_output_does_not_end_the_work(verb, error, status, at, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", error and Closed(error))
    got, sentences, said = ended(PRINTS[verb](at), capsys)
    assert got == status
    assert len(sentences) == (status == 2), said
    assert verb in ("list", "doctor", "convert") or os.listdir(at / "o")
