"""The procedurally generated data set: determinism, disjoint splits, sizes and class statistics."""

from __future__ import annotations

import numpy as np
import pytest

from expedit.data.toy import CLASSES, PALETTE, Toy


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    data = Toy("val", 50)
    return np.stack([data[i].label for i in range(50)])


def test_two_instances_give_the_same_pictures_in_any_order() -> None:
    first, second = Toy("val", 5, size=64), Toy("val", 9, size=64)
    forwards = [first[i] for i in range(5)]
    backwards = [second[i] for i in reversed(range(5))][::-1]
    for a, b in zip(forwards, backwards, strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.label, b.label)


def test_no_picture_occurs_twice_within_or_across_splits_and_seeds() -> None:
    sets = (Toy("train", 30, size=32), Toy("val", 30, size=32), Toy("val", 30, size=32, seed=1))
    pictures = {data[i].label.tobytes() + data[i].image.tobytes() for data in sets for i in range(30)}
    assert len(pictures) == 90
    names = [data[i].name for data in sets[:2] for i in range(30)]
    assert len(set(names)) == 60


@pytest.mark.parametrize("size", [16, 37, 256, 300])
def test_shapes_and_types(size: int) -> None:
    sample = Toy(size=size)[3]
    assert sample.image.shape == (size, size, 3)
    assert sample.image.dtype == np.uint8
    assert sample.label.shape == (size, size)
    assert sample.label.dtype == np.uint8
    assert sample.label.max() < len(CLASSES)


def test_the_same_scene_at_every_size() -> None:
    large, small = Toy(size=256)[0].label, Toy(size=128)[0].label
    assert (large[::2, ::2] == small).mean() > 0.9


def test_every_class_is_frequent_enough_to_learn_and_none_dominates(labels: np.ndarray) -> None:
    share = np.bincount(labels.ravel(), minlength=12) / labels.size
    seen = np.array([[(label == kind).any() for kind in range(12)] for label in labels]).mean(0)
    assert len(share) == len(CLASSES) == len(PALETTE) == 12
    assert share.min() > 0.01, dict(zip(CLASSES, share, strict=True))
    assert share.max() < 0.4, dict(zip(CLASSES, share, strict=True))
    assert seen.min() > 0.5, dict(zip(CLASSES, seen, strict=True))


def test_poles_are_thin_but_visible(labels: np.ndarray) -> None:
    pole = labels == CLASSES.index("pole")
    edges = np.diff(np.pad(pole, ((0, 0), (0, 0), (1, 1))).astype(np.int8), axis=2)
    widths = np.where(edges < 0)[2] - np.where(edges > 0)[2]
    assert 4 <= np.median(widths) <= 12


def test_pictures_use_the_range_of_a_camera(labels: np.ndarray) -> None:
    image = Toy()[0].image
    assert 60 < image.mean() < 200
    assert image.std() > 25


def test_palette_colours_are_far_apart() -> None:
    colours = np.array(PALETTE, dtype=float)
    distance = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + 1e3 * np.eye(12)
    assert distance.min() > 40


def test_indices() -> None:
    data = Toy(length=3, size=32)
    assert len(data) == 3
    assert len(list(data)) == 3
    np.testing.assert_array_equal(data[-1].image, data[2].image)
    for index in (3, -4):
        with pytest.raises(IndexError, match="3"):
            data[index]


@pytest.mark.parametrize("arguments", [{"split": "test"}, {"length": -1}, {"seed": -1}, {"size": 8}])
def test_wrong_arguments_say_what_was_expected(arguments: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        Toy(**arguments)
