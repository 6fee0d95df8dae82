import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from data_files import picture, write
from expedit.cli import main
from expedit.data import LAYOUTS
from expedit.data.inspect import inspect
from expedit.data.layouts import guess
from expedit.data.storage import Tree
from image_files import saved

ZERO = np.zeros((3, 4), np.uint8)
ADE = {
    "ADEChallengeData2016/images/validation/a.jpg": picture(3, 4),
    "ADEChallengeData2016/images/validation/b.jpg": picture(3, 4),
    "ADEChallengeData2016/annotations/validation/a.png": ZERO,
    "ADEChallengeData2016/annotations/validation/b.png": ZERO,
}
CITY = {
    "leftImg8bit/val/bonn/b_1_leftImg8bit.png": picture(3, 4),
    "gtFine/val/bonn/b_1_gtFine_labelIds.png": ZERO,
}
CONTEXT = {
    "VOC2010/JPEGImages/a.jpg": picture(3, 4),
    "VOC2010/SegmentationClassContext/a.png": ZERO,
    "VOC2010/ImageSets/SegmentationContext/val.txt": "a",
    "VOC2010/ImageSets/SegmentationContext/train.txt": "a",
}
MINE = {"images/train/a.jpg": picture(3, 4), "labels/train/a.png": ZERO, "classes.txt": "road"}


@pytest.mark.parametrize("place", ["data", "data.zip"])
@pytest.mark.parametrize(
    ("files", "name", "splits"),
    [
        (ADE, "ade20k", [("val", 2, 2)]),
        (CITY, "cityscapes", [("val", 1, 1)]),
        (CONTEXT, "pascal-context", [("train", 1, 1), ("val", 1, 1)]),
        (MINE, "folder", [("train", 1, 1)]),
    ],
)
def test_good_trees(tmp_path, place, files, name, splits):
    root = write(tmp_path / place, files)
    reports = inspect(root)
    assert {report.name for report in reports} == {guess(Tree(root), "semantic").name} == {name}
    assert [(report.split, report.count, report.checked) for report in reports] == splits
    assert {report.problem for report in reports} == {None}


def test_an_incomplete_split_is_named(tmp_path):
    del (files := dict(ADE))["ADEChallengeData2016/annotations/validation/b.png"]
    [report] = inspect(write(tmp_path, files))
    assert "b.jpg: has no label, expected" in report.problem


def test_the_first_broken_pair_is_named(tmp_path):
    files = {**ADE, "ADEChallengeData2016/annotations/validation/b.png": ZERO + 151}
    [report] = inspect(write(tmp_path, files))
    assert "b.png: expected label values 0..150, 255, got 151" in report.problem
    assert report.checked == 2


def test_samples_are_spread_over_the_split(tmp_path):
    names = [f"{i:03d}" for i in range(50)]
    files = {f"images/val/{name}.png": picture(3, 4) for name in names} | {f"labels/val/{n}.png": ZERO for n in names}
    root = write(tmp_path, {**files, "classes.txt": "a", "labels/val/049.png": ZERO + 7})
    assert [(report.checked, report.problem) for report in inspect(root, samples=10)] == [(10, None)]
    [thorough] = inspect(root, samples=0)
    assert "049.png" in thorough.problem


def test_own_data_without_a_class_list(tmp_path):
    files = {path: content for path, content in MINE.items() if path != "classes.txt"}
    root = write(tmp_path, {**files, "labels/train/a.png": np.array([[0, 1, 2, 9]] * 3, dtype=np.uint8)})
    [report] = inspect(root)
    assert report.name == "folder"
    assert "classes.txt: expected the class names here, one per line" in report.problem
    assert report.problem.endswith("the labels that were read hold 0..2, 9")


def test_pascal_context_without_masks_says_what_is_expected(tmp_path):
    files = {path: content for path, content in CONTEXT.items() if "Class" not in path}
    reports = inspect(write(tmp_path, files))
    assert [report.name for report in reports] == ["pascal-context"] * 2
    assert "SegmentationClassContext: expected this, or trainval_merged.json" in reports[0].problem


def test_something_else(tmp_path, capsys):
    root = write(tmp_path, {"a.txt": "", "b/c.jpg": picture()})
    assert inspect(root) == []
    assert main(["doctor", "--data", str(root)]) == 2
    printed = capsys.readouterr().out.splitlines()
    assert "no data set that expedit knows" in printed[0]
    assert [line.split(":")[0].strip() for line in printed[1:]] == [*LAYOUTS]
    with pytest.raises(FileNotFoundError, match="no such folder or archive"):
        inspect(tmp_path / "none")


def test_reports_read_like_a_list(tmp_path, capsys):
    assert main(["doctor", "--data", str(write(tmp_path / "a", ADE))]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith(": ade20k")
    assert printed[1:] == ["  val: 2 images, 2 read with their ground truth", "    nothing wrong"]


def test_a_folder_with_one_side_only(tmp_path):
    [report] = inspect(write(tmp_path, {"leftImg8bit/val/bonn/b_1_leftImg8bit.png": picture(3, 4)}))
    assert report.name == "cityscapes"
    assert "gtFine/val/bonn/b_1_gtFine_labelIds.png" in report.problem


PERSON = [{"id": 1, "name": "person"}]
PANOPTIC = {"images": [{"id": 7, "file_name": "a.jpg", "height": 3, "width": 4}], "categories": PERSON}
SEGMENT = {"id": 1, "category_id": 1, "area": 12, "iscrowd": 0}
COCO = {
    "annotations/panoptic_val2017.json": {
        **PANOPTIC,
        "annotations": [{"image_id": 7, "file_name": "a.png", "segments_info": [SEGMENT]}],
    },
    "annotations/instances_val2017.json": {
        **PANOPTIC,
        "annotations": [{"image_id": 7, "category_id": 1, "segmentation": [[0, 0, 0, 2, 3, 2]]}],
    },
    "annotations/instances_train2017.json": {**PANOPTIC, "annotations": []},
    "panoptic_val2017/a.png": np.full((3, 4, 3), (1, 0, 0), np.uint8),
    "val2017/a.jpg": picture(3, 4),
}


@pytest.mark.parametrize("place", ["coco", "coco.zip"])
def test_panoptic_and_instance_data(tmp_path, place, capsys):
    root = write(tmp_path / place, COCO)
    assert [(report.name, report.split, report.count, report.checked, report.problem) for report in inspect(root)] == [
        ("coco-panoptic", "val", 1, 1, None),
        ("coco-instance", "val", 1, 1, None),
    ]  # the training images are not there, so nobody asks for them
    assert main(["doctor", "--data", str(root)]) == 0
    assert "coco-panoptic" in capsys.readouterr().out


def test_annotations_beside_images_are_no_labels_of_ones_own(tmp_path):
    files = {path.replace("val2017/a.jpg", "images/val2017/a.jpg"): content for path, content in COCO.items()}
    assert {report.name for report in inspect(write(tmp_path, files))} == {"coco-panoptic", "coco-instance"}


def test_real_instance_data(shared, capsys):
    assert main(["doctor", "--data", str(shared / "data/coco_instance/tinycoco")]) == 0
    printed = capsys.readouterr().out
    assert printed.count("nothing wrong") == 2
    assert "coco-instance" in printed


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"val2017/a.jpg": picture(3, 5)}, "a.jpg: .*states \\(3, 4\\) pixels"),
        ({"panoptic_val2017/a.png": ZERO}, "a.png: expected three channels"),
        ({"annotations/panoptic_val2017.json": "{"}, "panoptic_val2017.json: expected an annotation file in JSON"),
        ({"panoptic_val2017/a.png": None}, "a.png: no such file"),
    ],
)
def test_broken_panoptic_data_is_named(tmp_path, change, complaint):
    files = {path: content for path, content in {**COCO, **change}.items() if content is not None}
    assert re.search(complaint, inspect(write(tmp_path, files))[0].problem)


def test_damaged_masks_are_found(tmp_path):
    files = json.loads(json.dumps(COCO["annotations/instances_val2017.json"]))
    files["annotations"][0]["segmentation"] = {"size": [3, 4], "counts": "zzzz"}
    report = inspect(write(tmp_path, {**COCO, "annotations/instances_val2017.json": files}))[1]
    assert "expected polygons or run lengths" in report.problem


def test_prepared_ade20k(tmp_path):
    root = write(tmp_path, ADE)
    assert [report.name for report in inspect(root)] == ["ade20k"]
    pictures = [{"id": "a", "file_name": "a.jpg", "height": 3, "width": 4}]
    truth = {"images": pictures, "categories": [{"id": 7, "name": "bed "}], "annotations": []}
    write(root / "ADEChallengeData2016", {"ade20k_instance_val.json": truth})
    assert [(report.name, report.problem) for report in inspect(root)] == [("ade20k", None), ("ade20k-instance", None)]


@pytest.mark.parametrize(("orientation", "turned"), [(1, False), (3, True), (6, True)])
def test_photographs_that_are_turned_are_counted(tmp_path, orientation, turned):
    exif = Image.Exif()
    exif[274] = orientation
    photograph = saved(Image.fromarray(picture(8, 8)), "JPEG", exif=exif)
    root = write(tmp_path, {"images/val/a.jpg": photograph, "labels/val/a.png": np.zeros((8, 8), np.uint8)})
    [report] = inspect(write(root, {"classes.txt": "road"}))
    assert report.problem is None
    assert [("1 of 1 photographs" in remark, "EXIF" in remark) for remark in report.remarks] == [(True, True)] * turned


def test_camvid(shared):
    reports = inspect(shared / "data" / "camvid", samples=3)
    assert [(report.split, report.count) for report in reports] == [("train", 367), ("val", 101)]


def test_listing_data_sets_needs_no_torch():
    code = "import sys, expedit.data; print('torch' in sys.modules, *expedit.data.LAYOUTS)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert answer == ["False", *LAYOUTS]
