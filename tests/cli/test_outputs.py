"""Nobody else's file is replaced, and a place that will not do is refused before the work."""

import json
import os
import stat
from pathlib import Path

import pytest
from PIL import Image

from data_files import opened
from expedit.cli import main
from expedit.cli.outputs import Outputs, check_folder
from expedit.data.writing import write_json
from small_mask2former import saved
from small_video import clip, small_model, write_clip

LABELME = '{"version": "5.0", "shapes": [], "imagePath": "expedit/photo.png"}\n'


def content(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def run(*argv):
    return main([str(word) for word in argv])


@pytest.mark.parametrize("name", ["photo.json", "photo_labels.png", "photo_mask.png", "photo_legend.png"])
def test_predict_leaves_the_work_of_others(checkpoint, photo, tmp_path, capsys, name):
    theirs = tmp_path / name
    theirs.write_text(LABELME) if name.endswith("json") else Image.new("L", (100, 70)).save(theirs)
    before = content(tmp_path)
    assert run("predict", checkpoint, photo, "-o", tmp_path) == 2
    assert f"{name}: exists already, and expedit did not write it" in capsys.readouterr().err
    assert content(tmp_path) == before
    assert run("predict", checkpoint, photo, "-o", tmp_path, "--overwrite") == 0
    assert theirs.read_bytes() != before[theirs]
    assert run("predict", checkpoint, photo, "-o", tmp_path) == 0  # what is ours may always be replaced


@pytest.mark.parametrize("link", [os.link, os.symlink, None])
def test_an_input_is_never_replaced(checkpoint, photo, tmp_path, capsys, link):
    """Whatever it is called: here ``photo.png`` is segmented, and ``photo_mask.png`` is, too."""
    mask = tmp_path / "photo_mask.png"
    link(photo, mask) if link else photo.rename(mask)
    if not link:
        opened(mask).save(photo)
    before = content(tmp_path)
    words = [photo, mask, "-o", tmp_path, "--overwrite"]
    assert run("predict", checkpoint, *words) == 2
    assert "photo_mask.png: this run reads it" in capsys.readouterr().err
    assert content(tmp_path) == before


@pytest.fixture(scope="module")
def tracker(tmp_path_factory):
    pytest.importorskip("transformers")
    return saved(small_model(), tmp_path_factory.mktemp("tracker"))


def test_films_and_frames_leave_the_work_of_others(tracker, tmp_path, capsys):
    film, frames = write_clip(tmp_path / "film.mp4", clip(2)), write_clip(tmp_path / "frames", clip(2))
    theirs = tmp_path / "theirs"
    for name in ("film.json", "film.mp4", "frames/00001.png", "frames/notes.txt"):
        (theirs / name).parent.mkdir(exist_ok=True, parents=True)
        (theirs / name).write_text(LABELME)
    before = content(tmp_path)
    for words in ([film, "-o", tmp_path], [frames, "--frames", "-o", tmp_path], [film, "-o", tmp_path, "--overwrite"]):
        assert run("predict", tracker, *words) == 2
        assert "this run reads it, so it is not replaced" in capsys.readouterr().err
    for words in ([film], [frames, "--frames"]):
        assert run("predict", tracker, *words, "-o", theirs) == 2
        assert "exists already, and expedit did not write it" in capsys.readouterr().err
    assert content(tmp_path) == before
    assert run("predict", tracker, frames, "--frames", "-o", theirs, "--overwrite") == 0
    assert sorted(path.name for path in (theirs / "frames").iterdir()) == ["00000.png", "00001.png", "notes.txt"]
    assert run("predict", tracker, frames, "-o", tmp_path) == 0  # frames.mp4 stands beside the folder
    assert {path: (tmp_path / path).read_bytes() for path in before} == before | {
        theirs / "frames/00001.png": (theirs / "frames/00001.png").read_bytes()
    }


@pytest.mark.parametrize(
    ("argv", "target"),
    [
        (["benchmark", "MODEL", "--macs-only", "--json", "figures.json"], "figures.json"),
        (["evaluate", "MODEL", "toy", "--limit", "1", "--json", "figures.json"], "figures.json"),
        (["compare", "--macs-only", "-o", "."], "table.csv"),
        (["compare", "--macs-only", "-o", "."], "table.json"),
        (["compare", "--speed-only", "-o", "."], "report.html"),
        (["evaluate", "MODEL", "toy", "--json", "x.json", "--resume", "s"], "x.json"),
    ],
)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_results_of_other_programs_are_refused_before_the_work(
    argv, target, kind, checkpoint, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path(target).mkdir() if kind == "folder" else Path(target).write_text("mine,1\n")
    monkeypatch.setattr("expedit.checkpoints.zoo.load", lambda *a, **k: pytest.fail("the work has begun"))
    assert run(*(checkpoint if word == "MODEL" else word for word in argv)) == 2
    words = {"folder": "expected a file to write, but this is a folder", "file": "expedit did not write it"}
    assert f"{target}: " in (error := capsys.readouterr().err)
    assert words[kind] in error
    assert os.listdir() == [target]


@pytest.mark.parametrize("name", ["panoptic.json", "results.json", "results.zip", "panoptic/a.png"])
def test_submissions_of_other_programs_are_refused(checkpoint, tmp_path, capsys, name):
    (tmp_path / "sub" / name).parent.mkdir(parents=True)
    (tmp_path / "sub" / name).write_bytes(b"theirs")
    assert run("evaluate", checkpoint, "coco-panoptic:x", "--submission", tmp_path / "sub") == 2
    assert f"{name}: exists already" in capsys.readouterr().err


def test_even_overwrite_spares_data_and_model(checkpoint, tmp_path, capsys):
    data = tmp_path / "data/images/a.jpg"
    data.parent.mkdir(parents=True)
    data.write_bytes(b"photograph")
    for target in (data, checkpoint):
        before = target.read_bytes()
        argv = ["evaluate", checkpoint, f"folder:{tmp_path / 'data'}", "--json", target, "--overwrite"]
        assert run(*argv) == 2
        assert "this run reads it" in capsys.readouterr().err
        assert target.read_bytes() == before


def test_our_own_results_are_replaced(checkpoint, tmp_path):
    for _ in range(2):
        assert run("benchmark", checkpoint, "--macs-only", "--json", tmp_path / "x.json") == 0
    assert json.loads((tmp_path / "x.json").read_text())["model"] == str(checkpoint)


def test_empty_files_devices_and_links_take_results(checkpoint, tmp_path):
    (tmp_path / "empty").touch()  # as mktemp makes them
    (tmp_path / "link").symlink_to("new")
    for name in ("empty", "link"):
        assert run("benchmark", checkpoint, "--macs-only", "--json", tmp_path / name) == 0
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "new").read_text()) == json.loads((tmp_path / "empty").read_text())
    assert run("benchmark", checkpoint, "--macs-only", "--json", "/dev/null") == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_what_cannot_be_written_after_all_is_printed_first(checkpoint, capsys):
    assert run("benchmark", checkpoint, "--macs-only", "--json", "/dev/full") == 2
    printed = capsys.readouterr()
    assert "GMACs" in printed.out
    assert printed.err == "expedit benchmark: /dev/full: No space left on device\n"


def test_places_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in ("file/inside/x.json", "n" * 300, "file/x.json"):
        with pytest.raises(OSError, match=r"expected a folder|name too long"):
            Outputs().check_file(tmp_path / place)
    check_folder(tmp_path / "new/deep")
    assert sorted(os.listdir(tmp_path)) == ["file"]
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OSError, match="circle"):
        Outputs().check_file(tmp_path / "circle")


def test_a_pipe_among_the_results_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    Outputs().check_content(tmp_path / "a.json")
    write_json(tmp_path / "b.json", {})
    Outputs().check_inside(tmp_path)
