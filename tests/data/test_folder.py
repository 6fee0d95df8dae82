import json
import pickle
from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from data_files import LABEL, X, Y, opened, picture, tree, write
from expedit.data import open_dataset
from expedit.data.folder import open_folder

CLASSES = "road\ncar, 0 0 142\nsky\t70 130 180\n"

CAMVID = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")


LAYOUTS = {
    "CamVid": ("val", "valannot"),
    "by kind": ("images/val", "labels/val"),
    "annotations": ("images/validation", "annotations/validation"),
    "by split": ("val/images", "val/masks"),
    "flat": ("images", "labels"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("place", ["folder", "own.zip", "around.zip"])
def test_layouts_names_and_exact_labels(tmp_path, layout, place):
    files = {**tree(*LAYOUTS[layout]), "classes.txt": CLASSES}
    if place == "around.zip":
        files = {f"mine/{path}": content for path, content in files.items()}
    root = write(tmp_path / place, files)
    data = open_folder(root, "val", ignore=3)
    assert [sample.name for sample in data] == ["x", "y"]
    assert data[0].label.tolist() == [[0, 1, 2, 0], [2, 2, 255, 255]]
    assert np.array_equal(data[1].image, Y)
    assert data.classes == ("road", "car", "sky")
    assert data.palette == ((0, 0, 0), (0, 0, 142), (70, 130, 180))
    assert len(open_dataset(root, ignore=3)) == 2
    assert pickle.loads(pickle.dumps(data))[0].label[0, 1] == 1


def test_splits_are_kept_apart(tmp_path):
    root = write(tmp_path, {**tree("images/train", "labels/train"), "classes.txt": CLASSES})
    for split in ("val", "test", "all"):
        with pytest.raises(FileNotFoundError, match=rf"images and labels of split '{split}' in one of: .*{split}"):
            open_folder(root, split)
    flat = write(tmp_path / "flat", {**tree("images", "labels"), "classes.txt": CLASSES})
    with pytest.raises(FileNotFoundError, match="split 'train'"):
        open_folder(flat, "train")


def test_values_can_be_ignored_or_shifted(tmp_path):
    root = write(tmp_path, tree("val", "valannot"))
    assert open_folder(root, classes=[*"abc"], ignore=(3,))[0].label[1].tolist() == [2, 2, 255, 255]
    assert open_folder(root, classes=[*"abc"], reduce_zero_label=True)[0].label.tolist() == [
        [255, 0, 1, 255],
        [1, 1, 255, 2],
    ]
    assert open_folder(root, classes=[*"abcd"], ignore=0)[0].label[0].tolist() == [255, 1, 2, 255]
    listed = open_folder(write(tmp_path, {"classes.txt": "road\n-\ncar, 0 0 142\n-\nsky"}))
    assert listed[0].label.tolist() == [[0, 255, 1, 0], [1, 1, 255, 255]]
    assert (listed.classes, listed.palette) == (("road", "car", "sky"), ((0, 0, 0), (0, 0, 142), (0, 0, 128)))
    with pytest.raises(ValueError, match=r"x\.png: expected label values 0\.\.2, 255, got 3 too \(1 of 8 pixels\)"):
        open_folder(root, classes=[*"abc"])[0]


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("place", ["folder", "own.zip"])
def test_composed_and_decomposed_names_are_pairs(tmp_path, forms, place):
    image, label = (normalize(form, "müde é") for form in forms)
    root = write(tmp_path / place, {f"images/{image}.jpg": X, f"labels/{label}.png": LABEL})
    assert len(open_folder(root, classes=[*"abcd"])) == 1


def test_named_folders_anywhere(tmp_path):
    write(tmp_path, tree("here/pics", "there/truth"))
    for images, labels in (("pics", "../there/truth"), (str(tmp_path / "here/pics"), str(tmp_path / "there/truth"))):
        data = open_folder(tmp_path / "here", images=images, labels=labels, classes=[*"abcd"])
        assert [sample.name for sample in data] == ["x", "y"]
        assert np.array_equal(data[0].label, np.where(LABEL == 255, 255, LABEL))
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        open_folder(tmp_path, images="here/pics", labels="nowhere", classes=[*"abcd"])
    with pytest.raises(ValueError, match="labels: expected the folder of labels"):
        open_folder(tmp_path, images="here/pics", classes=[*"abcd"])


def test_images_alone(tmp_path):
    for name, root in {"a": "images/val", "b": "images", "c": "", "d": "val"}.items():
        write(tmp_path / name / root, {"x.jpg": X, "y.png": Y})
        data = open_folder(tmp_path / name, labelled=False)
        assert [(sample.name, sample.label) for sample in data] == [("x", None), ("y", None)]
        assert data.classes == ()
    both = write(tmp_path / "f", tree("val/images", "val/masks"))
    assert [sample.name for sample in open_folder(both, labelled=False)] == ["x", "y"]
    named = open_folder(tmp_path, images="a/images/val", labelled=False, classes=[*"ab"])
    assert (len(named), named.classes) == (2, ("a", "b"))
    with pytest.raises(FileNotFoundError, match="expected images, got none"):
        open_folder(write(tmp_path / "e", {"readme.txt": ""}), labelled=False)


PARTNERS = {
    "no label": ("labels/x.png", r"images/x\.jpg: has no label, expected .*labels/x\.png \(1 of 2"),
    "no image": ("images/x.jpg", r"labels/x\.png: has no image, expected .*images/x\.jpg \(1 of 2"),
}


@pytest.mark.parametrize("case", PARTNERS)
@pytest.mark.parametrize("place", ["data", "data.zip"])
def test_a_missing_partner_is_named(tmp_path, case, place):
    gone, message = PARTNERS[case]
    files = {path: content for path, content in tree("images", "labels").items() if path != gone}
    with pytest.raises(FileNotFoundError, match=message):
        open_folder(write(tmp_path / place, files), classes=[*"abcd"])


def test_an_empty_split_is_named(tmp_path):
    root = write(tmp_path, {"images/val/readme.txt": "", "labels/val/readme.txt": ""})
    with pytest.raises(FileNotFoundError, match=r"images/val: expected images \(\*\.jpg"):
        open_folder(root, classes=[*"ab"])


def test_a_mismatched_size_and_a_jpeg_label(tmp_path):
    root = write(tmp_path / "a", {**tree("images", "labels"), "labels/x.png": LABEL[:, :3].copy()})
    with pytest.raises(ValueError, match=r"labels/x\.png: .*4 x 2 pixels \(width x height\), got 3 x 2"):
        open_folder(root, classes=[*"abcd"])[0]
    root = write(tmp_path / "b", {"images/x.jpg": X, "labels/x.jpg": LABEL})
    with pytest.raises(FileNotFoundError, match=r"x\.jpg: has no label, expected .*labels/x\.png"):
        open_folder(root, classes=[*"abcd"])


@pytest.mark.parametrize("mode", ["1", "P", "L", "I;16"])
def test_label_modes_keep_their_numbers(tmp_path, mode):
    numbers = np.array([[0, 1, 1, 0], [1, 0, 0, 1]])
    kind = {"1": bool, "L": np.uint8, "I;16": np.uint16, "P": np.uint8}[mode]
    label = Image.fromarray(numbers.astype(kind))
    if mode == "P":
        label = Image.new("P", (4, 2))
        label.putdata(numbers.ravel().tolist())
        label.putpalette([200, 10, 10, 3, 3, 3])
    root = write(tmp_path, {"images/x.png": X, "labels/x.png": label})
    assert np.array_equal(open_folder(root, classes=[*"ab"])[0].label, numbers)


def test_names_are_unique_and_safe(tmp_path):
    pictures = ["a/x y", "b/x y", "c/ü:1", "c/ü 1", "d/-z"]
    files = {f"images/{key}.png": X for key in pictures} | {f"labels/{key}.png": LABEL for key in pictures}
    names = [sample.name for sample in open_folder(write(tmp_path, files), classes=[*"abcd"])]
    assert len({name.casefold() for name in names}) == len(pictures)
    assert all(name == name.strip("-./ ") and not set(name) & set('/\\:*?"<>| ') for name in names)


def test_what_a_user_types(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a path, or NAME:PATH with a name in toy, ade20k"):
        open_dataset("nothing-like-that")
    with pytest.raises(ValueError, match="expected the layout of one of these: ade20k"):
        open_dataset(tmp_path)
    assert len(open_dataset("toy", "val", length=3)) == 3
    write(tmp_path, {**tree("images", "labels"), "classes.txt": "a\nb\nc\nd"})
    assert open_dataset(f"folder:{tmp_path}")[0].name == "x"


def test_data_for_other_models_and_settings_without_effect_are_refused(tmp_path):
    with pytest.raises(ValueError, match="coco-panoptic is data for panoptic models; for semantic there is toy"):
        open_dataset(f"coco-panoptic:{tmp_path}")
    with pytest.raises(ValueError, match="cityscapes is data for semantic models; for video there is youtubevis-2019"):
        open_dataset("cityscapes:x", "val", "video")
    with pytest.raises(ValueError, match="toy: takes no path"):
        open_dataset(f"toy:{tmp_path}")
    with pytest.raises(ValueError, match="ade20k: has no setting 'classes'"):
        open_dataset(f"ade20k:{tmp_path}", classes=["a"])


def test_camvid(shared):
    root = shared / "data" / "camvid"
    for split, count in {"train": 367, "val": 101}.items():
        data = open_folder(root, split, classes=CAMVID, ignore=11)
        assert len(data) == count
        assert len({name for name, _, _ in data.pairs}) == count
    sample = data[7]
    raw = np.asarray(opened(root / "valannot" / f"{sample.name}.png"))
    assert sample.image.shape == (360, 480, 3)
    assert np.array_equal(sample.label, np.where(raw == 11, 255, raw))
    with pytest.raises(ValueError, match=r"expected label values 0\.\.10, 255, got 11"):
        open_folder(root, "val", classes=CAMVID)[7]


def test_camvid_without_its_lists(shared, tmp_path):
    for name in ("val", "valannot"):
        (tmp_path / name).symlink_to(shared / "data" / "camvid" / name)
    data = open_folder(tmp_path, "val", classes=CAMVID, ignore=11)
    listed = open_folder(shared / "data" / "camvid", "val", classes=CAMVID, ignore=11)
    assert sorted(pair.name for pair in data.pairs) == sorted(pair.name for pair in listed.pairs)


def turned(orientation):
    """EXIF data that say how a picture is to be turned."""
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def test_exif_turned_photographs(tmp_path):
    (tmp_path / "images").mkdir()
    Image.fromarray(picture(2, 4)).save(tmp_path / "images/x.png", exif=turned(6))
    write(tmp_path, {"labels/x.png": np.zeros((4, 2), np.uint8)})
    assert open_folder(tmp_path, classes=[*"a"])[0].image.shape == (4, 2, 3)


def test_json_is_no_label_source_here(tmp_path):
    root = write(tmp_path, {"images/x.png": X, "labels/x.json": json.dumps({})})
    with pytest.raises(FileNotFoundError, match="has no label"):
        open_folder(root, classes=[*"a"])
