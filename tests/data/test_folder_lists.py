from unicodedata import normalize

import numpy as np
import pytest

from data_files import LABEL, X, Y, tree, write
from expedit.data.class_list import parse_class_list
from expedit.data.folder import open_folder


def test_a_list_with_two_columns_pairs_any_files(tmp_path):
    files = tree("pics", "truth") | {"val.txt": "pics/y.png truth/x.png\npics/x.jpg truth/y.png\n"}
    data = open_folder(write(tmp_path, files), classes=[*"abcd"])
    assert [sample.name for sample in data] == ["y", "x"]
    assert np.array_equal(data[0].image, Y)
    tabbed = {"val.txt": "my pics/x.jpg\ttruth/x.png\n", "my pics/x.jpg": X, "truth/x.png": LABEL}
    assert open_folder(write(tmp_path / "b", tabbed), classes=[*"abcd"])[0].name == "x"


BLANKS = ["WhatsApp Image 2021", "IMG 0001", "no_blank", normalize("NFD", "é à")]


@pytest.mark.parametrize("ending", ["", ".jpg"])
def test_names_in_lists_may_have_blanks(tmp_path, ending):
    files = {f"images/val/{name}.jpg": X for name in BLANKS} | {f"labels/val/{name}.png": LABEL for name in BLANKS}
    lines = [normalize("NFC", name) + ending for name in BLANKS]
    root = write(tmp_path, {**files, "val.txt": "\n".join(lines)})
    assert [pair.image for pair in open_folder(root, classes=[*"abcd"]).pairs] == [
        f"images/val/{name}.jpg" for name in BLANKS
    ]
    write(tmp_path, {"val.txt": "\n".join([*lines, "IMG 0002"])})
    with pytest.raises(FileNotFoundError, match=r"images/val/IMG 0002\.jpg: no such image, though val\.txt lists it"):
        open_folder(root, classes=[*"abcd"])


@pytest.mark.parametrize("separator", [" ", "\t", "   "])
def test_pairs_in_lists_may_have_blanks(tmp_path, separator):
    files = {f"my pics/{name}.jpg": X for name in BLANKS} | {f"the truth/{name}.png": LABEL for name in BLANKS}
    lines = [f"my pics/{name}.jpg{separator}the truth/{name}.png" for name in BLANKS]
    data = open_folder(write(tmp_path, {**files, "val.txt": "\n".join(lines)}), classes=[*"abcd"])
    assert [(pair.image, pair.label.path) for pair in data.pairs] == [
        (f"my pics/{name}.jpg", f"the truth/{name}.png") for name in BLANKS
    ]


@pytest.mark.parametrize("line", ["y", "y.png"])
def test_a_list_with_one_column_selects(tmp_path, line):
    root = write(tmp_path, {**tree("images", "labels"), "train.txt": line, "val.txt": "x\n"})
    assert [sample.name for sample in open_folder(root, "train", classes=[*"abcd"])] == ["y"]
    assert [sample.name for sample in open_folder(root, "val", classes=[*"abcd"])] == ["x"]


LISTS = {
    "no such image": ("images/none.jpg labels/x.png", r"images/none\.jpg: no such file, though val\.txt lists it"),
    "no such label": ("images/x.jpg labels/none.png", r"labels/none\.png: no such file, though val\.txt lists it"),
    "three columns": ("images/x.jpg labels/x.png 7", r"val\.txt, entry 1: expected an image and a label .* 7'"),
    "outside": ("../x.jpg labels/x.png", r"relative path inside the data set.*'\.\./x\.jpg'"),
    "absolute": ("/SegNet/x.jpg /SegNet/x.png", r"relative path inside the data set"),
    "no such stem": ("none", r"images/none\.jpg: no such image, though val\.txt lists it"),
    "empty": ("\n\n", r"val\.txt: expected one entry per line, got an empty list"),
    "twice": ("x\nx", r"val\.txt: 'x' is listed twice"),
}


@pytest.mark.parametrize("case", LISTS)
def test_bad_lists_are_refused(tmp_path, case):
    text, message = LISTS[case]
    root = write(tmp_path, {**tree("images", "labels"), "val.txt": text})
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        open_folder(root, classes=[*"abcd"])


def test_class_lists(tmp_path):
    names, palette = parse_class_list("\ufeffa\n\nstreet, wide\t1,2,3\nb , 4 5 6\n", "list")
    assert names == ("a", "street, wide", "b")
    assert palette == ((0, 0, 0), (1, 2, 3), (4, 5, 6))
    assert parse_class_list("\n".join("abcdefghi"), "list")[1][:4] == (
        (0, 0, 0),
        (128, 0, 0),
        (0, 128, 0),
        (128, 128, 0),
    )
    for text in ("", "a\na", "a\n, 1 2 3", "a, 1 2 300"):
        with pytest.raises(ValueError, match=r"list: expected"):
            parse_class_list(text, "list")
    root = write(tmp_path, tree("images", "labels"))
    with pytest.raises(FileNotFoundError, match=r"classes\.txt: expected the class names here"):
        open_folder(root)
    with pytest.raises(FileNotFoundError, match=r"other\.txt: expected a class list"):
        open_folder(root, classes=tmp_path / "other.txt")
    with pytest.raises(ValueError, match="classes: expected different names"):
        open_folder(root, classes=["a", "a"])
    for none in ([], ["-"]):
        with pytest.raises(ValueError, match="classes: expected at least one name"):
            open_folder(root, classes=none)
    with pytest.raises(ValueError, match="expected 1 to 255 classes, got 300"):
        open_folder(root, classes=[str(i) for i in range(300)])
    with pytest.raises(ValueError, match="ignore between 0 and 255, got 400"):
        open_folder(root, classes=[*"abcd"], ignore=400)
