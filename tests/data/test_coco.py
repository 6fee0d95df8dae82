import json
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from expedit.data.coco import instance_categories, open_coco_instance, open_coco_panoptic, panoptic_categories


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def panoptic_tree(root):
    """Two pictures in the official layout: a person (id 300) on grass, and nothing but a crowd of cars."""
    rng = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    ids = {5: np.full((6, 8), 70001), 3: np.full((4, 9), 2)}
    ids[5][1:3, 2:5], ids[3][0] = 300, 0
    segments = {
        5: [{"id": 300, "category_id": 1, "area": 6, "iscrowd": 0}, {"id": 70001, "category_id": 193, "area": 42}],
        3: [{"id": 2, "category_id": 3, "area": 27, "iscrowd": 1}],
    }
    images, annotations = [], []
    for image, values in ids.items():
        name = f"{image:012d}"
        save(root / f"val2017/{name}.jpg", rng.integers(0, 255, (*values.shape, 3)))
        save(root / f"panoptic_val2017/{name}.png", np.stack([values & 255, values >> 8 & 255, values >> 16], -1))
        images.append({"id": image, "file_name": f"{name}.jpg", "height": values.shape[0], "width": values.shape[1]})
        annotations.insert(0, {"image_id": image, "file_name": f"{name}.png", "segments_info": segments[image]})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (root / "annotations/panoptic_val2017.json").write_text(json.dumps(content))
    return ids


def test_the_class_table_is_the_official_one(shared):
    table = json.loads((shared / "data/coco_panoptic/panoptic_coco_categories.json").read_text())
    categories = panoptic_categories()
    assert [(*category,) for category in zip(categories.ids, categories.names, categories.palette, strict=True)] == [
        (item["id"], item["name"], tuple(item["color"])) for item in table
    ]
    assert [table[i]["id"] for i in categories.things] == [item["id"] for item in table if item["isthing"]]
    tiny = json.loads((shared / "data/coco_instance/tinycoco/annotations/instances_val2017.json").read_text())
    things = instance_categories()
    assert list(zip(things.ids, things.names, strict=True)) == [(c["id"], c["name"]) for c in tiny["categories"]]


def test_panoptic_samples(tmp_path):
    ids = panoptic_tree(tmp_path)
    data = open_coco_panoptic(tmp_path, "val")
    assert (len(data), len(data.classes), data.classes[80], len(data.palette)) == (2, 133, "banner", 133)
    first, second = data[0], data[1]
    assert (first.name, first.image_id, second.image_id) == ("000000000005", 5, 3)
    assert first.ids.dtype == np.int32
    assert (first.ids == ids[5]).all()
    assert first.image.shape == (6, 8, 3)
    assert [(s.id, data.classes[s.category], s.area, s.iscrowd) for s in first.segments] == [
        (300, "person", 6, False),
        (70001, "grass-merged", 42, False),
    ]
    assert [(data.classes[s.category], s.iscrowd) for s in second.segments] == [("car", True)]


def test_pngs_beside_the_json_and_zipped_parts_are_found(tmp_path):
    ids = panoptic_tree(tmp_path / "made")
    coco = tmp_path / "coco"
    (coco / "annotations").mkdir(parents=True)
    shutil.copy(tmp_path / "made/annotations/panoptic_val2017.json", coco / "annotations")
    shutil.copytree(tmp_path / "made/panoptic_val2017", coco / "annotations/panoptic_val2017")
    with zipfile.ZipFile(coco / "val2017.zip", "w") as archive:
        for path in (tmp_path / "made/val2017").iterdir():
            archive.write(path, f"val2017/{path.name}")
    assert (open_coco_panoptic(coco)[0].ids == ids[5]).all()


def test_the_archive_of_pngs_as_it_is_shipped(tmp_path):
    ids = panoptic_tree(tmp_path)
    shipped = tmp_path / "annotations/panoptic_val2017.zip"
    with zipfile.ZipFile(shipped, "w") as archive:
        for path in (tmp_path / "panoptic_val2017").iterdir():
            archive.write(path, f"panoptic_val2017/{path.name}")
    assert (open_coco_panoptic(tmp_path)[0].ids == ids[5]).all()
    shutil.rmtree(tmp_path / "panoptic_val2017")
    with pytest.raises(FileNotFoundError, match=r"annotations/panoptic_val2017\.zip: put this archive directly into"):
        open_coco_panoptic(tmp_path)
    shipped.rename(tmp_path / "panoptic_val2017.zip")
    assert (open_coco_panoptic(tmp_path)[0].ids == ids[5]).all()


def test_the_real_pictures(shared, tmp_path):
    sample = shared / "data/coco_panoptic/panopticapi_sample"
    (tmp_path / "annotations").mkdir()
    shutil.copy(sample / "panoptic_examples.json", tmp_path / "annotations/panoptic_val2017.json")
    shutil.copytree(sample / "panoptic_examples", tmp_path / "panoptic_val2017")
    shutil.copytree(sample / "input_images", tmp_path / "val2017")
    data = open_coco_panoptic(tmp_path, "val2017")
    assert [len(data[i].segments) for i in range(2)] == [18, 32]
    for segment in data[1].segments:
        assert (data[1].ids == segment.id).sum() == segment.area


def test_real_instances_and_their_masks(shared):
    root = shared / "data/coco_instance/tinycoco"
    data = open_coco_instance(root, "train")
    oracle = COCO(root / "annotations/instances_train2017.json")
    assert (len(data), len(data.classes)) == (32, 80)
    for index in range(32):
        sample = data[index]
        masks, known = sample.masks(), oracle.loadAnns(oracle.getAnnIds(sample.image_id))
        assert masks.shape == (len(known), *sample.image.shape[:2])
        for instance, mask, item in zip(sample.instances, masks, known, strict=True):
            assert data.categories.ids[instance.category] == item["category_id"]
            assert (mask == oracle.annToMask(item)).all()
            assert instance.iscrowd == bool(item["iscrowd"])


def test_an_image_without_objects_stays(tmp_path):
    panoptic_tree(tmp_path)
    content = json.loads((tmp_path / "annotations/panoptic_val2017.json").read_text())
    (tmp_path / "annotations/instances_val2017.json").write_text(json.dumps(content | {"annotations": []}))
    sample = open_coco_instance(tmp_path)[0]
    assert sample.masks().shape == (0, 6, 8)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"annotations/panoptic_val2017\.json: no such file"):
        open_coco_panoptic(tmp_path)
    with pytest.raises(ValueError, match="split: expected one of train, val"):
        open_coco_panoptic(tmp_path, "test")
    panoptic_tree(tmp_path)
    data = open_coco_panoptic(tmp_path)
    (tmp_path / "val2017/000000000005.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"000000000005\.jpg"):
        data[0]
    shutil.rmtree(tmp_path / "panoptic_val2017")
    with pytest.raises(FileNotFoundError, match=r"panoptic_val2017/000000000005\.png.*or annotations/panoptic_val2017"):
        open_coco_panoptic(tmp_path)


def test_damaged_pictures_are_named(tmp_path):
    panoptic_tree(tmp_path)
    data = open_coco_panoptic(tmp_path)
    png = tmp_path / "panoptic_val2017/000000000005.png"
    whole = png.read_bytes()
    png.write_bytes(whole[:60])
    with pytest.raises(ValueError, match=r"000000000005\.png"):
        data[0]
    save(png, np.zeros((6, 8)))
    with pytest.raises(ValueError, match=r"000000000005\.png: expected three channels .* got mode L"):
        data[0]
    save(png, np.zeros((3, 3, 3)))
    with pytest.raises(ValueError, match=r"000000000005\.png: expected a label as large as its image, 8 x 6"):
        data[0]
    save(tmp_path / "val2017/000000000003.jpg", np.zeros((9, 4, 3)))
    with pytest.raises(ValueError, match=r"000000000003\.jpg: .* states \(4, 9\)"):
        data[1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: "[", "expected an annotation file in JSON"),
        (lambda content: json.dumps([]), "expected a list of objects 'images'"),
        (lambda content: json.dumps(content | {"annotations": [3]}), "expected a list of objects 'annotations'"),
        (lambda content: json.dumps(content | {"images": []}), "expected images, got none"),
        (lambda content: json.dumps(content | {"annotations": [{"image_id": [5]}]}), "1 of 1 annotations belong to no"),
        (
            lambda content: json.dumps(content | {"annotations": [{"image_id": 5}]}),
            "annotation 1 of image 5: expected a file_name and segments_info",
        ),
    ],
)
def test_damaged_annotations_are_named(tmp_path, damage, message):
    panoptic_tree(tmp_path)
    path = tmp_path / "annotations/panoptic_val2017.json"
    path.write_text(damage(json.loads(path.read_text())))
    with pytest.raises(ValueError, match=rf"panoptic_val2017\.json: {message}"):
        open_coco_panoptic(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": 999}, "the category 999 of segment 300 is none that the file lists"),
        ({"category_id": [1]}, r"the category \[1\] of segment 300 is none that the file lists"),
        ({"area": None}, "a segment needs id, category_id and area"),
        ({"area": "wide"}, "a segment needs id, category_id and area"),
        ({"area": float("inf")}, "a segment needs id, category_id and area"),
        ({"id": None}, "a segment needs id, category_id and area"),
        ({"area": 0}, "an area of at least 1 pixel, got id 300 and area 0"),
        ({"id": 0}, r"an id in 1\.\.16777215 .*got id 0 and area 6"),
        ({"id": 256**3}, r"an id in 1\.\.16777215 .*got id 16777216 and area 6"),
        ({"id": 70001}, "expected segments with an id of their own"),
    ],
)
def test_damaged_segments_are_named(tmp_path, change, message):
    panoptic_tree(tmp_path)
    path = tmp_path / "annotations/panoptic_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"][1]["segments_info"][0] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"panoptic_val2017\.json: annotation 2 of image 5: .*{message}"):
        open_coco_panoptic(tmp_path)


def test_file_names_do_not_leave_the_data_set(tmp_path):
    panoptic_tree(tmp_path / "coco")
    save(tmp_path / "secret.jpg", np.zeros((6, 8, 3)))
    path = tmp_path / "coco/annotations/panoptic_val2017.json"
    content = json.loads(path.read_text())
    content["images"][1]["file_name"] = "../../secret.jpg"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="inside the data set"):
        open_coco_panoptic(tmp_path / "coco")
