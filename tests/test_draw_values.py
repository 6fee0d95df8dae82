import numpy as np
import pytest

import expedit
from data_files import opened
from expedit import draw, draw_values

NEAR, FAR = (158, 1, 66), (94, 79, 162)
"""Ends of the colours: deep red and violet blue."""


@pytest.mark.parametrize("kind", ["metric", "inverse"])
def test_near_is_red_and_far_is_blue(kind):
    metres = np.linspace(1, 9, 300)[None].repeat(4, 0)
    picture = draw_values.depth(metres if kind == "metric" else 7 + 2 / metres, kind)
    assert picture.dtype == np.uint8
    assert picture.shape == (4, 300, 3)
    assert tuple(picture[0, 0]) == NEAR
    assert tuple(picture[0, -1]) == FAR


def test_the_same_place_has_the_same_colour_in_metres_and_in_inverse_depth():
    metres = np.random.default_rng(0).uniform(1, 9, (20, 30))
    assert np.array_equal(draw_values.depth(metres), draw_values.depth(3 / metres + 5, "inverse"))


def test_what_is_not_known_is_grey():
    metres = np.full((3, 4), 2.0)
    metres[0, :3] = 0, np.nan, np.inf
    picture = draw_values.depth(metres)
    assert (picture[0, :3] == draw.NEUTRAL).all()
    assert (picture[1:] != draw.NEUTRAL).any(-1).all()
    assert (draw_values.depth(np.zeros((2, 2))) == draw.NEUTRAL).all()
    assert (draw_values.depth(np.zeros((2, 2)), "inverse") != draw.NEUTRAL).any()  # 0 is far away


def test_components_are_those_of_a_singular_value_decomposition():
    for shape in ((9, 7, 12), (2, 3, 12)):  # more tokens than channels, and fewer
        features = np.random.default_rng(1).normal(size=shape) * np.arange(1, 13)
        found = draw_values.Components.of(features)
        tokens = features.reshape(-1, 12)
        axes = np.linalg.svd(tokens - tokens.mean(0))[2][:3].T
        assert np.abs(np.abs((axes * found.axes).sum(0)) - 1).max() < 1e-9
        assert all(axis[np.abs(axis).argmax()] > 0 for axis in found.axes.T)
    assert draw_values.components(features).shape == (2, 3, 3)


def test_features_of_two_networks_are_shown_by_the_same_colours():
    features = np.random.default_rng(2).normal(size=(6, 5, 8))
    basis = draw_values.Components.of(features)
    assert np.array_equal(draw_values.components(features, basis), draw_values.components(features))
    assert not np.array_equal(draw_values.components(features[::-1], basis), draw_values.components(features))
    moved = draw_values.components(features + 100, basis)
    assert (np.unique(moved) == [0, 255]).all()


def test_equal_features_are_one_colour():
    assert len(np.unique(draw_values.components(np.ones((4, 4, 6), np.float32)))) == 1


def test_small_pictures_are_enlarged_by_whole_pixels():
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    large = draw_values.enlarged(picture, 9)
    assert large.shape == (4, 8, 3)
    assert np.array_equal(large[::2, ::2], picture)
    assert np.array_equal(draw_values.enlarged(picture, 3), picture)


def test_real_features_are_the_librarys(shared):
    """DINOv2 ViT-S/14: 16 x 16 tokens of 224 pixels from the middle, as its processor prepares them."""
    hf, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    folder, path = shared / "weights" / "dinov2-small", shared / "data" / "demo_images" / "dog.jpg"
    model = expedit.load(folder)
    found = expedit.predict(model, path).features
    theirs = hf.Dinov2Model.from_pretrained(folder, dtype=torch.float32).eval()
    processor = hf.BitImageProcessor.from_pretrained(folder)
    with torch.inference_mode():
        tokens = theirs(**processor(opened(path), return_tensors="pt")).last_hidden_state[0, 1:]
    assert np.array_equal(found, tokens.reshape(16, 16, 384).numpy())
    picture = draw_values.components(found)
    body, wall = picture[8:14, 5:8].reshape(-1, 3), picture[0:2, 12:].reshape(-1, 3)
    assert np.abs(body.mean(0) - wall.mean(0)).max() > 60  # the dog does not look like what is behind it
