"""``expedit predict`` over many images: whole after a kill, past every broken image, and the same in batches."""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from data_files import opened
from expedit.cli import main
from expedit.cli.predict import find_images
from expedit.predicting import journal as journals
from expedit.predicting import run as running

IMAGES = 12
WRITE = ["--write", "labels,json"]


@pytest.fixture
def photos(tmp_path):
    """Pictures of several sizes in a tree."""
    rng = np.random.default_rng(0)
    for index in range(IMAGES):
        path = tmp_path / "photos" / f"part{index % 2}" / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (70, 100) if index % 3 else (64, 64)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def predict(*words):
    return main(["predict", *(str(word) for word in words)])


def results(folder):
    """Content of every result; the state of the run is none."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("expedit-journal")
    }


def test_the_tree_is_mirrored_and_batches_change_nothing(checkpoint, photos, tmp_path):
    assert predict(checkpoint, photos, "-o", tmp_path / "one", *WRITE) == 0
    assert predict(checkpoint, photos, "-o", tmp_path / "many", *WRITE, "--batch", 5, "--workers", 3) == 0
    one, many = results(tmp_path / "one"), results(tmp_path / "many")
    assert len(one) == 2 * IMAGES
    assert {"part0/00.json", "part1/01_labels.png"} < one.keys()
    assert one == many


def kill_in(words, state):
    """Start a command, and kill it when its state has three lines."""
    with subprocess.Popen([sys.executable, "-m", "expedit", *map(str, words)], stderr=subprocess.DEVNULL) as process:
        while not state.exists() or len(state.read_text().splitlines()) < 3:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)


def test_a_run_goes_on_where_it_was_killed(checkpoint, photos, tmp_path, capsys):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert predict(checkpoint, photos, "-o", whole, *WRITE) == 0
    words = ["predict", checkpoint, photos, "-o", killed, *WRITE]
    state = killed / "expedit-journal.jsonl"
    kill_in(words, state)
    (killed / ".expedit-0.partial").touch()
    with state.open("a") as file:
        file.write('{"image": "cut sh')  # as a kill in the middle of a line leaves it
    lines = len(state.read_text().splitlines()) - 2
    assert predict(*words[1:], "--resume") == 0
    if lines < IMAGES:
        assert f"{lines} of them by earlier runs" in capsys.readouterr().out
    assert results(killed) == results(whole)
    images = [json.loads(line)["image"] for line in state.read_text().splitlines()[1:]]
    assert sorted(images) == sorted(set(images))
    assert len(images) == IMAGES


def test_rows_that_wait_for_a_shard_survive_a_kill(checkpoint, photos, tmp_path):
    """Killed after a few rows of a shard that is not full: the table is that of an undisturbed run, byte for byte."""
    pytest.importorskip("pyarrow")
    table = ("--write", "parquet", "--rows-per-shard", "7", "--batch", "2")
    assert predict(checkpoint, photos, "-o", tmp_path / "whole", *table) == 0
    words = ["predict", checkpoint, photos, "-o", tmp_path / "killed", *table]
    rows = tmp_path / "killed/expedit-rows.jsonl"
    kill_in(words, rows)
    assert predict(*words[1:], "--resume") == 0
    whole, killed = (
        {p.name: p.read_bytes() for p in tmp_path.glob(f"{run}/**/*.parquet")} for run in ("whole", "killed")
    )
    assert killed == whole
    assert not rows.exists()


def test_what_changed_is_said(checkpoint, photos, tmp_path, capsys):
    assert predict(checkpoint, photos, "-o", tmp_path / "o", *WRITE) == 0
    words = [checkpoint, photos, "-o", tmp_path / "o", "--resume"]
    for more, said in (
        (["-m", "tome(ratio=0.3)", *WRITE], "method 'dense', now 'tome("),
        (["--write", "json"], "write ['json', 'labels'], now ['json']"),
        (["--dtype", "bf16", *WRITE], "dtype 'fp32', now 'bf16'"),
    ):
        assert predict(*words, *more) == 2
        assert said in capsys.readouterr().err


def break_images(photos):
    """One broken image of every kind; returns their names."""
    whole = (photos / "part0/00.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.png").touch()
    (photos / "text.jpg").write_text("hello")
    os.symlink("circle.png", photos / "circle.png")
    os.symlink("..", photos / "part0" / "loop")
    return {"cut.png", "empty.png", "text.jpg", "circle.png"}


@pytest.mark.parametrize("batch", [1, 4])
def test_broken_images_do_not_end_the_run(checkpoint, photos, tmp_path, capsys, batch):
    broken, out = break_images(photos), tmp_path / "o"
    words = [checkpoint, photos, "-o", out, *WRITE, "--batch", batch]
    assert predict(*words) == 2
    captured = capsys.readouterr()
    assert f"{IMAGES} of {IMAGES + len(broken)} images" in captured.out
    lines = [json.loads(line) for line in (out / "failed.jsonl").read_text().splitlines()]
    assert {os.path.basename(line["image"]) for line in lines} == broken
    assert all(line["reason"] in captured.err for line in lines)
    before = results(out)
    assert predict(*words, "--resume") == 2
    assert results(out) == before
    for name in broken:
        (photos / name).unlink()
        shutil.copy(photos / "part0/00.png", photos / name)
    assert predict(*words, "--resume") == 0
    assert not (out / "failed.jsonl").exists()


def test_odd_images_have_results(checkpoint, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (5000, 1), "red").save(photos / "strip.png")
    turned = Image.Exif()
    turned[274] = 6
    Image.new("RGB", (80, 40), "blue").save(photos / "turned.jpg", exif=turned)
    Image.new("RGB", (64, 64)).save(photos / "画像 ü.png")
    Image.new("RGB", (64, 64)).save(photos / "twin.png")
    Image.new("RGB", (32, 32)).save(photos / "twin.jpg")
    assert predict(checkpoint, photos, "-o", tmp_path / "o", *WRITE, "--batch", 3) == 0
    sizes = {path.name: opened(path).size for path in (tmp_path / "o").glob("*.png")}
    assert sizes == {
        "strip_labels.png": (5000, 1),
        "turned_labels.png": (40, 80),
        "画像 ü_labels.png": (64, 64),
        "twin.png_labels.png": (64, 64),
        "twin.jpg_labels.png": (32, 32),
    }


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("place", ["result", "journal"])
def test_a_full_disk_ends_the_run_and_leaves_its_state_whole(
    checkpoint, photos, tmp_path, capsys, monkeypatch, number, place
):
    """Mounts are for root alone, so the system call is made to fail after some images."""
    out, written, write = tmp_path / "o", [], os.write

    def full(*args):
        written.append(args)
        if len(written) > 4:
            raise OSError(number, os.strerror(number), str(out / "x"))
        return writers(*args) if place == "result" else write(*args)

    writers = running.WRITERS[".json"]
    with monkeypatch.context() as patch:
        if place == "result":
            patch.setitem(running.WRITERS, ".json", full)
        else:
            patch.setattr(journals.os, "write", full)
        assert predict(checkpoint, photos, "-o", out, *WRITE, "--workers", 1) == 2
    assert os.strerror(number) in capsys.readouterr().err
    for line in (out / "expedit-journal.jsonl").read_text().splitlines():
        json.loads(line)
    assert predict(checkpoint, photos, "-o", out, *WRITE, "--resume") == 0
    assert len(results(out)) == 2 * IMAGES


def test_images_that_vanish_end_the_run(checkpoint, photos, tmp_path, capsys, monkeypatch):
    writers = running.WRITERS[".json"]

    def write(path, content):
        if photos.exists():
            photos.rename(tmp_path / "elsewhere")
        writers(path, content)

    with monkeypatch.context() as patch:
        patch.setitem(running.WRITERS, ".json", write)
        assert predict(checkpoint, photos, "-o", tmp_path / "o", *WRITE, "--workers", 1) == 2
    assert "photos: vanished in the middle of the run" in capsys.readouterr().err


def test_tables_have_what_the_files_have(checkpoint, photos, tmp_path, capsys):
    parquet = pytest.importorskip("pyarrow.parquet")
    out, words = tmp_path / "o", ["--write", "labels,json,parquet", "--rows-per-shard", 5]
    assert predict(checkpoint, photos, "-o", out, *words) == 0
    assert len(list((out / "parquet").iterdir())) == 3
    table = parquet.read_table(out / "parquet")
    rows = {row["name"]: row for row in table.to_pylist()}
    assert len(rows) == table.num_rows == IMAGES
    assert json.loads(table.schema.metadata[b"classes"])[0].keys() == {"name", "color"}
    for name, row in rows.items():
        assert np.array_equal(Image.open(io.BytesIO(row["labels"])), opened(out / f"{name}_labels.png"))
        told = json.loads((out / f"{name}.json").read_text())
        assert {one["name"]: one["pixels"] for one in row["segments"]} == {
            one["name"]: one["pixels"] for one in told["classes"]
        }
    (out / "expedit-journal.jsonl").unlink()
    assert predict(checkpoint, photos, "-o", out, *words, "--resume") == 0
    assert f"{IMAGES} of them by earlier runs" in capsys.readouterr().out
    assert predict(checkpoint, photos, "-o", out, *words) == 0
    assert parquet.read_table(out / "parquet").num_rows == IMAGES


def test_more_than_a_hundred_images_are_labels_and_json(checkpoint, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for index in range(101):
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / f"{index}.png")
    assert predict(checkpoint, tmp_path / "photos", "-o", tmp_path / "o") == 0
    assert "101 images: writing labels,json" in capsys.readouterr().err
    assert len(results(tmp_path / "o")) == 202


def test_folders_are_listed_in_time_that_grows_with_their_files(tmp_path):
    """Three times as many pictures cost about three times as much, not nine times."""

    def seconds(files):
        folder = tmp_path / str(files)
        folder.mkdir()
        for number in range(files):
            (folder / f"{number:012d}.jpg").touch()
        start = time.process_time()
        assert len(find_images([folder]).sources) == files
        return time.process_time() - start

    seconds(10)
    few, many = seconds(2000), seconds(6000)
    assert many < 6 * few or many < 0.5
