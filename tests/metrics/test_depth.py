import math

import numpy as np
import pytest

from expedit.metrics.depth import CROPS, DepthProtocol, aligned, counted, depth_errors, mean_errors

PLAIN = DepthProtocol()


def test_errors_worked_out_by_hand():
    """Ratios 2, 1.2 and 1.5 on depths of 1, 5 and 3 metres."""
    errors = depth_errors(np.array([[2.0, 6.0, 2.0, 9.0]]), np.array([[1.0, 5.0, 3.0, 0.0]]), PLAIN)
    assert errors["abs_rel"] == pytest.approx((1 + 1 / 5 + 1 / 3) / 3)
    assert errors["sq_rel"] == pytest.approx((1 + 1 / 5 + 1 / 3) / 3)
    assert errors["rmse"] == pytest.approx(1.0)
    logs = [math.log(2), math.log(1.2), math.log(2 / 3)]
    assert errors["rmse_log"] == pytest.approx(math.sqrt(sum(x * x for x in logs) / 3))
    assert errors["log10"] == pytest.approx((math.log10(2) + math.log10(1.2) + math.log10(1.5)) / 3)
    assert (errors["delta1"], errors["delta2"], errors["delta3"]) == pytest.approx((1 / 3, 2 / 3, 2 / 3))


def test_a_ratio_on_the_threshold_is_outside():
    errors = depth_errors(np.array([[1.25, 1.5625, 1.953125]]), np.ones((1, 3)), PLAIN)
    assert (errors["delta1"], errors["delta2"], errors["delta3"]) == pytest.approx((0, 1 / 3, 2 / 3))


def test_only_depths_within_the_range_count_and_predictions_are_moved_into_it():
    protocol = DepthProtocol(least=0.5, most=4.0)
    truth = np.array([[0.5, 1.0, 2.0, 4.0, 7.0, 0.0]])
    assert counted(truth, protocol).tolist() == [[False, True, True, False, False, False]]
    errors = depth_errors(np.array([[9, -3, 100, 9, 9, 9.0]]), truth, protocol)
    assert errors["rmse"] == pytest.approx(math.sqrt((0.5**2 + 2**2) / 2))
    assert depth_errors(truth, np.zeros_like(truth), protocol) is None


@pytest.mark.parametrize(
    ("crop", "size", "rows", "columns"),
    [
        ("nyu-eigen", (480, 640), (45, 471), (41, 601)),
        ("kitti-eigen", (375, 1242), (124, 342), (44, 1197)),
        ("kitti-garg", (375, 1242), (153, 371), (44, 1197)),
        ("none", (7, 9), (0, 7), (0, 9)),
    ],
)
def test_crops_are_the_published_ones(crop, size, rows, columns):
    found = counted(np.ones(size), DepthProtocol(crop=crop))
    inside = np.argwhere(found)
    assert (*inside.min(0), *(inside.max(0) + 1)) == (rows[0], columns[0], rows[1], columns[1])
    assert found.sum() == (rows[1] - rows[0]) * (columns[1] - columns[0])
    assert set(CROPS) == {"none", "nyu-eigen", "kitti-eigen", "kitti-garg"}


def test_alignment_takes_scale_and_shift_away():
    truth = np.random.default_rng(0).uniform(1, 9, (12, 15))
    assert depth_errors(3 * truth, truth, DepthProtocol(align="median"))["abs_rel"] == pytest.approx(0, abs=1e-9)
    assert depth_errors(3 * truth + 2, truth, DepthProtocol(align="median"))["abs_rel"] > 0.05
    assert depth_errors(3 * truth + 2, truth, DepthProtocol(align="least-squares"))["rmse"] == pytest.approx(
        0, abs=1e-9
    )
    inverse = DepthProtocol(align="least-squares")
    assert depth_errors(5 / truth - 0.1, truth, inverse, "inverse")["rmse"] == pytest.approx(0, abs=1e-9)
    assert depth_errors(5 / truth, truth, DepthProtocol(align="median"), "inverse")["rmse"] == pytest.approx(
        0, abs=1e-9
    )


def test_least_squares_against_the_general_solver():
    generator = np.random.default_rng(1)
    p, t = generator.normal(size=50), generator.uniform(1, 9, 50)
    [scale, shift], *_ = np.linalg.lstsq(np.stack([p, np.ones(50)], 1), t, rcond=None)
    assert aligned(p, t, DepthProtocol(align="least-squares"), "metric") == pytest.approx(scale * p + shift)


def test_an_inverse_depth_behind_the_horizon_is_the_farthest():
    """After the shift an inverse depth may be negative."""
    truth = np.array([[1.0, 2.0, 4.0, 8.0]])
    errors = depth_errors(np.array([[1.0, 0.0, 0.0, -1.0]]), truth, DepthProtocol(align="least-squares"), "inverse")
    assert all(math.isfinite(value) for value in errors.values())


def test_a_prediction_without_contrast_is_the_mean():
    truth = np.array([[1.0, 3.0]])
    assert depth_errors(np.zeros((1, 2)), truth, DepthProtocol(align="least-squares"))["rmse"] == pytest.approx(1.0)


def test_pictures_count_the_same_whatever_their_size():
    assert mean_errors([{"rmse": 1.0}, {"rmse": 3.0}]) == {"rmse": 2.0}
    assert mean_errors([]) == {}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: DepthProtocol(least=0.0), "least and most"),
        (lambda: DepthProtocol(most=1e-4), "least and most"),
        (lambda: DepthProtocol(crop="garg"), "crop: expected one of none, nyu-eigen"),
        (lambda: DepthProtocol(align="mean"), "align: expected one of none, median"),
        (lambda: depth_errors(np.ones((2, 3)), np.ones((3, 2)), PLAIN), "expected the size of the ground truth"),
        (lambda: depth_errors(np.full((1, 1), np.nan), np.ones((1, 1)), PLAIN), "finite"),
        (lambda: depth_errors(np.ones((1, 1)), np.ones((1, 1)), PLAIN, "inverse"), "neither scale nor shift"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
