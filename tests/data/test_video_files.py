"""Videos in and out: what is written is what is read, and what is broken is named or mended."""

import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from expedit.data.video_files import open_video, reading
from expedit.data.video_writing import _encoder
from expedit.video import track
from small_video import clip, small_model, write_clip


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63)])
def test_videos_are_written_and_read(tmp_path, height, width):
    video = np.zeros((12, height, width, 3), np.uint8)
    for t in range(12):
        video[t, :, 4 * t : 4 * t + 8] = (250, 20, 20)
    assert write_clip(tmp_path / "v.mp4", video) == tmp_path / "v.mp4"
    opened = open_video(tmp_path / "v.mp4")
    for _ in range(2):  # every iteration starts anew
        frames = list(opened)
        assert (len(frames), opened.rate) == (12, 10)
        for frame, expected in zip(frames, video, strict=True):
            assert abs(frame[:height, :width].astype(int) - expected).mean() < 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v.mp4"]
    assert write_clip(tmp_path / "folder", video) == tmp_path / "folder"
    assert all(np.array_equal(a, b) for a, b in zip(open_video(tmp_path / "folder"), video, strict=True))


def test_broken_videos_are_refused_or_mended(tmp_path):
    path = write_clip(tmp_path / "v.mp4", clip(20, 48, 64))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 600] = bytes(600)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"v\.mp4, frame \d+: cannot be decoded; the file states 20 frames"):
        list(open_video(path))
    mended = list(open_video(path, "repeat"))
    assert 18 <= len(mended) <= 20
    for content, complaint in ((b"hello", "cannot be opened as one"), (b"#EXTM3U\nother.ts", "list of other files")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=complaint):
            open_video(path)
    with pytest.raises(FileNotFoundError, match="no such video file"):
        open_video(tmp_path / "other.mp4")


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A Matroska file of 100 frames, 10 to the second."""
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    frames = clip(100, 48, 64)
    with _encoder(path, 10, frames[0]) as writer:
        for frame in frames:
            writer.write(np.ascontiguousarray(frame))
    return path.read_bytes()


def changed(content, length=1.0, rate=None, lost=None):
    """The file with its length made longer, another number of frames per second, or a frame that is no frame."""
    content = bytearray(content)
    place = content.index(b"\x44\x89\x88") + 3  # Duration
    content[place : place + 8] = struct.pack(">d", 10_000 * length)
    if rate:
        place = content.index(b"\x23\xe3\x83\x84") + 4  # DefaultDuration
        content[place : place + 4] = (10**9 // rate).to_bytes(4, "big")
    if lost:
        place = -1
        for _ in range(lost + 1):
            place = content.index(b"\0\0\1\xb6", place + 1)
        content[place : place + 4] = bytes(4)
    return content


@pytest.mark.parametrize(
    ("name", "change", "complaint", "mended"),
    [
        ("film.mkv", {}, None, 100),
        ("film.mkv", {"length": 1.04}, None, 100),  # its sound goes on
        ("film.mkv", {"rate": 1000}, None, 100),  # what stands for a rate that varies
        ("film.mkv", {"length": 1.2}, "frame 100: cannot be decoded; the file states 120 frames", 114),
        ("film.mkv", {"lost": 50}, "frame 50: cannot be decoded", 100),
        ("film.mkv", {"lost": 96}, "frame 96: cannot be decoded", 100),
        ("film.mp4", {"length": 1.04}, "frame 100: cannot be decoded; the file states 104 frames", 102),
    ],
)
def test_the_end_is_told_from_a_lost_frame(tmp_path, film, name, change, complaint, mended):
    path = tmp_path / name
    path.write_bytes(changed(film, **change))
    if complaint:
        with pytest.raises(ValueError, match=complaint):
            list(open_video(path))
    else:
        assert len(list(open_video(path))) == 100
    frames = list(open_video(path, "repeat"))
    assert len(frames) == mended
    if "lost" in change:
        assert np.array_equal(frames[change["lost"]], frames[change["lost"] - 1])


def test_frames_of_a_folder_come_in_natural_order(tmp_path):
    names = ["frame1.png", "frame2.png", "frame9b.png", "frame10.png", "shot2-001.png", "shot2-2.png", "shot10-1.png"]
    for name in sorted(names):
        Image.fromarray(clip(1)[0]).save(tmp_path / name)
    assert [file.name for file in open_video(tmp_path).files] == names


def test_broken_folders_are_refused_or_mended(tmp_path):
    folder = tmp_path / "clip"
    with pytest.raises(FileNotFoundError, match="no such video file"):
        open_video(folder)
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match="no pictures in this folder"):
        open_video(folder)
    write_clip(folder, clip(4))
    (folder / "00002.png").write_bytes((folder / "00002.png").read_bytes()[:300])
    with pytest.raises(ValueError, match=r"00002\.png: .*cut short"):
        track(small_model(), open_video(folder))
    mended = list(open_video(folder, "repeat"))
    assert len(mended) == 4
    assert np.array_equal(mended[2], mended[1])
    Image.fromarray(clip(1)[0][:20]).save(folder / "00003.png")
    with pytest.raises(ValueError, match=r"00003\.png: expected \(45, 90\) pixels .* got \(20, 90\)"):
        list(open_video(folder, "repeat"))
    (folder / "00000.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"00000\.png"):
        list(open_video(folder, "repeat"))


@pytest.mark.parametrize("what", ["broken", "size", "abandoned", "huge", "all"])
def test_no_video_is_left_open(what, tmp_path, monkeypatch):
    """Nor left to the garbage collector: the error that is kept holds every frame of the reading code."""
    opened, real = [], cv2.VideoCapture

    class Counted:
        def __init__(self, *args):
            self.capture = real(*args)
            opened.append(self)

        def __getattr__(self, name):
            return getattr(self.capture, name)

        def read(self):
            good, frame = self.capture.read()
            if what == "size" and self.frames == 2:
                frame = frame[:-2]
            self.frames += 1
            return good and not (what == "broken" and self.frames == 3), frame

        frames = 0

    film = write_clip(tmp_path / "film.mp4", clip(frames=8))
    monkeypatch.setattr("cv2.VideoCapture", Counted)
    if what == "huge":
        monkeypatch.setattr("expedit.data.video_files.too_many_pixels", lambda pixels: "too many")
    kept = []
    try:
        with reading(open_video(film)) as frames:
            for index, _ in enumerate(frames):
                if what == "abandoned" and index == 3:
                    raise KeyError
    except (ValueError, KeyError) as error:
        kept.append(error)
    assert len(kept) == (what != "all")
    assert opened
    assert not any(one.capture.isOpened() for one in opened)
