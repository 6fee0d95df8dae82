import numpy as np
import pytest

from data_files import opened, picture, write
from expedit.data import open_dataset
from expedit.data.cityscapes import open_cityscapes

# From the label definition of the Cityscapes scripts: label id to train id, all others are ignored.
TRAIN_ID = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13}
TRAIN_ID |= {27: 14, 28: 15, 31: 16, 32: 17, 33: 18}
ALL_IDS = np.array([[*range(34), 255, 0]], dtype=np.uint8).reshape(6, 6)
EXPECTED = [TRAIN_ID.get(int(value), 255) for value in ALL_IDS.ravel()]
NAME = "frankfurt_000000_000294"
IMAGE = f"leftImg8bit/val/frankfurt/{NAME}_leftImg8bit.png"
IDS = f"gtFine/val/frankfurt/{NAME}_gtFine_labelIds.png"
TRAIN_IDS = f"gtFine/val/frankfurt/{NAME}_gtFine_labelTrainIds.png"
NOISE = {
    f"gtFine/val/frankfurt/{NAME}_gtFine_color.png": picture(6, 6),
    f"gtFine/val/frankfurt/{NAME}_gtFine_instanceIds.png": np.full((6, 6), 26001, np.uint16),
    f"gtFine/val/frankfurt/{NAME}_gtFine_polygons.json": {"objects": []},
}
OTHER = {
    "leftImg8bit/val/lindau/lindau_000001_000019_leftImg8bit.png": picture(6, 6),
    "gtFine/val/lindau/lindau_000001_000019_gtFine_labelIds.png": np.full((6, 6), 7, np.uint8),
}
FILES = {IMAGE: picture(6, 6), IDS: ALL_IDS, **NOISE, **OTHER}


@pytest.fixture(params=["folder", "two zips", "images unpacked"])
def root(request, tmp_path):
    images = {path: content for path, content in FILES.items() if path.startswith("left")}
    labels = {path: content for path, content in FILES.items() if path.startswith("gt")}
    if request.param == "folder":
        return write(tmp_path, FILES)
    write(tmp_path / "gtFine_trainvaltest.zip", {**labels, "README": "", "license.txt": ""})
    write(tmp_path if request.param == "images unpacked" else tmp_path / "leftImg8bit_trainvaltest.zip", images)
    return tmp_path


def test_layouts_names_and_exact_labels(root):
    data = open_cityscapes(root, "val")
    assert [sample.name for sample in data] == [NAME, "lindau_000001_000019"]
    assert data[0].label.ravel().tolist() == EXPECTED
    assert (data[1].label == 0).all()
    assert len(data.classes) == len(data.palette) == 19
    assert (data.classes[10], data.palette[10]) == ("sky", (70, 130, 180))
    assert len(open_dataset(root)) == 2


def test_prepared_train_ids_are_taken_where_they_are(tmp_path):
    prepared = np.array([[0, 18, 255, 3, 4, 5]] * 6, dtype=np.uint8)
    data = open_cityscapes(write(tmp_path, {**FILES, TRAIN_IDS: prepared}))
    assert np.array_equal(data[0].label, prepared)
    assert (data[1].label == 0).all()


def test_prepared_train_ids_alone_are_enough(tmp_path):
    prepared = np.full((6, 6), 18, np.uint8)
    data = open_cityscapes(write(tmp_path, {IMAGE: picture(6, 6), TRAIN_IDS: prepared}))
    assert np.array_equal(data[0].label, prepared)


BROKEN = {
    "label id": ({IDS: np.full((6, 6), 34, np.uint8)}, r"labelIds\.png: expected label values 0\.\.33, 255, got 34"),
    "train id": ({TRAIN_IDS: np.full((6, 6), 19, np.uint8)}, r"TrainIds\.png: .* 0\.\.18, 255, got 19 too \(36 of 36"),
    "size": ({IDS: np.zeros((6, 7), np.uint8)}, r"labelIds\.png: .*6 x 6 pixels .* got 7 x 6"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_labels_are_named(tmp_path, case):
    changed, message = BROKEN[case]
    with pytest.raises(ValueError, match=message):
        open_cityscapes(write(tmp_path, {**FILES, **changed}))[0]


def test_missing_files_are_named(tmp_path):
    rest = {path: content for path, content in FILES.items() if path != IDS}
    with pytest.raises(FileNotFoundError, match=rf"{NAME}_leftImg8bit\.png: has no label, expected .*{IDS}"):
        open_cityscapes(write(tmp_path / "a", rest))
    with pytest.raises(FileNotFoundError, match=r"leftImg8bit/train: expected images"):
        open_cityscapes(write(tmp_path / "b", FILES), "train")
    with pytest.raises(ValueError, match="split: expected one of train, val"):
        open_cityscapes(tmp_path / "b", "test")
    with pytest.raises(FileNotFoundError, match="leftImg8bit/val: expected"):
        open_cityscapes(write(tmp_path / "c", {"x.txt": ""}))


def test_real_sample(shared, tmp_path):
    root = shared / "data" / "misc_semantic" / "cityscapes_frankfurt_256x128"
    prepared = open_cityscapes(root)[0]
    assert prepared.image.shape == (128, 256, 3)
    assert np.array_equal(prepared.label, np.asarray(opened(root / TRAIN_IDS)))
    mapped = open_cityscapes(write(tmp_path, {path: (root / path).read_bytes() for path in (IMAGE, IDS)}))[0].label
    # The sample's two label pictures were made smaller one by one, so a few pixels at borders differ.
    assert (mapped == prepared.label).mean() > 0.997
