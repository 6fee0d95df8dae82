"""Files appear whole, carry the mark of their origin, and only regular files are ever replaced."""

import errno
import json
import os
import socket
import stat
import threading
from pathlib import Path

import numpy as np
import pytest

from data_files import opened
from expedit.data.writing import is_ours, is_stream, partial_of, whole, write_array, write_json, write_png, write_text


def test_every_kind_of_file_is_known_again(tmp_path):
    rng = np.random.default_rng(0)
    write_json(tmp_path / "object.json", {"a": [1] * 1000}, indent=2)
    write_json(tmp_path / "list.json", [{"image_id": 1}] * 1000)
    write_png(tmp_path / "grey.png", rng.integers(0, 256, (90, 90), dtype=np.uint8))
    write_png(tmp_path / "deep.png", rng.integers(0, 2**16, (90, 90), dtype=np.uint16))
    write_png(tmp_path / "color.png", rng.integers(0, 256, (90, 90, 3), dtype=np.uint8))
    write_array(tmp_path / "array.npy", np.arange(1000.0))
    assert all(is_ours(path) for path in tmp_path.iterdir())
    assert np.load(tmp_path / "array.npy", mmap_mode="r").sum() == 499500
    assert json.loads((tmp_path / "object.json").read_text())["a"] == [1] * 1000
    assert json.loads((tmp_path / "list.json").read_text()) == [{"image_id": 1}] * 1000
    assert opened(tmp_path / "deep.png").mode.startswith("I;16")


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b'{"imagePath": "/home/me/expedit/a.jpg"}\n', b"[]\n", b"[] \n \n", b"a,b\n1,2\n", bytes(5000)],
)
def test_what_others_write_is_not_ours(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert not is_ours(tmp_path / "file")


def test_a_picture_that_another_program_saved_again_is_not_ours(tmp_path):
    write_png(tmp_path / "a.png", np.zeros((9, 9), np.uint8))
    opened(tmp_path / "a.png").save(tmp_path / "b.png")
    assert not is_ours(tmp_path / "b.png")


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="stop"), whole(path) as partial:  # noqa: PT012
        partial.write_text("new")
        raise RuntimeError("stop")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "old")]


@pytest.mark.parametrize("number", [errno.ENOSPC, None])
def test_an_error_names_the_file_and_not_its_temporary_neighbour(tmp_path, number):
    path = tmp_path / "a.png"
    for named in (None, "partial"):
        arguments = ["no room"] if number is None else [number, os.strerror(number)]
        with pytest.raises(OSError, match=r"a\.png") as caught, whole(path) as partial:
            raise OSError(*arguments, *([str(partial)] if named and number else []))
        assert ".partial" not in str(caught.value)
        assert caught.value.errno == number
    with pytest.raises(FileNotFoundError, match=r"other\.png"), whole(path):
        (tmp_path / "other.png").read_bytes()


def test_long_names_have_a_temporary_neighbour(tmp_path):
    path = tmp_path / ("n" * 250 + ".json")
    write_json(path, {})
    assert is_ours(path)
    assert len(partial_of(path).name) < 100


def test_links_are_written_through(tmp_path):
    (tmp_path / "deep").mkdir()
    for name, target in (("link", "deep/file"), ("dangling", "deep/new")):
        (tmp_path / "deep/file").write_text("old")
        (tmp_path / name).symlink_to(target)
        write_text(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / target).read_text() == "new"
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OSError, match="circle"):
        write_text(tmp_path / "circle", "new")


def test_a_pipe_and_a_device_get_the_content_and_stay(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "content")
    reader.join(10)
    assert read == ["content"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    (tmp_path / "null").symlink_to("/dev/null")
    write_text(tmp_path / "null", "content")
    assert stat.S_ISCHR((tmp_path / "null").stat().st_mode)
    with pytest.raises(OSError, match=r"No space left on device: ./dev/full"):
        write_text(Path("/dev/full"), "content")


def test_what_the_shell_opened_gets_the_content_at_its_end(tmp_path):
    with (tmp_path / "log").open("w") as log:
        log.write("table\n")
        log.flush()
        opened = Path(f"/proc/self/fd/{log.fileno()}")
        assert is_stream(opened)
        write_text(opened, "figures\n")
    assert (tmp_path / "log").read_text() == "table\nfigures\n"


def test_a_socket_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(OSError, match=r"No such device or address: .socket"):
            write_text(Path("socket"), "content")
        assert stat.S_ISSOCK((tmp_path / "socket").stat().st_mode)
