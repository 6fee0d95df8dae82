import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from expedit.metrics.video import video_ap

HEIGHT, WIDTH, LENGTH = 40, 50, 5


def rle_of(mask):
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def test_equals_the_official_figures(shared):
    refs = shared / "data/metric_refs"
    truth = json.loads((shared / "data/video/ytvis_style_gt.json").read_text())
    results = json.loads((refs / "ytvis_style_predictions.json").read_text())
    expected = json.loads((refs / "ytvis_style_expected.json").read_text())
    assert video_ap(truth, results).figures() == pytest.approx(expected["segm"], abs=1e-6)
    for track in truth["annotations"]:
        del track["areas"]  # then they are counted
    assert video_ap(truth, results).figures() == pytest.approx(expected["segm"], abs=1e-6)


def tube(rng, gaps):
    """(T, H, W) bool, a rectangle that moves; absent in some frames."""
    masks = np.zeros((LENGTH, HEIGHT, WIDTH), bool)
    y, x, h, w = rng.integers(0, 15), rng.integers(0, 20), rng.integers(5, 20), rng.integers(5, 20)
    for frame in range(LENGTH):
        if rng.random() >= gaps:
            masks[frame, y + frame : y + frame + h, x + frame : x + frame + w] = True
    return masks


def entry(video, category, masks, **more):
    frames = [rle_of(mask) if mask.any() else None for mask in masks]
    return {"video_id": video, "category_id": category, "segmentations": frames, **more}


def random_case(seed):
    rng = np.random.default_rng(seed)
    tracks, found = [], []
    for video in (1, 2, 3):
        for _ in range(4):
            masks, category = tube(rng, 0.2), int(rng.integers(1, 3))
            tracks.append((video, category, masks))
            for _ in range(int(rng.integers(0, 3))):
                moved = np.roll(masks, rng.integers(-2, 3, 2), (1, 2)) & (rng.random((LENGTH, 1, 1)) < 0.8)
                found.append((video, category, moved, float(rng.random())))
    return tracks, found


def literal_ap(tracks, found, threshold):
    """Mean over classes of the 101-point AP, straight from its definition, on arrays."""
    values = []
    for category in {track[1] for track in tracks}:
        targets = [track for track in tracks if track[1] == category]
        taken, right = set(), []
        for video, _, masks, _ in sorted((f for f in found if f[1] == category), key=lambda f: -f[3]):
            best, chosen = threshold, None
            for place, (other, _, true) in enumerate(targets):
                union = (masks | true).sum()
                if other == video and place not in taken and union and (masks & true).sum() / union >= best:
                    best, chosen = (masks & true).sum() / union, place
            taken.add(chosen)
            right.append(chosen is not None)
        hits = np.cumsum(right)
        recall, precision = hits / len(targets), hits / np.arange(1, len(right) + 1)
        levels = [precision[recall >= level - 1e-12].max(initial=0) for level in np.linspace(0, 1, 101)]
        values.append(np.mean(levels))
    return float(np.mean(values))


@pytest.mark.parametrize("seed", range(4))
def test_equals_a_literal_computation_on_tubes(seed):
    tracks, found = random_case(seed)
    videos = [{"id": i, "height": HEIGHT, "width": WIDTH, "length": LENGTH} for i in (1, 2, 3)]
    truth = {
        "videos": videos,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [entry(*track, iscrowd=0) for track in tracks],
    }
    results = [entry(video, category, masks, score=score) for video, category, masks, score in found]
    scores = video_ap(truth, results)
    thresholds = np.linspace(0.5, 0.95, 10)
    assert scores.ap50 == pytest.approx(literal_ap(tracks, found, 0.5), abs=1e-9)
    assert scores.ap == pytest.approx(np.mean([literal_ap(tracks, found, t) for t in thresholds]), abs=1e-9)
    only = [[item for item in side if item[0] == 2] for side in (tracks, found)]
    assert video_ap(truth, results, video_ids=[2]).ap50 == pytest.approx(literal_ap(*only, 0.5), abs=1e-9)


def one_video():
    masks = np.zeros((LENGTH, HEIGHT, WIDTH), bool)
    masks[1:4, 5:25, 10:30] = True
    truth = {
        "videos": [{"id": 4, "height": HEIGHT, "width": WIDTH, "file_names": [f"v/{i}.jpg" for i in range(LENGTH)]}],
        "categories": [{"id": 9, "name": "a"}],
        "annotations": [entry(4, 9, masks)],
    }
    return truth, masks


def test_a_track_missing_in_some_frames_or_in_all():
    truth, masks = one_video()
    assert video_ap(truth, [entry(4, 9, masks, score=0.5)]).ap == pytest.approx(1)
    shorter = masks.copy()
    shorter[3] = False  # two of three frames: IoU 2/3 passes 0.50, 0.55, 0.60 and 0.65
    assert video_ap(truth, [entry(4, 9, shorter, score=0.5)]).ap == pytest.approx(0.4)
    nowhere = entry(4, 9, np.zeros_like(masks), score=0.9)
    assert nowhere["segmentations"] == [None] * LENGTH
    assert video_ap(truth, [nowhere]).ap == 0
    assert video_ap(truth, [nowhere, entry(4, 9, masks, score=0.5)]).ap == pytest.approx(0.5)
    truth["annotations"].append(entry(4, 9, np.zeros_like(masks)))
    assert 0.5 < video_ap(truth, [entry(4, 9, masks, score=0.5)]).ap < 0.52  # an empty true track is never found


def test_plain_run_lengths_are_read():
    truth, masks = one_video()
    for track in truth["annotations"]:
        flat = [mask.flatten(order="F") for mask in masks]
        edges = [np.flatnonzero(np.diff(np.concatenate([[0], f, [1 - f[-1]]]))) for f in flat]
        counts = [np.diff(np.concatenate([[0], e])).tolist() for e in edges]
        track["segmentations"] = [
            {"size": [HEIGHT, WIDTH], "counts": c} if f.any() else None for c, f in zip(counts, flat, strict=True)
        ]
    assert video_ap(truth, [entry(4, 9, masks, score=0.5)]).ap == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video_id": 5}, "video_id 5"),
        ({"category_id": 8}, "category 8"),
        ({"segmentations": [None] * 3}, "track of video 4: expected 5 segmentations, one per frame"),
        ({"segmentations": None}, "track of video 4: expected a category_id and segmentations"),
        ({"segmentations": [{"size": [3, 3], "counts": "9"}] * 5}, "track of video 4: .* its size is"),
        ({"score": "high"}, "score 'high'"),
    ],
)
def test_refuses_damaged_results(change, message):
    truth, masks = one_video()
    with pytest.raises(ValueError, match=message):
        video_ap(truth, [entry(4, 9, masks, score=0.5) | change])


def test_refuses_damaged_ground_truth():
    truth, masks = one_video()
    results = [entry(4, 9, masks, score=0.5)]
    with pytest.raises(ValueError, match="no list 'videos'"):
        video_ap({"categories": [], "annotations": []}, results)
    with pytest.raises(ValueError, match="video 4: expected a height, a width and a length or file_names"):
        video_ap(truth | {"videos": [{"id": 4, "height": 3, "length": 5}]}, results)
    with pytest.raises(ValueError, match="video_ids: 3"):
        video_ap(truth, results, video_ids=[3])
