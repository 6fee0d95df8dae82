import csv
import pickle

import numpy as np
import pytest
from PIL import Image

from data_files import opened, picture, write
from expedit.data import open_dataset
from expedit.data.ade20k import open_ade20k

TOP = "ADEChallengeData2016"
LABEL = np.array([[0, 1, 2, 150], [0, 0, 75, 13], [255, 5, 6, 7]], dtype=np.uint8)
EXPECTED = [[255, 0, 1, 149], [255, 255, 74, 12], [255, 4, 5, 6]]


def files(top=TOP, **changed):
    """Two validation pictures and a training picture of 3 x 4 pixels in the official layout."""
    tree = {
        f"{top}/images/validation/ADE_val_00000001.jpg": picture(3, 4),
        f"{top}/images/validation/ADE_val_00000002.jpg": picture(3, 4, seed=1),
        f"{top}/images/training/ADE_train_00000001.jpg": picture(3, 4),
        f"{top}/annotations/validation/ADE_val_00000001.png": LABEL,
        f"{top}/annotations/validation/ADE_val_00000002.png": np.zeros((3, 4), np.uint8),
        f"{top}/annotations/training/ADE_train_00000001.png": LABEL,
        f"{top}/objectInfo150.txt": "Idx Ratio",
    }
    return {path: content for path, content in {**tree, **changed}.items() if content is not None}


@pytest.fixture(params=["above", "itself", "zip", "folder of zip"])
def root(request, tmp_path):
    if request.param == "above":
        return write(tmp_path, files())
    if request.param == "itself":
        return write(tmp_path, files()) / TOP
    packed = write(tmp_path / f"{TOP}.zip", files())
    return packed if request.param == "zip" else tmp_path


def test_layouts_names_and_exact_labels(root):
    data = open_ade20k(root, "val")
    assert [data[i].name for i in range(len(data))] == ["ADE_val_00000001", "ADE_val_00000002"]
    assert data[0].image.shape == (3, 4, 3)
    assert data[0].image.dtype == data[0].label.dtype == np.uint8
    assert data[0].label.tolist() == EXPECTED
    assert (data[1].label == 255).all()
    assert [sample.name for sample in (open_ade20k(root, "training")[0], data[-1])] == [
        "ADE_train_00000001",
        "ADE_val_00000002",
    ]
    assert pickle.loads(pickle.dumps(data))[0].label.tolist() == EXPECTED


def test_what_a_user_types(root):
    for spec in (root, f"ade20k:{root}"):
        assert len(open_dataset(spec, "val")) == 2


def test_indexing_ends(root):
    data = open_ade20k(root)
    with pytest.raises(IndexError):
        data[2]
    assert len(list(data)) == 2


def test_palette_pictures_are_read_as_indices(tmp_path):
    palette = Image.fromarray(LABEL).convert("P")
    palette.putdata(LABEL.ravel().tolist())
    palette.putpalette([9, 9, 9] * 256)
    write(tmp_path, files(**{f"{TOP}/annotations/validation/ADE_val_00000001.png": palette}))
    assert open_ade20k(tmp_path)[0].label.tolist() == EXPECTED


def test_grey_images_become_rgb(tmp_path):
    grey = np.array([[0, 100, 200, 255]] * 3, dtype=np.uint8)
    write(tmp_path, files(**{f"{TOP}/images/validation/ADE_val_00000001.jpg": grey}))
    image = open_ade20k(tmp_path)[0].image
    assert image.shape == (3, 4, 3)
    assert (image[..., 0] == image[..., 2]).all()


FIRST = f"{TOP}/annotations/validation/ADE_val_00000001.png"
IMAGE = f"{TOP}/images/validation/ADE_val_00000001.jpg"
BROKEN = {
    "label of another size": ({FIRST: LABEL.T.copy()}, r"00001\.png: .*4 x 3 pixels \(width x height\), got 3 x 4"),
    "value out of range": (
        {FIRST: LABEL + 1},
        r"00001\.png: expected label values 0\.\.150, 255, got 151 too \(1 of 12",
    ),
    "16 bit": ({FIRST: LABEL.astype(np.uint16) * 300}, r"00001\.png: expected label values .* got 300"),
    "colours": ({FIRST: picture(3, 4)}, r"00001\.png: .*one class number per pixel .* got colour mode RGB"),
    "label is no image": ({FIRST: b"not an image"}, r"00001\.png: .*its content is none of JPEG"),
    "empty label": ({FIRST: b""}, r"00001\.png: .*its content is none of JPEG"),
    "image is no image": ({IMAGE: b"GIF?"}, r"00001\.jpg: .*its content is none of JPEG"),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("packed", [False, True])
def test_broken_pairs_are_named_when_they_are_read(tmp_path, case, packed):
    changed, message = BROKEN[case]
    data = open_ade20k(write(tmp_path / ("ade.zip" if packed else "ade"), files(**changed)))
    assert data[1].name == "ADE_val_00000002"
    with pytest.raises(ValueError, match=message):
        data[0]


def test_cut_short_files_are_named(tmp_path):
    root = write(tmp_path, files(**{IMAGE: picture(64, 64)}))
    whole = (root / IMAGE).read_bytes()
    (root / IMAGE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"00001\.jpg: the image is damaged or cut short"):
        open_ade20k(root)[0]


MISSING = {
    "image without a label": ({FIRST: None}, rf"ADE_val_00000001\.jpg: has no label, expected .*{FIRST} \(1 of 2"),
    "label without an image": ({IMAGE: None}, r"00001\.png: has no image, expected .*00001\.jpg \(1 of 2"),
    "two images of one name": ({IMAGE.replace("jpg", "png"): picture()}, r"expected one file of that name"),
    "empty split": (
        {path: None for path in files() if "/images/validation" in path},
        r"images/validation: expected images",
    ),
}


@pytest.mark.parametrize("case", MISSING)
@pytest.mark.parametrize("packed", [False, True])
def test_missing_files_are_named_when_the_set_is_opened(tmp_path, case, packed):
    changed, message = MISSING[case]
    root = write(tmp_path / ("ade.zip" if packed else "ade"), files(**changed))
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        open_ade20k(root, "val")


def test_unknown_split_and_foreign_folders(tmp_path):
    with pytest.raises(ValueError, match="split: expected one of train, val"):
        open_ade20k(tmp_path, "test")
    with pytest.raises(FileNotFoundError, match="ADEChallengeData2016/images"):
        open_ade20k(write(tmp_path, {"a.txt": ""}))


def test_opening_reads_no_picture(tmp_path):
    nothing = {path: b"" for path in files() if path.endswith((".jpg", ".png"))}
    assert len(open_ade20k(write(tmp_path, files(**nothing)))) == 2


def test_class_table_against_the_benchmark_files(shared):
    data_folder = shared / "data" / "ade20k" / "sceneparsing_meta"
    with (data_folder / "object150_info.csv").open() as file:
        first_words = [row["Name"].split(";")[0] for row in csv.DictReader(file)]
    scipy_io = pytest.importorskip("scipy.io")
    colors = scipy_io.loadmat(data_folder / "color150.mat")["colors"]
    from expedit.data.class_list import shipped_class_list

    names, palette = shipped_class_list("ade20k")
    assert [name.split()[0] for name in names] == first_words
    assert np.array_equal(palette, colors)


def test_real_labels(shared, tmp_path):
    folder = shared / "data" / "ade20k"
    image = next(folder.rglob("ADE_train_00016869.jpg"))
    label = folder / "derived_150" / "ADE_train_00016869.png"
    names = {"images/training/x.jpg": image, "annotations/training/x.png": label}
    sample = open_ade20k(write(tmp_path, {path: file.read_bytes() for path, file in names.items()}), "train")[0]
    raw = np.asarray(opened(label)).astype(int)
    assert np.array_equal(sample.label, np.where(raw == 0, 255, raw - 1))
    assert sample.image.shape[:2] == raw.shape
