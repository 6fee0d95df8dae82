import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from expedit.metrics.instance import instance_ap

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
REFERENCES = {
    "coco_instance_train32": "coco_instance/tinycoco/annotations/instances_train2017.json",
    "ade20k_instance3": "ade20k/derived_150/instances100.json",
}


def oracle(truth, results, kind="segm", image_ids=None):
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = json.loads(json.dumps(truth))
        known.createIndex()
        evaluation = COCOeval(known, known.loadRes(json.loads(json.dumps(results))), kind)
        if image_ids is not None:
            evaluation.params.imgIds = list(image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(NAMES, evaluation.stats.tolist(), strict=True))


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_equals_the_official_figures(shared, name, kind):
    refs = shared / "data/metric_refs"
    truth = json.loads((shared / "data" / REFERENCES[name]).read_text())
    results = json.loads((refs / f"{name}_predictions.json").read_text())
    expected = json.loads((refs / f"{name}_expected.json").read_text())[kind]
    per_class = {int(category): value for category, value in expected.pop("per_category_AP").items()}
    scores = instance_ap(truth, results, kind)
    assert scores.figures() == pytest.approx(expected, abs=1e-6)
    assert scores.per_class == pytest.approx(per_class, abs=1e-6)


def rle_of(mask):
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def random_case(seed, boxes):
    """Ellipses of all sizes, crowds among them, found a little aside; scores with ties; a class and an image unused."""
    rng = np.random.default_rng(seed)
    height, width = 200, 220
    y, x = np.mgrid[:height, :width]
    truth = {
        "images": [{"id": i, "height": height, "width": width} for i in (3, 1, 8, 9)],
        "categories": [{"id": c, "name": str(c)} for c in (7, 2, 5)],
        "annotations": [],
    }
    results = []

    def disc(cx, cy, rx, ry):
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1

    for number in range(60):
        shape = np.array([*rng.uniform(20, 180, 2), *rng.uniform(4, 70, 2)])
        mask = disc(*shape)
        category, image = int(rng.choice((7, 2))), int(rng.choice((3, 1, 8)))
        common = {"image_id": image, "category_id": category}
        area, crowd = float(mask.sum()), int(rng.random() < 0.2)
        box = coco_mask.toBbox(coco_mask.encode(np.asfortranarray(mask, np.uint8))).tolist()
        item = {**common, "id": number + 1, "segmentation": rle_of(mask), "area": area, "bbox": box, "iscrowd": crowd}
        truth["annotations"].append(item)
        for _ in range(int(rng.integers(0, 4))):
            guess = disc(*(shape + rng.normal(0, 0.06, 4) * shape[[2, 3, 2, 3]]))
            found = {**common, "segmentation": rle_of(guess), "score": round(float(rng.random()), 1)}
            if boxes:
                found["bbox"] = coco_mask.toBbox(
                    found["segmentation"] | {"counts": found["segmentation"]["counts"].encode()}
                ).tolist()
            results.append(found)
    return truth, results


@pytest.mark.parametrize("boxes", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_equals_pycocotools_on_random_detections_with_crowds(seed, boxes):
    truth, results = random_case(seed, boxes)
    expected = oracle(truth, results)
    assert 0.1 < expected["AP"] < 0.9
    assert instance_ap(truth, results).figures() == pytest.approx(expected, abs=1e-12)
    some = instance_ap(truth, results, image_ids=[8, 1]).figures()
    assert some == pytest.approx(oracle(truth, results, image_ids=[1, 8]), abs=1e-12)
    if boxes:
        assert instance_ap(truth, results, "bbox").figures() == pytest.approx(oracle(truth, results, "bbox"), abs=1e-12)


def test_more_than_a_hundred_detections_are_capped():
    truth, results = random_case(5, False)
    rng = np.random.default_rng(0)
    many = [{**item, "score": float(rng.random())} for item in results for _ in range(8)]
    assert instance_ap(truth, many).figures() == pytest.approx(oracle(truth, many), abs=1e-12)


def test_polygons_and_plain_run_lengths_are_read():
    truth = {
        "images": [{"id": 1, "height": 20, "width": 30}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {"image_id": 1, "id": 1, "category_id": 1, "iscrowd": 0, "bbox": [2, 3, 10, 10], "area": 100}
            | {"segmentation": [[2, 3, 12, 3, 12, 13, 2, 13]]},
            {"image_id": 1, "id": 2, "category_id": 1, "iscrowd": 1, "bbox": [20, 0, 10, 20], "area": 200}
            | {"segmentation": {"size": [20, 30], "counts": [400, 200]}},
        ],
    }
    rng = np.random.default_rng(1)
    masks = [np.zeros((20, 30), bool) for _ in range(3)]
    masks[0][3:13, 2:11], masks[1][:, 22:29], masks[2][:] = True, True, rng.random((20, 30)) < 0.5
    results = [
        {"image_id": 1, "category_id": 1, "segmentation": rle_of(mask), "score": score}
        for mask, score in zip(masks, (0.5, 0.9, 0.2), strict=True)
    ]
    assert instance_ap(truth, results).figures() == pytest.approx(oracle(truth, results), abs=1e-12)


def test_images_may_have_names_instead_of_numbers():
    truth, results = random_case(2, False)
    expected = instance_ap(truth, results)
    names = {3: "b", 1: "a", 8: "c", 9: "d"}
    truth["images"] = [image | {"id": names[image["id"]]} for image in truth["images"]]
    for side in (truth["annotations"], results):
        for item in side:
            item["image_id"] = names[item["image_id"]]
    assert instance_ap(truth, results) == expected


def test_nothing_found_and_nothing_to_find():
    truth, _ = random_case(0, False)
    scores = instance_ap(truth, [])
    assert (scores.ap, scores.ar100) == (0.0, 0.0)
    assert instance_ap(truth | {"annotations": []}, []).ap == -1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 77}, "image_id 77"),
        ({"image_id": [1]}, r"image_id \[1\]"),
        ({"category_id": 77}, "category 77"),
        ({"score": float("nan")}, "score nan"),
        ({"score": None}, "score None"),
        ({"segmentation": {"size": [2, 2], "counts": "04"}}, "its size is"),
        ({"segmentation": {"size": [200, 220], "counts": "ooooooooooooooo"}}, "result of image"),
        ({"segmentation": {"size": [200, 220], "counts": [40000, 90000]}}, "result of image"),
        ({"segmentation": "no"}, "result of image"),
        ({"segmentation": None}, "neither"),
        ({"bbox": [1, 2]}, "four numbers"),
    ],
)
def test_refuses_damaged_results(change, message):
    truth, results = random_case(0, False)
    with pytest.raises(ValueError, match=message):
        instance_ap(truth, [results[0] | change])


def test_refuses_damaged_ground_truth():
    truth, results = random_case(0, False)
    with pytest.raises(ValueError, match="no list 'categories'"):
        instance_ap({"images": truth["images"], "annotations": []}, results)
    with pytest.raises(ValueError, match="expected a height and a width"):
        instance_ap(truth | {"images": [{"id": 3}, {"id": 1}, {"id": 8}, {"id": 9}]}, results)
    with pytest.raises(ValueError, match="every entry of 'categories' to have an id"):
        instance_ap(truth | {"categories": [{"name": "cat"}]}, results)
    with pytest.raises(ValueError, match="image_ids: 99"):
        instance_ap(truth, results, image_ids=[99])
