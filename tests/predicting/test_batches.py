"""Images in batches have the results that they have alone, for every task."""

import numpy as np
import pytest

import expedit
from expedit.data import coco
from expedit.inference import predict_batch
from expedit.models import Segmenter
from expedit.predicting.batches import predictions
from expedit.prepare import views_of
from families import write_folder
from small_mask2former import network

SHAPES = [(60, 90), (90, 60), (60, 90), (64, 64), (60, 90)]
IMAGES = [np.random.default_rng(index).integers(0, 256, (*size, 3), np.uint8) for index, size in enumerate(SHAPES)]


def same(model):
    views = [views_of(model, image) for image in IMAGES]
    found = predict_batch(model, views, SHAPES, window_batch=3)
    for image, one in zip(IMAGES, found, strict=True):
        alone = expedit.predict(model, image)
        assert one.task == alone.task
        for name in ("labels", "masks", "depth", "features"):
            ours, expected = getattr(one, name), getattr(alone, name)
            assert (ours is None) == (expected is None)
            if ours is not None and ours.dtype.kind == "f":
                assert np.allclose(ours, expected, rtol=1e-4, atol=1e-4)
            elif ours is not None:
                assert (ours == expected).mean() > 0.999
        assert [s.category for s in one.segments] == [s.category for s in alone.segments]
        assert np.allclose([s.score for s in one.segments], [s.score for s in alone.segments], atol=1e-4)


@pytest.mark.parametrize("method", [None, "expedit(alpha=1, grid=(3, 4), top_k=5)", "tome(ratio=0.3)"])
def test_windows_of_several_images(method):
    model = Segmenter(classes=5, image_size=(64, 64), patch=8, width=32, depth=3, heads=2, head_layers=1).eval()
    same(model if method is None else expedit.accelerate(model, method))


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_queries(task):
    same(network(task, getattr(coco, f"{task}_categories")()))


@pytest.mark.parametrize("family", ["dinov2", "depth-anything", "upernet", "eomt", "sam"])
def test_networks_of_transformers(family, tmp_path):
    write_folder(family, tmp_path)
    same(expedit.load(tmp_path))


def test_one_image_that_fails_does_not_take_its_batch_along():
    model = Segmenter(classes=5, image_size=(64, 64), patch=8, width=32, depth=3, heads=2, head_layers=1).eval()
    bad = np.zeros((60, 90), np.uint8)  # no colours
    with predictions(model, [[0, 1, 2], [3]], lambda index: bad if index == 1 else IMAGES[index], workers=2) as seen:
        found = list(seen)
    assert [one.item for one in found] == [0, 1, 2, 3]
    assert [one.error is None for one in found] == [True, False, True, True]
    with pytest.raises(ValueError, match="uint8 RGB"):
        _ = found[1].found


def test_a_batch_that_fails_runs_one_by_one(monkeypatch):
    model = Segmenter(classes=5, image_size=(64, 64), patch=8, width=32, depth=3, heads=2, head_layers=1).eval()
    forward = Segmenter.forward

    def small(self, pixels):
        if len(pixels) > 1:
            raise RuntimeError("out of memory")
        return forward(self, pixels)

    monkeypatch.setattr(Segmenter, "forward", small)
    with (
        pytest.warns(UserWarning, match="run one by one"),
        predictions(model, [[0, 2]], IMAGES.__getitem__, workers=1) as seen,
    ):
        assert all(one.error is None for one in seen)
