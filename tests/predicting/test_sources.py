"""Which images there are, in which order, and what their results are called."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from expedit.predicting.reading import Reader
from expedit.predicting.sources import check_words, find


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Pictures in folders, archives and a list, with links that lead in circles."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.jpg", "a/x2.png", "a/x10.png", "a/sub/x.jpg", "b/y.png", "b/y.jpg", "b/é ü.jpg", "b/.hidden.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), "red").save(name)
    os.symlink("..", "a/sub/loop")
    with tarfile.open("w.tar", "w") as archive:
        for name in ("001.jpg", "000.jpg", "000.json"):
            archive.add("a/x.jpg", name)
    with zipfile.ZipFile("w.zip", "w") as archive:
        archive.write("a/x.jpg", "k/x.jpg")
    Path("list.txt").write_text(f"a/x.jpg\n\n{tmp_path}/a/x2.png\n../{tmp_path.name}/b/y.png\nw.tar\n")
    return tmp_path


A = ["x", "x2", "x10", "sub/x"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["a"], A),
        (["a/x.jpg"], ["x"]),
        (["a", "b"], [f"a/{name}" for name in A] + ["b/y.jpg", "b/y.png", "b/é ü"]),
        (["b/y.png", "a"], ["y", *A]),
        (["b/y.png", "b/y.jpg", "b/y.png"], ["y.png", "y.jpg"]),
        (["a/x*.png"], ["x2", "x10"]),
        (["**/x.jpg"], ["a/x", "a/sub/x"]),
        (["w.tar"], ["000", "001"]),
        (["w.tar", "w.zip"], ["w/000", "w/001", "w/k/x"]),
        (["*.tar"], ["w/000", "w/001"]),
        (["@list.txt"], ["a/x", "ROOT/a/x2", "NAME/b/y", "w/000", "w/001"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_names_follow_the_tree(tree, words, names):
    found = find(words)
    places = {"ROOT": str(tree).lstrip("/"), "NAME": tree.name}
    expected = ["/".join(places.get(part, part) for part in name.split("/")) for name in names]
    assert [source.name for source in found.sources] == expected
    assert not found.failures
    read = Reader()
    assert all(read(source).shape == (3, 4, 3) for source in found.sources)


def test_a_list_from_standard_input(tree):
    assert [source.name for source in find(["-"], stdin=io.StringIO("a/x.jpg\n")).sources] == ["a/x"]
    with pytest.raises(FileNotFoundError, match="empty list"):
        find(["-"], stdin=io.StringIO("\n"))


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["a/x.jpg", "a/sub/x.jpg"], ValueError, "several images are called 'x.jpg'.*a list"),
        (["q*.jpg"], FileNotFoundError, "no pictures match"),
        (["empty"], FileNotFoundError, "no pictures in this folder"),
        (["none.zip"], FileNotFoundError, "no pictures in this archive"),
    ],
)
def test_what_cannot_be(tree, words, error, message):
    Path("empty").mkdir()
    zipfile.ZipFile("none.zip", "w").close()
    with pytest.raises(error, match=message):
        find(words)


def test_what_is_missing_is_known_at_once(tree):
    check_words(["a", "@list.txt", "-", "*.jpg", "s3://bucket/x"])
    for word in ("gone.jpg", "@gone.txt"):
        with pytest.raises(FileNotFoundError, match="no such file"):
            check_words([word])


def test_results_and_their_folder_are_no_images(tree):
    Path("a/out").mkdir()
    Image.new("RGB", (4, 3)).save("a/out/z.png")
    assert [source.name for source in find(["a"], Path("a/out")).sources] == A


def test_a_folder_that_cannot_be_read_does_not_end_the_others(tree, monkeypatch):
    """Root may read everything, so the system is made to refuse."""
    scan = os.scandir

    def refuse(folder):
        if str(folder).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find(["a"])
    assert [source.name for source in found.sources] == A[:3]
    assert [failure.reason for failure in found.failures] == ["a/sub: Permission denied"]


def test_object_stores(tree):
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    for name, file in (("p/x.jpg", "a/x.jpg"), ("p/q/y.jpg", "a/x.jpg"), ("s.tar", "w.tar"), ("s.zip", "w.zip")):
        store.pipe(f"/bucket/{name}", Path(file).read_bytes())
    read = Reader()
    for url, names in {
        "memory://bucket/p": ["q/y", "x"],
        "memory://bucket/**/*.jpg": ["p/q/y", "p/x"],
        "memory://bucket/p/x.jpg": ["x"],
        "memory://bucket/s.tar": ["000", "001"],
        "memory://bucket/s.zip": ["k/x"],
    }.items():
        found = find([url]).sources
        assert [source.name for source in found] == names
        assert all(np.array_equal(read(source), read(found[0])) for source in found)
    with pytest.raises(FileNotFoundError, match="memory://nowhere: no pictures"):
        find(["memory://nowhere"])
