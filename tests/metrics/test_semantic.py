import json
import time

import numpy as np
import pytest

from data_files import opened
from expedit.metrics import SemanticScores, confusion


def reference(prediction, label, classes, ignore=255):
    counts = np.zeros((classes, classes), np.int64)
    for p, t in zip(prediction.ravel().tolist(), label.ravel().tolist(), strict=True):
        if t != ignore:
            counts[t, p] += 1
    return counts


def picture(seed, classes, shape=(37, 53), ignored=0.2):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, shape).astype(np.uint8)
    prediction = np.where(rng.random(shape) < 0.6, label, rng.integers(0, classes, shape)).astype(np.int32)
    label[rng.random(shape) < ignored] = 255
    return prediction, label


@pytest.mark.parametrize("classes", [2, 19, 150, 254])
@pytest.mark.parametrize("ignored", [0.0, 0.3, 1.0])
def test_equal_to_a_loop(classes, ignored):
    prediction, label = picture(classes, classes, ignored=ignored)
    counts = confusion(prediction, label, classes)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, reference(prediction, label, classes))


def test_figures_equal_a_loop_over_classes():
    prediction, label = picture(3, 12)
    label[label == 4] = 255  # class 4 is predicted only
    prediction[(prediction == 7) & (label != 7)], label[label == 7] = 0, 255  # class 7 occurs nowhere that counts
    prediction[prediction == 7] = 0
    ious, accuracies = {}, {}
    for c in range(12):
        inside = label != 255
        t, p = (label == c) & inside, (prediction == c) & inside
        if (t | p).any():
            ious[c] = (t & p).sum() / (t | p).sum()
        if t.any():
            accuracies[c] = (t & p).sum() / t.sum()
    scores = SemanticScores(confusion(prediction, label, 12))
    assert 7 not in ious
    assert 4 in ious
    assert 4 not in accuracies
    assert scores.miou() == pytest.approx(np.mean(list(ious.values())))
    assert scores.miou("labelled") == pytest.approx(np.mean([ious[c] for c in accuracies]))
    assert scores.miou("all") == pytest.approx(sum(ious.values()) / 12)
    assert scores.class_accuracy == pytest.approx(np.mean(list(accuracies.values())))
    assert scores.pixel_accuracy == pytest.approx((prediction == label)[label != 255].mean())
    assert np.isnan(scores.iou[7])


@pytest.mark.parametrize(
    ("name", "truth", "zero_is_void"),
    [("ade150_3", "ade20k/derived_150", True), ("cocostuff_10", "coco_stuff10/pngs", False)],
)
def test_equal_to_the_official_evaluators(shared, name, truth, zero_is_void):
    data = shared / "data"
    expected = json.loads((data / "metric_refs" / f"semantic_{name}_expected.json").read_text())
    classes = expected["num_classes"]
    total = np.zeros((classes, classes), np.int64)
    for path in sorted((data / expected["pred_dir"]).glob("*.png")):
        label = np.array(opened(data / truth / path.name))
        label = label - np.uint8(1) if zero_is_void else label  # 0 wraps to 255
        total += confusion(np.array(opened(path)), label, classes)
    scores = SemanticScores(total)
    assert scores.miou("present") == pytest.approx(expected["mIoU_over_classes_present_in_gt_or_pred"], abs=1e-12)
    assert scores.miou("labelled") == pytest.approx(expected["mIoU_over_classes_present_in_gt"], abs=1e-12)
    assert scores.miou("all") == pytest.approx(expected["mIoU_CSAIL_all_classes"], abs=1e-12)
    assert scores.class_accuracy == pytest.approx(expected["mAcc_over_gt_classes"], abs=1e-12)
    assert scores.pixel_accuracy == pytest.approx(expected["aAcc"], abs=1e-12)
    ious = {int(c): iou for c, iou in expected["per_class_iou"].items() if iou is not None}
    np.testing.assert_allclose(np.nan_to_num(scores.iou)[list(ious)], list(ious.values()), atol=1e-12)


def test_matrices_add_up():
    pictures = [picture(seed, 9) for seed in range(4)]
    whole = confusion(np.stack([p for p, _ in pictures]), np.stack([t for _, t in pictures]), 9)
    np.testing.assert_array_equal(sum(confusion(p, t, 9) for p, t in pictures), whole)


def test_nothing_labelled_has_no_figures():
    scores = SemanticScores(confusion(np.zeros((4, 4), np.int32), np.full((4, 4), 255, np.uint8), 3))
    assert np.isnan(scores.miou())
    assert np.isnan(scores.pixel_accuracy)
    assert np.isnan(scores.class_accuracy)
    assert confusion(np.zeros((0, 4), int), np.zeros((0, 4), np.uint8), 3).sum() == 0


def test_ignore_may_be_a_class():
    prediction, label = picture(0, 5, ignored=0)
    np.testing.assert_array_equal(confusion(prediction, label, 5, ignore=2), reference(prediction, label, 5, ignore=2))


@pytest.mark.parametrize(
    ("prediction", "label", "complaint"),
    [
        ([[0, 1]], [[0]], r"expected the shape of the label \(1, 1\), got \(1, 2\)"),
        ([[0, 3]], [[0, 1]], r"prediction: expected 0\.\.2, got \[3\]"),
        ([[0, -1]], [[0, 1]], r"prediction: expected 0\.\.2, got \[-1\]"),
        ([[0, 1]], [[0, 7]], r"label: expected 0\.\.2 or 255, got \[7\]"),
        ([[0, 1]], [[1 << 40, 255]], r"label: expected 0\.\.2 or 255, got \[1099511627776\]"),
        ([[0, 1]], [[-1, 1]], r"label: expected 0\.\.2 or 255, got \[-1\]"),
    ],
)
def test_wrong_input_is_named(prediction, label, complaint):
    with pytest.raises(ValueError, match=complaint):
        confusion(np.array(prediction), np.array(label), 3)


def test_fast_enough_to_hide_behind_the_model():
    prediction, label = picture(0, 150, shape=(512, 683))
    times = []
    for _ in range(30):
        start = time.perf_counter()
        confusion(prediction, label, 150)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.01  # about 1 ms on a free core; the slack is for a busy one
