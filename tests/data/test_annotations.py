"""Annotation files: what cannot be used is left out and counted, or refused, before any image is read."""

import json
import shutil

import numpy as np
import pytest

from data_files import picture, write
from expedit.cli import main
from expedit.data import open_dataset
from expedit.data.coco import instance_categories, open_coco_instance, open_coco_panoptic
from expedit.data.inspect import inspect
from expedit.data.rle import encode

SQUARE = [1, 1, 5, 1, 5, 4, 1, 4]
MASK = np.zeros((1, 6, 8), bool)
MASK[0, 1:4, 1:5] = True
[RLE] = encode(MASK)
OBJECT = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [SQUARE], "area": 12, "bbox": [1, 1, 4, 3]}
IMAGES = [{"id": number, "file_name": f"{number}.jpg", "height": 6, "width": 8} for number in (1, 2)]
NAMED = [{"id": 1, "name": "person"}]
PHOTOS = {f"val2017/{number}.jpg": picture() for number in (1, 2)}


def coco(root, *items, images=IMAGES, categories=NAMED, photos=PHOTOS):
    """A tree with one good object and others, which are the good one with changes; ``None`` takes a key away."""
    changed = [{**OBJECT, "id": 7 + place, "image_id": 2, **item} for place, item in enumerate(items)]
    changed = [{key: value for key, value in item.items() if value is not None} for item in changed]
    content = {"images": images, "annotations": [OBJECT, *changed], "categories": categories}
    return write(root, {"annotations/instances_val2017.json": content, **photos})


LEFT_OUT = {
    "a point": ({"segmentation": [[3, 3]]}, "have no polygon of three points or more"),
    "a line": ({"segmentation": [[1, 1, 5, 1]]}, "have no polygon of three points or more"),  # the COCO tools: a box
    "half a point": ({"segmentation": [[1, 1, 5, 1, 5, 5, 9]]}, "have no polygon of three points or more"),
    "nothing": ({"segmentation": []}, "have no polygon of three points or more"),
    "an empty polygon": ({"segmentation": [[]]}, "have no polygon of three points or more"),
    "no region": ({"segmentation": None}, "have no polygon of three points or more"),
    "unknown category": ({"category_id": 999}, "have a category that the file does not list"),
    "no category": ({"category_id": None}, "have a category that the file does not list"),
    "a list of categories": ({"category_id": [1]}, "have a category that the file does not list"),
    "unknown image": ({"image_id": 99}, "belong to no image that the file lists"),
    "no image": ({"image_id": None}, "belong to no image that the file lists"),
    "a word": ({"image_id": "2"}, "belong to no image that the file lists (image_id is a word for a number"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_cannot_be_used_is_left_out_and_counted(tmp_path, name):
    change, reason = LEFT_OUT[name]
    data = open_coco_instance(coco(tmp_path, change, {}, change))
    [remark] = data.remarks
    assert remark.startswith(f"{tmp_path}/annotations/instances_val2017.json: 2 of 4 annotations {reason}")
    assert "such as annotation 7 of image" in remark
    assert [len(data[index].masks()) for index in range(2)] == [1, 1]
    assert [item["id"] for item in data.truth["annotations"]] == [1, 8]
    assert inspect(tmp_path)[0].remarks == data.remarks


@pytest.mark.parametrize("name", LEFT_OUT)
def test_where_nothing_can_be_used_that_is_an_error(tmp_path, name):
    change, reason = LEFT_OUT[name]
    root = coco(tmp_path)
    path = root / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"annotations": [{**OBJECT, **change}]}))
    with pytest.raises(ValueError, match=r"json: 1 of 1 annotations ") as caught:
        open_coco_instance(root)
    assert reason in str(caught.value)


def test_degenerate_polygons_do_not_take_the_others_with_them(tmp_path):
    data = open_coco_instance(coco(tmp_path, {"segmentation": [[3, 3], SQUARE, [1, 2, 3, 4]]}))
    assert data.remarks == ()
    assert np.array_equal(data[1].masks(), MASK)


REFUSED = {
    "a flat polygon": ({"segmentation": SQUARE}, "expected polygons or run lengths of a 6 x 8 mask"),
    "words in a polygon": ({"segmentation": [["a"] * 6]}, "expected polygons or run lengths"),
    "not finite": ({"segmentation": [[1, 1, float("nan"), 2, 3, 3]]}, "coordinates that are not finite"),
    "huge": ({"segmentation": [[10**400, 1, 2, 2, 3, 3]]}, "expected polygons or run lengths"),
    "another size": ({"segmentation": {**RLE, "size": [8, 6]}}, r"its size is \[8, 6\], the image's is \[6, 8\]"),
    "no size": ({"segmentation": {"counts": RLE["counts"]}}, "expected polygons or run lengths"),
    "runs beyond the end": ({"segmentation": {"size": [6, 8], "counts": [40, 40]}}, "exceed"),
    "damaged runs": ({"segmentation": {"size": [6, 8], "counts": RLE["counts"] * 2}}, "invalid RLE"),
    "negative runs": ({"segmentation": {"size": [6, 8], "counts": [-1, 49]}}, "expected polygons or run lengths"),
    "crowd": ({"iscrowd": "yes"}, "expected iscrowd to be 0 or 1, got 'yes'"),
    "area": ({"area": "large"}, "expected an area in pixels, got 'large'"),
    "area not finite": ({"area": float("inf")}, "expected an area in pixels, got inf"),
    "box": ({"bbox": [1, 2, 3]}, "expected a bbox of four numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_contradicts_itself_is_refused_with_file_annotation_and_image(tmp_path, name):
    change, message = REFUSED[name]
    with pytest.raises(ValueError, match=rf"instances_val2017\.json: annotation 7 of image 2: .*{message}"):
        open_coco_instance(coco(tmp_path, change))


@pytest.mark.parametrize("counts", [RLE["counts"], [7, 3, 3, 3, 3, 3, 3, 3, 20]])
def test_run_lengths_of_both_kinds_are_read(tmp_path, counts):
    data = open_coco_instance(coco(tmp_path, {"segmentation": {"size": [6, 8], "counts": counts}, "iscrowd": 1}))
    assert np.array_equal(data[1].masks(), MASK)
    assert data[1].instances[0].iscrowd


IMAGE_LISTS = {
    "no id": ([{**IMAGES[0], "id": None}], "expected images with an id of their own"),
    "one id twice": ([IMAGES[0], {**IMAGES[1], "id": 1}], "expected images with an id of their own, .* got 1"),
    "words and numbers": ([IMAGES[0], {**IMAGES[1], "id": "b"}], "expected images with ids of one kind"),
    "no name": ([{**IMAGES[0], "file_name": None}], "image 1: expected a file_name, got None"),
    "no size": ([{**IMAGES[0], "height": None}], "image 1: expected its height and width in pixels"),
    "size as words": ([{**IMAGES[0], "height": "6"}], "image 1: expected its height and width in pixels"),
    "size without end": ([{**IMAGES[0], "height": 10**9}], "image 1: expected at most .* pixels"),
    "none": ([], "expected images, got none"),
}


@pytest.mark.parametrize("name", IMAGE_LISTS)
def test_images_must_say_what_they_are(tmp_path, name):
    images, message = IMAGE_LISTS[name]
    with pytest.raises(ValueError, match=rf"instances_val2017\.json: {message}"):
        open_coco_instance(coco(tmp_path, images=images))


def test_whole_numbers_with_a_point_are_numbers(tmp_path):
    images = [{**image, "id": float(image["id"]), "height": 6.0} for image in IMAGES]
    data = open_coco_instance(coco(tmp_path, {"image_id": 2.0, "category_id": 1.0}, images=images))
    assert (data.remarks, [len(data[index].instances) for index in range(2)]) == ((), [1, 1])


def test_missing_images_are_counted_before_the_first_is_needed(tmp_path):
    data = open_coco_instance(coco(tmp_path, photos={"val2017/1.jpg": picture()}))
    assert data.remarks == (f"{tmp_path}/val2017/2.jpg: no such file; 1 of 2 are missing",)
    shutil.rmtree(tmp_path / "val2017")
    with pytest.raises(FileNotFoundError, match=r"val2017/1\.jpg: no such file; 2 of 2 are missing"):
        open_coco_instance(tmp_path)


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        (NAMED, None),  # part of the official list
        ([{"id": 1, "name": "Person"}, {"id": 18, "name": "dog"}, {"id": 18, "name": "dog"}], None),
        ([{"id": 13, "name": "stop"}, {"id": 1, "name": "human, person"}], None),  # shorter and longer names
        ([{"id": 2, "name": "plate"}, {"id": 1, "name": "scratch"}], ("scratch", "plate")),
        ([{"id": 0, "name": "nothing"}, {"id": 1, "name": "person"}], ("nothing", "person")),
        ([{"id": 1, "name": "bicycle"}, {"id": 2, "name": "person"}], ("bicycle", "person")),  # other numbers
    ],
)
def test_classes_are_those_of_the_file(tmp_path, listed, names):
    data = open_coco_instance(coco(tmp_path, categories=listed))
    assert data.classes == (names or instance_categories().names)
    assert len(data.palette) == len(data.classes) == len({item["id"] for item in data.truth["categories"]})
    assert data.categories.ids[data[0].instances[0].category] == 1


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([], "expected categories, got none"),
        ([{"id": 1}], "expected category 1 to have a name, got None"),
        ([{"name": "person"}], "expected categories with an id of their own"),
        ([*NAMED, {"id": 1, "name": "dog"}], "expected categories with an id of their own"),
    ],
)
def test_category_lists_that_are_none_are_refused(tmp_path, listed, message):
    with pytest.raises(ValueError, match=rf"instances_val2017\.json: {message}"):
        open_coco_instance(coco(tmp_path, categories=listed))


def test_own_things_and_stuff(tmp_path):
    ids = np.zeros((6, 8, 3), np.uint8)
    ids[:3, :, 0], ids[3:, :, 0] = 1, 2
    segments = [{"id": 1, "category_id": 5, "area": 24}, {"id": 2, "category_id": 3, "area": 24, "iscrowd": 1}]
    content = {
        "images": IMAGES[:1],
        "annotations": [{"image_id": 1, "file_name": "sub/1.png", "segments_info": segments}],
        "categories": [{"id": 5, "name": "plate", "isthing": 0}, {"id": 3, "name": "scratch", "isthing": 1}],
    }
    files = {"annotations/panoptic_val2017.json": content, "panoptic_val2017/sub/1.png": ids, **PHOTOS}
    data = open_coco_panoptic(write(tmp_path, files))
    assert (data.classes, data.categories.things) == (("scratch", "plate"), (0,))
    assert [(segment.id, segment.category, segment.iscrowd) for segment in data[0].segments] == [
        (1, 1, False),
        (2, 0, True),
    ]


def test_doctor_prints_what_was_left_out(tmp_path, capsys):
    assert main(["doctor", "--data", str(coco(tmp_path, {"segmentation": []}))]) == 0
    printed = capsys.readouterr().out
    assert "nothing wrong" in printed
    assert "1 of 2 annotations have no polygon of three points or more and are left out, such as" in printed


def test_opening_by_name_warns_of_what_was_left_out(tmp_path):
    root = coco(tmp_path, {"segmentation": []})
    with pytest.warns(UserWarning, match="1 of 2 annotations have no polygon of three points or more and are left out"):
        open_dataset(f"coco-instance:{root}", "val", "instance")
