"""Films and folders of pictures appear whole or not at all."""

import os
import resource
from contextlib import contextmanager

import numpy as np
import pytest

from expedit.data import video_writing
from expedit.data.video_files import open_video
from expedit.data.video_writing import video_writer
from expedit.data.writing import is_ours
from small_video import clip, write_clip


@contextmanager
def files_of_at_most(size):
    """A disk that is full at ``size`` bytes, as far as a single file is concerned."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def listed(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["v.mp4", "v"])
def test_a_video_that_is_not_finished_leaves_what_was_there(tmp_path, name):
    write_clip(tmp_path / name, clip(3))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(RuntimeError, match="stop"), video_writer(tmp_path / name, 5) as write:  # noqa: PT012
        write(clip(1, seed=1)[0])
        raise RuntimeError("stop")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["v.mp4", "v"])
@pytest.mark.parametrize("size", [2_000, 20_000])
def test_a_full_disk_is_an_error_with_the_name_and_leaves_nothing(tmp_path, name, size):
    """OpenCV's writer reports nothing of it: the film would end early, or have no index."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 96, 128, 3), dtype=np.uint8)
    with files_of_at_most(size), pytest.raises(OSError, match=name) as caught:
        write_clip(tmp_path / name, noise)
    assert ".partial" not in str(caught.value)
    assert listed(tmp_path) == []


def test_lost_frames_are_noticed(tmp_path, monkeypatch):
    real = video_writing._even
    calls = iter(range(100))
    monkeypatch.setattr(video_writing, "_even", lambda frame: real(frame)[: -2 if next(calls) == 7 else None])
    with pytest.raises(OSError, match=r"only 11 of 12 frames could be written.*v\.mp4"):
        write_clip(tmp_path / "v.mp4", clip(12, 48, 64))  # the encoder drops a frame of another size in silence
    assert listed(tmp_path) == []


def test_what_is_written_is_marked(tmp_path):
    film, folder = write_clip(tmp_path / "v.mp4", clip(12)), write_clip(tmp_path / "v", clip(12))
    assert is_ours(film)
    assert all(is_ours(path) for path in folder.iterdir())
    assert len(list(open_video(film))) == 12


def test_a_shorter_video_takes_the_place_of_a_longer_one(tmp_path):
    folder = write_clip(tmp_path / "v", clip(5))
    (folder / "notes.txt").write_text("mine")
    (folder / "00009.png").write_bytes((folder / "00000.png").read_bytes().replace(b"written by", b"brought by"))
    write_clip(folder, clip(2, seed=1))
    assert listed(folder) == ["00000.png", "00001.png", "00009.png", "notes.txt"]
    assert listed(tmp_path) == ["v"]


def test_where_no_encoder_works_pictures_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(video_writing, "_encodes", lambda *frame: False)
    assert write_clip(tmp_path / "v.mp4", clip(3)) == tmp_path / "v_frames"
    assert listed(tmp_path / "v_frames") == ["00000.png", "00001.png", "00002.png"]


@pytest.mark.parametrize("name", ["caf\udce9", "concat:a|b", "clip%03d", "ü ä", "[b]"])
def test_names_that_a_video_library_would_choke_on(tmp_path, name):
    folder = tmp_path / name
    film = write_clip(folder / f"{name}.mp4", clip(4))
    assert listed(folder) == [f"{name}.mp4"]
    assert len(list(open_video(film))) == 4


def test_relative_names_are_no_instructions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    film = write_clip(tmp_path.__class__("concat:a|b.mp4"), clip(4))
    assert os.listdir() == ["concat:a|b.mp4"]
    assert len(list(open_video(film))) == 4


def test_no_frames_make_no_file(tmp_path):
    with video_writer(tmp_path / "v.mp4", 5):
        pass
    assert listed(tmp_path) == []
