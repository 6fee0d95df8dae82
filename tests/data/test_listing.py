"""One rule for the files of a folder: in data sets, in folders of photographs and in folders of frames."""

import os
import time
from unicodedata import normalize

import numpy as np
import pytest

from data_files import picture, write
from expedit.data.folder import open_folder
from expedit.data.listing import RESULT_KINDS, by_key, list_pictures, natural
from expedit.data.video_files import open_video
from expedit.data.writing import write_png

PHOTO = picture()


def photographs(folder):
    return [path.name for path in list_pictures(folder).pictures]


def frames(folder):
    return [path.name for path in open_video(folder).files]


def data_set(folder):
    return [pair.image for pair in open_folder(folder, labelled=False).pairs]


LISTERS = pytest.mark.parametrize("lister", [photographs, frames, data_set])


@LISTERS
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["a.jpg", "._a.jpg", ".b.png", ".hidden/c.jpg"], ["a.jpg"]),
        (["a.jpg", "Thumbs.db", "notes.txt", "a.gif", "b.JPG", "c.TiFF"], ["a.jpg", "b.JPG", "c.TiFF"]),
        (["f10.png", "f2.png", "f1.png"], ["f1.png", "f2.png", "f10.png"]),
        (["f" + "9" * 60 + ".png", "f" + "1" * 61 + ".png"], ["f" + "9" * 60 + ".png", "f" + "1" * 61 + ".png"]),
        (["a b.jpg", "ü.jpg", normalize("NFD", "ö.jpg")], ["a b.jpg", normalize("NFD", "ö.jpg"), "ü.jpg"]),
    ],
)
def test_what_counts_and_in_which_order(tmp_path, lister, files, expected):
    write(tmp_path, dict.fromkeys(files, ""))
    assert lister(tmp_path) == expected


@LISTERS
@pytest.mark.parametrize(("one", "other"), [("a.jpg", "a.png"), ("a.JPEG", "a.jpg"), ("é.jpg", "é.jpg")])
def test_two_pictures_of_one_name_are_refused(tmp_path, lister, one, other):
    other = normalize("NFD", other) if one == other else other
    write(tmp_path, {one: "", other: "", "b.jpg": ""})
    with pytest.raises(ValueError, match=r"expected one file of that name, but .* is there too") as caught:
        lister(tmp_path)
    assert one in str(caught.value)
    assert other in str(caught.value)


@LISTERS
@pytest.mark.parametrize("kind", RESULT_KINDS)
def test_results_of_an_earlier_run_are_left_out(tmp_path, lister, kind):
    write(tmp_path, {"a.jpg": "", "a.json": "{}", f"b_{kind}.png": "", "a_x.png": "", "b.jpg": ""})
    write_png(tmp_path / f"a_{kind}.png", np.zeros((4, 4), np.uint8))
    assert lister(tmp_path) == ["a.jpg", "a_x.png", "b.jpg", f"b_{kind}.png"]
    assert [path.name for path in list_pictures(tmp_path).results] == [f"a_{kind}.png"]


@LISTERS
@pytest.mark.parametrize("mask", [PHOTO, "", None])
def test_pictures_of_other_programs_stay(tmp_path, lister, mask):
    write(tmp_path, {"a.jpg": "", "a.json": "{}"} | ({} if mask is None else {"a_mask.png": mask}))
    if mask is None:  # a pipe
        os.mkfifo(tmp_path / "a_mask.png")
    assert lister(tmp_path) == ["a.jpg", "a_mask.png"]


def test_folders_are_no_pictures_and_an_empty_folder_is_said(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no pictures in this folder; looked for \.jpg"):
        list_pictures(tmp_path)


def test_the_work_grows_with_the_number_of_files():
    def cost(count):
        names = [f"{index:012d}.jpg" for index in range(count)]
        start = time.process_time()
        assert len(by_key(names, (".jpg", ".png"), str)) == count
        return time.process_time() - start

    cost(100)
    assert cost(40_000) < 40 * max(cost(4_000), 1e-3)


def test_numbers_are_compared_as_numbers():
    names = ["a1", "a01", "a2b10", "a2b9", "b", "10", "9", "a"]
    assert sorted(names, key=natural) == ["9", "10", "a", "a01", "a1", "a2b9", "a2b10", "b"]
