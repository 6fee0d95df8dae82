"""Videos in and out: what is written is what is read, and what is broken is named or mended."""

import numpy as np
import pytest
from PIL import Image

from expedit.data.video_files import open_video, video_writer
from expedit.video import track
from test_video import clip, small_model


def write_clip(path, video, rate=10):
    with video_writer(path, rate) as write:
        for frame in video:
            target = write(frame)
    return target


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


def test_a_video_that_is_not_finished_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="stop"), video_writer(tmp_path / "v.mp4", 5) as write:  # noqa: PT012
        write(clip(1)[0])
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_where_no_encoder_works_pictures_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr("expedit.data.video_files._encoder", lambda *sizes: None)
    assert write_clip(tmp_path / "v.mp4", clip(3)) == tmp_path / "v"
    assert sorted(path.name for path in (tmp_path / "v").iterdir()) == ["00000.png", "00001.png", "00002.png"]


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


def test_broken_folders_are_refused_or_mended(tmp_path):
    folder = tmp_path / "clip"
    with pytest.raises(FileNotFoundError, match="no such video file"):
        open_video(folder)
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match="no frames in this folder"):
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
