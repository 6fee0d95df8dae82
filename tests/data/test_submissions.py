import contextlib
import io
import json
import shutil
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest
from hotcoco.panoptic import PanopticEval
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data_files import opened
from expedit.data.coco import open_coco_instance, open_coco_panoptic
from expedit.data.png_ids import ids_to_png
from expedit.data.rle import encode
from expedit.data.submissions import (
    instance_results,
    panoptic_annotation,
    track_results,
    write_panoptic,
    write_results,
    write_video_submission,
)
from expedit.data.writing import write_png
from expedit.metrics.instance import instance_ap
from expedit.metrics.panoptic import PanopticQuality
from expedit.metrics.video import video_ap


@dataclass(frozen=True)
class Piece:
    id: int
    category: int


def official_tree(shared, root):
    sample = shared / "data/coco_panoptic/panopticapi_sample"
    (root / "annotations").mkdir()
    shutil.copy(sample / "panoptic_examples.json", root / "annotations/panoptic_val2017.json")
    shutil.copytree(sample / "panoptic_examples", root / "panoptic_val2017")
    shutil.copytree(sample / "input_images", root / "val2017")


def test_panoptic_files_score_as_the_predictions_in_memory(shared, tmp_path):
    official_tree(shared, tmp_path)
    data = open_coco_panoptic(tmp_path)
    quality = PanopticQuality(len(data.classes), data.categories.things)
    path, entries = tmp_path / "out/panoptic.json", []
    for index in range(len(data)):
        sample = data[index]
        moved = np.roll(sample.ids, 9, 1)
        ids = np.unique(moved, return_inverse=True)[1].reshape(moved.shape).astype(np.int32)
        before = {int(new): int(old) for new, old in zip(ids.ravel(), moved.ravel(), strict=True) if old}
        ids[moved == 0] = 0
        categories = {segment.id: segment.category for segment in sample.segments}
        pieces = [Piece(new, categories[old]) for new, old in before.items()]
        quality.add(sample.ids, sample.segments, ids, pieces)
        entries.append(panoptic_annotation(sample.image_id, sample.name, ids, pieces, data.categories.ids))
        write_png(path.with_suffix("") / entries[-1]["file_name"], ids_to_png(ids))
    write_panoptic(path, entries, data.truth)
    assert not list(path.parent.rglob("*.partial"))
    oracle = PanopticEval(
        tmp_path / "annotations/panoptic_val2017.json", path, gt_folder=tmp_path / "panoptic_val2017", pred_folder=None
    )
    oracle.evaluate()
    expected, scores = oracle.results(), quality.scores()
    for name, group in (("All", scores.all), ("Things", scores.things), ("Stuff", scores.stuff)):
        assert (group.pq, group.sq, group.rq) == pytest.approx(
            tuple(expected[name][k] for k in ("pq", "sq", "rq")), abs=1e-12
        )
    assert 0.1 < scores.all.pq < 0.99
    segment = json.loads(path.read_text())["annotations"][0]["segments_info"][0]
    pixels = np.array(opened(path.with_suffix("") / "000000142238.png")).astype(int)
    inside = pixels @ [1, 256, 65536] == segment["id"]
    rows, columns = np.nonzero(inside)
    assert segment["area"] == len(rows)
    x, y, width, height = segment["bbox"]
    assert (x, y, x + width - 1, y + height - 1) == (columns.min(), rows.min(), columns.max(), rows.max())


def test_instance_files_score_as_the_predictions_in_memory(shared, tmp_path):
    root = shared / "data/coco_instance/tinycoco"
    data = open_coco_instance(root, "val")
    rng = np.random.default_rng(0)
    entries = []
    for index in range(len(data)):
        sample = data[index]
        masks = np.roll(sample.masks(), rng.integers(-3, 4, 2), (1, 2))
        classes, scores = [one.category for one in sample.instances], rng.random(len(masks)).tolist()
        entries += instance_results(sample.image_id, masks, classes, scores, data.categories.ids)
    path = write_results(tmp_path / "out/results.json", entries)
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO(root / "annotations/instances_val2017.json")
        evaluation = COCOeval(known, known.loadRes(str(path)), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = instance_ap(data.truth, entries).figures()
    assert list(figures.values()) == pytest.approx(evaluation.stats.tolist(), abs=1e-12)
    assert 0.1 < figures["AP"] < 1
    assert instance_ap(data.truth, json.loads(path.read_text())).figures() == figures


def test_instance_entries_hold_mask_box_score_and_category():
    masks = np.zeros((2, 9, 11), bool)
    masks[0, 2:5, 3:9] = True
    first, second = instance_results(17, masks, [1, 0], [0.25, 0.5], (10, 90))
    assert (first["image_id"], first["category_id"], first["bbox"], first["score"]) == (17, 90, [3, 2, 6, 3], 0.25)
    assert (coco_mask.decode(first["segmentation"]).astype(bool) == masks[0]).all()
    assert second["bbox"] == [0, 0, 0, 0]
    assert "bbox" not in instance_results(17, masks, [1, 0], [0.25, 0.5], (10, 90), boxes=False)[0]


def tracks_of(masks):
    """Run lengths of ``(n, T, H, W)``, ``None`` for an empty frame."""
    return [[rle if frame.any() else None for rle, frame in zip(encode(one), one, strict=True)] for one in masks]


def test_video_files_score_as_the_predictions_in_memory(tmp_path):
    rng = np.random.default_rng(3)
    truth = {
        "videos": [{"id": i, "height": 30, "width": 40, "length": 4} for i in (1, 2)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [],
    }
    entries = []
    for video in (1, 2):
        masks = np.zeros((3, 4, 30, 40), bool)
        for track in masks:
            y, x = rng.integers(0, 15, 2)
            track[:, y : y + 12, x : x + 14] = True
        masks[0, 2] = False
        for item in track_results(video, tracks_of(masks), [0, 1, 0], [1, 1, 1], (1, 2)):
            truth["annotations"].append({key: item[key] for key in item if key != "score"})
        moved = tracks_of(np.roll(masks, 2, 3))
        entries += track_results(video, moved, [0, 1, 0], rng.random(3).tolist(), (1, 2))
    assert entries[0]["segmentations"][2] is None
    packed = write_video_submission(tmp_path / "out", entries)
    assert packed.name == "results.zip"
    with zipfile.ZipFile(packed) as archive:
        assert archive.namelist() == ["results.json"]
        inside = json.loads(archive.read("results.json"))
    assert inside == json.loads((tmp_path / "out/results.json").read_text())
    assert set(inside[0]) == {"video_id", "category_id", "segmentations", "score"}
    scores = video_ap(truth, entries)
    assert video_ap(truth, inside) == scores
    assert 0.1 < scores.ap < 1


def test_a_failed_run_leaves_no_json(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(ValueError, match=r"[Oo]ut of range float"):
        write_results(path, [{"score": float("nan")}])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_segments_are_described_and_those_without_a_pixel_are_left_out():
    ids = np.ones((2, 2), int)
    with pytest.raises(ValueError, match="cat: the map of ids holds segment 1"):
        panoptic_annotation(1, "cat", ids, [], (5,))
    entry = panoptic_annotation(1, "cat", ids, [Piece(1, 0), Piece(9, 0)], (5,))
    assert [(info["id"], info["category_id"]) for info in entry["segments_info"]] == [(1, 5)]
