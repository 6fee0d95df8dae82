import numpy as np
import pytest
from pycocotools import mask as coco

from data_files import picture, write
from expedit.data import open_dataset
from expedit.data.detail_json import CATEGORY_IDS
from expedit.data.pascal_context import open_pascal_context, open_pascal_context_59

# Category ids of PASCAL in Detail, by name, as its interface lists the twenty VOC classes (and a few more).
DETAIL_IDS = {"aeroplane": 2, "bicycle": 23, "bird": 25, "boat": 31, "bottle": 34, "bus": 45, "car": 59, "cat": 65}
DETAIL_IDS |= {"chair": 72, "cow": 98, "table": 397, "dog": 113, "horse": 207, "motorbike": 258, "person": 284}
DETAIL_IDS |= {"pottedplant": 308, "sheep": 347, "sofa": 368, "train": 416, "tvmonitor": 427, "bag": 9, "wood": 458}

BASE = "VOCdevkit/VOC2010"
MASK = np.arange(60, dtype=np.uint8).reshape(6, 10)
STEMS = ["2008_000002", "2010_000001"]
IMAGES = {f"{BASE}/JPEGImages/{stem}.jpg": picture(6, 10) for stem in [*STEMS, "2009_000009"]}
MASKS = {f"{BASE}/SegmentationClassContext/{stem}.png": MASK for stem in STEMS}
LISTS = {
    f"{BASE}/ImageSets/SegmentationContext/val.txt": "\n".join(STEMS) + "\n",
    f"{BASE}/ImageSets/SegmentationContext/train.txt": "2009_000009\n",
}
PREPARED = {**IMAGES, **MASKS, **LISTS}


def regions():
    """Two overlapping regions of one picture, a later one over an earlier one, and what they paint."""
    sky, aeroplane = np.zeros((2, 6, 10), dtype=bool)
    sky[:4], aeroplane[2:5, 3:7] = True, True
    label = np.zeros((6, 10), dtype=np.uint8)
    label[sky], label[aeroplane] = 47, 1  # places of sky and aeroplane among the sixty names
    return sky, aeroplane, label


def segmentation(mask, compressed=True):
    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    if compressed:
        return {"size": rle["size"], "counts": rle["counts"].decode()}
    flat = mask.ravel(order="F").astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
    return {"size": [6, 10], "counts": np.diff([0, *edges.tolist()]).tolist()}


def detail(compressed=True):
    sky, aeroplane, _ = regions()
    image = {"height": 6, "width": 10, "phase": "val", "date_captured": "31-Oct-2013"}
    entry = {"iscrowd": 0, "parts": [{"part_id": 1, "segmentation": segmentation(aeroplane)}], "bbox": [0, 0, 1, 1]}
    return {
        "info": {"version": "1.0"},
        "images": [
            {**image, "image_id": 2008000002, "file_name": "2008_000002.jpg"},
            {**image, "image_id": 2010000001, "file_name": "2010_000001.jpg"},
            {**image, "image_id": 2009000009, "file_name": "2009_000009.jpg", "phase": "train"},
        ],
        "annos_segmentation": [
            {
                **entry,
                "id": 1,
                "image_id": 2008000002,
                "category_id": 360,
                "segmentation": segmentation(sky, compressed),
            },
            {
                **entry,
                "id": 2,
                "image_id": 2009000009,
                "category_id": 458,
                "segmentation": segmentation(sky, compressed),
            },
            {
                **entry,
                "id": 3,
                "image_id": 2008000002,
                "category_id": 2,
                "segmentation": segmentation(aeroplane, compressed),
            },
        ],
        "categories": [{"category_id": 2, "name": "aeroplane"}],
    }


def test_sixty_classes_from_prepared_masks(tmp_path):
    data = open_pascal_context(write(tmp_path, PREPARED), "val")
    assert [sample.name for sample in data] == STEMS
    assert np.array_equal(data[0].label, MASK)
    assert (data.classes[0], data.classes[59], len(data.classes), len(data.palette)) == ("background", "wood", 60, 60)


def test_fifty_nine_classes_ignore_background(tmp_path):
    data = open_pascal_context_59(write(tmp_path, PREPARED), "val")
    assert data[0].label.ravel().tolist() == [255, *range(59)]
    assert (data.classes[0], data.classes[58], len(data.classes)) == ("aeroplane", "wood", 59)
    assert open_dataset(f"pascal-context-59:{tmp_path}")[0].label[0, 0] == 255
    assert open_dataset(tmp_path)[0].label[0, 0] == 0


@pytest.mark.parametrize("place", ["itself", "zip", "tar beside annotations"])
def test_other_places(tmp_path, place):
    if place == "itself":
        data = open_pascal_context(write(tmp_path, PREPARED) / BASE)
        assert np.array_equal(data[1].label, MASK)
    elif place == "zip":
        data = open_pascal_context(write(tmp_path / "voc.zip", PREPARED))
        assert np.array_equal(data[1].label, MASK)
    else:
        write(tmp_path / "VOCtrainval_03-May-2010.tar", IMAGES)
        data = open_pascal_context(write(tmp_path, {"trainval_merged.json": detail()}))
        assert np.array_equal(data[0].label, regions()[2])
    assert [sample.name for sample in data] == STEMS


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("lists", [{}, LISTS])
def test_masks_drawn_from_the_annotation_file(tmp_path, compressed, lists):
    root = write(tmp_path, {**IMAGES, **lists, f"{BASE}/trainval_merged.json": detail(compressed)})
    data = open_pascal_context(root)
    assert [sample.name for sample in data] == STEMS
    assert np.array_equal(data[0].label, regions()[2])
    assert (data[1].label == 0).all()
    reduced = open_pascal_context_59(root)[0].label
    assert np.array_equal(reduced, np.where(regions()[2] == 0, 255, regions()[2] - 1))
    train = open_pascal_context(root, "train")
    assert np.array_equal(train[0].label, np.where(regions()[0], 59, 0))


def test_category_ids_belong_to_the_class_names(tmp_path):
    names = open_pascal_context(write(tmp_path, PREPARED)).classes
    assert {name: CATEGORY_IDS[names.index(name) - 1] for name in DETAIL_IDS} == DETAIL_IDS
    assert list(CATEGORY_IDS) == sorted(set(CATEGORY_IDS))
    assert len(CATEGORY_IDS) == 59


def changed(path, value):
    """The annotation file with one entry replaced (or removed: None)."""
    content = detail()
    *keys, last = path
    target = content
    for key in keys:
        target = target[key]
    if value is None:
        del target[last]
    else:
        target[last] = value
    return content


DAMAGED = {
    "no JSON": ("{", "expected JSON"),
    "a list": ([1], "expected an object with images"),
    "no segmentations": (changed(["annos_segmentation"], None), "annos_segmentation should be list, got None"),
    "no phase": (changed(["images", 0, "phase"], None), "phase should be str, got None"),
    "a path": (changed(["images", 0, "file_name"], "../x.jpg"), r"plain file names in images, got '\.\./x\.jpg'"),
    "category": (changed(["annos_segmentation", 0, "category_id"], 5), r"2008_000002\.jpg .*59 category ids .* got 5"),
    "category kind": (changed(["annos_segmentation", 0, "category_id"], "2"), "category_id should be int, got '2'"),
    "segmentation": (changed(["annos_segmentation", 0, "segmentation"], "x"), "segmentation should be dict/list"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_annotation_files_are_refused_when_opened(tmp_path, case):
    content, message = DAMAGED[case]
    root = write(tmp_path, {**IMAGES, "trainval_merged.json": content})
    with pytest.raises(ValueError, match=rf"trainval_merged\.json: .*{message}"):
        open_pascal_context(root)


PAINT = {
    "run lengths": (changed(["annos_segmentation", 0, "segmentation", "counts"], [0, 6000]), "run lengths"),
    "characters": (changed(["annos_segmentation", 0, "segmentation", "counts"], "oo"), "run lengths"),
    "region size": (changed(["annos_segmentation", 0, "segmentation", "size"], [10, 6]), r"\[10, 6\]"),
    "image size": (changed(["images", 0, "width"], 12), r"\[6, 10\], the image's is \[6, 12\]"),
}


@pytest.mark.parametrize("case", PAINT)
def test_damaged_regions_are_named_before_the_first_image_is_needed(tmp_path, case):
    content, message = PAINT[case]
    root = write(tmp_path, {**IMAGES, "trainval_merged.json": content})
    with pytest.raises(ValueError, match=rf"trainval_merged\.json: 2008_000002\.jpg: .*{message}"):
        open_pascal_context(root)


def test_regions_without_three_points_are_left_out(tmp_path):
    content = changed(["annos_segmentation", 0, "segmentation"], [[1, 1, 2, 2]])
    assert open_pascal_context(write(tmp_path, {**IMAGES, "trainval_merged.json": content}))[0].label.max() >= 0


MISSING = {
    "mask": (f"{BASE}/SegmentationClassContext/2010_000001.png", r"2010_000001\.png: the image .* has no mask"),
    "image": (f"{BASE}/JPEGImages/2010_000001.jpg", r"2010_000001\.jpg: no such image, though val lists it"),
    "list": (f"{BASE}/ImageSets/SegmentationContext/val.txt", r"val\.txt: expected this, or trainval_merged\.json"),
}


@pytest.mark.parametrize("case", MISSING)
def test_missing_files_are_named(tmp_path, case):
    gone, message = MISSING[case]
    root = write(tmp_path, {path: content for path, content in PREPARED.items() if path != gone})
    with pytest.raises(FileNotFoundError, match=message):
        open_pascal_context(root)


def test_other_errors(tmp_path):
    root = write(tmp_path / "a", {**PREPARED, f"{BASE}/ImageSets/SegmentationContext/val.txt": "\n"})
    with pytest.raises(ValueError, match=r"val\.txt: expected one entry per line, got an empty list"):
        open_pascal_context(root)
    root = write(tmp_path / "b", {**PREPARED, f"{BASE}/SegmentationClassContext/2008_000002.png": MASK + 1})
    with pytest.raises(ValueError, match=r"2008_000002\.png: expected label values 0\.\.59, 255, got 60"):
        open_pascal_context(root)[0]
    with pytest.raises(FileNotFoundError, match="expected JPEGImages of VOC2010"):
        open_pascal_context(write(tmp_path / "c", {"x.txt": ""}))
    root = write(tmp_path / "d", {**PREPARED, f"{BASE}/ImageSets/SegmentationContext/val.txt": "../../../x\n"})
    with pytest.raises((ValueError, FileNotFoundError), match="x"):
        open_pascal_context(root)


def test_an_annotation_file_without_the_split_is_named(tmp_path):
    content = detail()
    content["images"] = content["images"][2:]
    with pytest.raises(ValueError, match="expected images of phase val, got none"):
        open_pascal_context(write(tmp_path, {**IMAGES, "trainval_merged.json": content}))
    root = write(tmp_path, LISTS)
    with pytest.raises(ValueError, match="has no annotations of 2008_000002"):
        open_pascal_context(root)
