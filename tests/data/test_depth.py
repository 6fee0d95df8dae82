import zipfile

import numpy as np
import pytest
from PIL import Image

from expedit.data import open_dataset
from expedit.data.depth import open_kitti_depth, open_nyu_depth
from expedit.metrics.depth import DepthProtocol, depth_errors

LAYOUTS = {
    "nyu-depth": [
        ("{0}/rgb_00045.jpg", "{0}/sync_depth_00045.png", "official_splits/test/bathroom", 1000),
        ("{0}/00003_colors.png", "{0}/00003_depth.png", "nyu2_test", 1000),
        ("image_3.png", "depth_3.png", "", 1000),
    ],
    "kitti-depth": [
        (
            "{0}/image/2011_09_26_drive_0002_sync_image_0000000005_image_02.png",
            "{0}/groundtruth_depth/2011_09_26_drive_0002_sync_groundtruth_depth_0000000005_image_02.png",
            "val_selection_cropped",
            256,
        ),
        (
            "2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000005.png",
            "val/2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/0000000005.png",
            "",
            256,
        ),
    ],
}
CASES = [(name, *case) for name, cases in LAYOUTS.items() for case in cases]


def write(folder, image, depth, values):
    for name, pixels in ((image, np.full((*values.shape, 3), 7, np.uint8)), (depth, values)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(("name", "image", "depth", "base", "per_metre"), CASES)
def test_every_layout_is_found_and_read_in_metres(name, image, depth, base, per_metre, tmp_path):
    values = np.array([[0, per_metre, 5 * per_metre // 2], [per_metre // 4, 1, 60000]], np.uint16)
    write(tmp_path, image.format(base), depth.format(base), values)
    for data in (open_dataset(f"{name}:{tmp_path}", "val", "depth"), open_dataset(tmp_path, "val", "depth")):
        [sample] = data
        assert (data.name, len(data), data.classes) == (name, 1, ())
        assert sample.image.shape == (2, 3, 3)
        assert sample.depth.dtype == np.float32
        assert np.allclose(sample.depth, [[0, 1, 2.5], [0.25, 1 / per_metre, 60000 / per_metre]])


def test_pictures_are_matched_in_natural_order_out_of_an_archive(tmp_path):
    for number in (10, 9):
        write(tmp_path / "x", f"image_{number}.png", f"depth_{number}.png", np.full((2, 2), number, np.uint16))
    with zipfile.ZipFile(tmp_path / "nyu.zip", "w") as archive:
        for path in sorted((tmp_path / "x").iterdir()):
            archive.write(path, path.name)
    data = open_nyu_depth(tmp_path / "nyu.zip")
    assert [data[i].name for i in range(2)] == ["image_9", "image_10"]
    assert data[1].depth[0, 0] == pytest.approx(0.01)


def test_raw_drives_without_measured_depth_are_left_out(tmp_path):
    """The first and last frames of a drive have none."""
    frame = "2011_09_26/2011_09_26_drive_0002_sync/image_02/data/{}.png"
    truth = "val/2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/{}.png"
    write(tmp_path, frame.format("0000000005"), truth.format("0000000005"), np.ones((2, 2), np.uint16))
    Image.new("RGB", (2, 2)).save(tmp_path / frame.format("0000000000"))
    assert len(open_kitti_depth(tmp_path)) == 1


def test_what_is_missing_or_wrong_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected images of kitti-depth with their depth, split val"):
        open_kitti_depth(tmp_path)
    write(tmp_path, "image_1.png", "depth_1.png", np.ones((2, 2), np.uint16))
    with pytest.raises(ValueError, match="split: expected one of train, val"):
        open_nyu_depth(tmp_path, "test")
    Image.new("RGB", (2, 2)).save(tmp_path / "image_2.png")
    with pytest.raises(FileNotFoundError, match=r"depth_2\.png: no such file \(1 of 2 are missing\)"):
        open_nyu_depth(tmp_path)
    Image.new("L", (2, 2)).save(tmp_path / "depth_2.png")
    with pytest.raises(ValueError, match=r"depth_2\.png: expected 16 bits per pixel, 1000 per metre, got 8"):
        open_nyu_depth(tmp_path)[1]
    Image.fromarray(np.ones((3, 2), np.uint16)).save(tmp_path / "depth_2.png")
    with pytest.raises(ValueError, match="expected a label as large as its image"):
        open_nyu_depth(tmp_path)[1]
    with pytest.raises(ValueError, match="nyu-depth is data for depth models"):
        open_dataset(f"nyu-depth:{tmp_path}")


def test_the_real_pictures(shared):
    """Ten indoor pictures: between half a metre and ten, and the truth itself has no error."""
    data = open_dataset(shared / "data" / "nyu_depth", "val", "depth")
    assert len(data) == 10
    medians = []
    for index in range(len(data)):
        sample = data[index]
        assert sample.image.shape == (480, 640, 3)
        assert 0.5 < sample.depth.min() <= sample.depth.max() < 10
        medians.append(np.median(sample.depth))
        errors = depth_errors(sample.depth, sample.depth, DepthProtocol(crop="nyu-eigen"))
        assert (errors["abs_rel"], errors["delta1"]) == (0, 1)
        doubled = depth_errors(2 * sample.depth, sample.depth, DepthProtocol(most=30))
        assert (doubled["abs_rel"], doubled["delta3"]) == pytest.approx((1, 0))
    assert 2 < np.median(medians) < 3
