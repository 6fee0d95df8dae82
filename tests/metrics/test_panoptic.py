import json

import numpy as np
import pytest
from hotcoco.panoptic import PanopticEval
from PIL import Image

from data_files import opened
from expedit.data.png_ids import ids_from_png, ids_to_png
from expedit.data.samples import TrueSegment
from expedit.metrics.panoptic import PanopticQuality

CLASSES, THINGS = 6, (0, 1, 2)


def described(infos, index):
    return [TrueSegment(s["id"], index[s["category_id"]], s.get("area", 0), bool(s.get("iscrowd"))) for s in infos]


def read_ids(path):
    return ids_from_png(np.array(opened(path)))


def test_equals_the_official_evaluator(shared):
    refs = shared / "data/metric_refs"
    truth, found, expected = (
        json.loads((refs / f"coco_panoptic2_{n}.json").read_text()) for n in ("gt", "pred", "expected")
    )
    categories = truth["categories"]
    index = {category["id"]: i for i, category in enumerate(categories)}
    quality = PanopticQuality(len(categories), [i for i, category in enumerate(categories) if category["isthing"]])
    predicted = {item["image_id"]: item for item in found["annotations"]}
    for item in truth["annotations"]:
        mine = predicted[item["image_id"]]
        quality.add(
            read_ids(shared / "data" / expected["gt_png_folder"] / item["file_name"]),
            described(item["segments_info"], index),
            read_ids(refs / "coco_panoptic2_pred" / mine["file_name"]),
            described(mine["segments_info"], index),
        )
    scores = quality.scores()
    for name, group in (("All", scores.all), ("Things", scores.things), ("Stuff", scores.stuff)):
        assert (group.pq, group.sq, group.rq, group.classes) == pytest.approx(
            tuple(expected[name][key] for key in ("pq", "sq", "rq", "n")), abs=1e-6
        )
    per_class = {str(categories[i]["id"]): (q.pq, q.sq, q.rq) for i, q in scores.per_class.items()}
    assert per_class.keys() == expected["per_class"].keys()
    for category, figures in expected["per_class"].items():
        assert per_class[category] == pytest.approx((figures["pq"], figures["sq"], figures["rq"]), abs=1e-6)


@pytest.mark.parametrize("case", [0, 1])
def test_equals_published_small_cases(shared, case):
    """Pairs of (category, instance); the published figure averages over the classes that occur."""
    vectors = json.loads((shared / "data/metric_refs/torchmetrics_pq_vectors.json").read_text())["cases"][case]
    places = {category: i for i, category in enumerate([*vectors["things"], *vectors["stuffs"]])}
    quality = PanopticQuality(len(places), range(len(vectors["things"])))

    def segments(picture):
        ids = np.zeros(np.shape(picture)[:2], int) if np.ndim(picture) == 3 else np.zeros((1, len(picture)), int)
        seen = {}
        for at, (category, instance) in zip(np.ndindex(ids.shape), np.reshape(picture, (-1, 2)).tolist(), strict=True):
            if category in places:
                key = (category, instance if category in vectors["things"] else 0)
                ids[at] = seen.setdefault(key, len(seen) + 1)
        return ids, [TrueSegment(i, places[c], int((ids == i).sum())) for (c, _), i in seen.items()]

    quality.add(*segments(vectors["target"]), *segments(vectors["pred"]))
    assert quality.scores().all.pq == pytest.approx(vectors["pq"], abs=1e-4)


def random_picture(rng, crowds):
    """Blocks of segments with some void; ids spread over three bytes."""
    labels = np.kron(rng.integers(0, 9, (5, 6)), np.ones((8, 8), int))
    ids = np.where(labels == 0, 0, labels * 70000 + 3)
    infos = []
    for id_ in np.unique(ids[ids > 0]).tolist():
        crowd = int(crowds and rng.random() < 0.3)
        category = int(rng.integers(3) if crowd else rng.integers(CLASSES))
        infos.append({"id": id_, "category_id": 10 + category, "area": int((ids == id_).sum()), "iscrowd": crowd})
    return ids, infos


def similar(rng, ids, infos):
    """A prediction that moves the borders and changes some classes."""
    moved = np.roll(ids, rng.integers(-3, 4, 2), (0, 1))
    moved = np.where(rng.random(ids.shape) < 0.1, 0, moved)
    classes = {i["id"]: i["category_id"] for i in infos}
    swap = rng.random() < 0.5
    return moved, [
        {"id": id_, "category_id": 10 + int(rng.integers(CLASSES)) if swap and rng.random() < 0.3 else classes[id_]}
        for id_ in np.unique(moved[moved > 0]).tolist()
    ]


@pytest.mark.parametrize("seed", range(4))
def test_equals_hotcoco_on_random_pictures_with_crowds_and_void(tmp_path, seed):
    rng = np.random.default_rng(seed)
    index = {10 + i: i for i in range(CLASSES)}
    categories = [{"id": k, "name": str(k), "isthing": int(i in THINGS)} for k, i in index.items()]
    sides = {"truth": [], "found": []}
    quality = PanopticQuality(CLASSES, THINGS)
    for image in range(6):
        ids, infos = random_picture(rng, crowds=True)
        moved, guesses = similar(rng, ids, infos)
        for name, picture, segments in (("truth", ids, infos), ("found", moved, guesses)):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(ids_to_png(picture)).save(tmp_path / name / f"{image}.png")
            sides[name].append({"image_id": image, "file_name": f"{image}.png", "segments_info": segments})
        quality.add(ids, described(infos, index), moved, described(guesses, index))
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 40, "width": 48} for i in range(6)]
    for name, annotations in sides.items():
        content = {"images": images, "annotations": annotations, "categories": categories}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    oracle = PanopticEval(tmp_path / "truth.json", tmp_path / "found.json")
    oracle.evaluate()
    expected, scores = oracle.results(), quality.scores()
    for name, group in (("All", scores.all), ("Things", scores.things), ("Stuff", scores.stuff)):
        assert (group.pq, group.sq, group.rq) == pytest.approx(
            tuple(expected[name][key] for key in ("pq", "sq", "rq")), abs=1e-12
        )
    assert 0 < scores.all.pq < 1
    figures = scores.figures()
    assert (figures["PQ"], figures["RQ_st"], len(figures)) == (scores.all.pq, scores.stuff.rq, 9)


def test_a_prediction_on_void_or_crowd_is_not_wrong():
    ids = np.array([[0, 0, 0, 5, 5, 5]])
    truth = [TrueSegment(5, 1, 3, iscrowd=True)]
    quality = PanopticQuality(2, [1])
    quality.add(ids, truth, np.array([[1, 1, 0, 2, 2, 2]]), [TrueSegment(1, 0, 2), TrueSegment(2, 1, 3)])
    assert quality.counts.sum() == 0
    quality.add(ids, truth, np.array([[0, 0, 0, 2, 2, 2]]), [TrueSegment(2, 0, 3)])
    assert quality.counts.tolist() == [[0, 0], [1, 0], [0, 0]]


def test_nothing_added_is_nothing():
    scores = PanopticQuality(3, [0]).scores()
    assert (scores.all.pq, scores.all.classes, scores.per_class) == (0.0, 0, {})


def test_refuses_what_does_not_fit():
    quality = PanopticQuality(2, [0])
    ids, segments = np.ones((2, 3), int), [TrueSegment(1, 0, 6)]
    with pytest.raises(ValueError, match=r"cat\.jpg: expected a map of ids of shape \(2, 3\)"):
        quality.add(ids, segments, np.ones((3, 2), int), segments, name="cat.jpg")
    with pytest.raises(ValueError, match="segment 7 is described but has no pixel"):
        quality.add(ids, segments, ids, [*segments, TrueSegment(7, 0, 1)])
    with pytest.raises(ValueError, match="holds segment 1, which is not described"):
        quality.add(ids, segments, ids, [])
    with pytest.raises(ValueError, match="expected class indices below 2, got 2"):
        quality.add(ids, segments, ids, [TrueSegment(1, 2, 6)])
    with pytest.raises(ValueError, match="things: expected class indices below 2, got 9"):
        PanopticQuality(2, [9])


def test_ids_survive_the_png_code():
    ids = np.array([[0, 1, 255], [256, 65536, 256**3 - 1]])
    assert (ids_from_png(ids_to_png(ids)) == ids).all()
    assert ids_to_png(np.array([[1 + 2 * 256 + 3 * 256**2]])).tolist() == [[[1, 2, 3]]]
    for wrong in (-1, 256**3):
        with pytest.raises(ValueError, match="segment ids"):
            ids_to_png(np.array([[wrong]]))
