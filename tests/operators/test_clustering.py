import pytest
import torch

import reference
from expedit.core import Grid, TokenMap
from expedit.operators import clustering
from expedit.operators.clustering import Centres, Products, cluster, cluster_to_scale
from expedit.operators.similarity import reading_weights
from expedit.operators.tiling import Tiling


@pytest.mark.parametrize(
    ("grid", "cells", "neighbourhood"),
    [
        ((6, 6), (4, 4), 3),
        ((9, 7), (5, 6), 1),
        ((16, 13), (9, 11), 3),
        ((14, 14), (14, 3), 3),
        ((13, 21), (10, 17), 5),
        ((7, 30), (2, 27), 3),
        ((20, 18), (2, 3), 3),
    ],
)
@pytest.mark.parametrize("kind", [Products, Centres])
@pytest.mark.parametrize("whole", [False, True])
def test_every_form_of_clustering_equals_the_literal_loops(monkeypatch, grid, cells, neighbourhood, kind, whole):
    monkeypatch.setattr(clustering, "form", lambda tiling, *_: (tiling.whole() if whole else tiling, kind))
    x = torch.randn(2, grid[0] * grid[1], 6) * 2 + 3
    centres = cluster(x, Grid(*grid), Grid(*cells), 3, neighbourhood, 0.1)
    for image, got in zip(x, centres, strict=True):
        want = reference.cluster(image, grid, cells, 3, neighbourhood, 0.1)
        assert torch.allclose(got.double(), want, atol=1e-4)


@pytest.mark.parametrize(
    ("grid", "cells", "channels", "kind", "tiles"),
    [
        ((32, 32), (20, 20), 128, Centres, 25),  # segmenter-mini
        ((37, 37), (26, 26), 384, Products, 49),  # DINOv2-small
        ((40, 40), (28, 28), 1024, Products, 49),
        ((12, 12), (8, 8), 768, Products, 1),  # a window of Swin
        ((20, 18), (2, 3), 768, Centres, 1),  # so coarse that products of all tokens would cost more
    ],
)
def test_products_of_tokens_are_for_wide_tokens_and_fine_lattices(grid, cells, channels, kind, tiles):
    tiling, chosen = clustering.form(Tiling.of(Grid(*grid), Grid(*cells), 2), channels, 5)
    assert chosen is kind
    assert tiling.h.tiles * tiling.w.tiles == tiles


@pytest.mark.parametrize(("grid", "cells"), [((6, 6), (4, 4)), ((9, 7), (5, 6)), ((20, 18), (2, 3)), ((5, 5), (1, 1))])
@pytest.mark.parametrize("iterations", [0, 3])
def test_the_scale_of_tokens_is_their_distance_to_the_first_centres(grid, cells, iterations):
    x = torch.randn(2, grid[0] * grid[1], 6) * 2 + 3
    centres, temperature = cluster_to_scale(x, Grid(*grid), Grid(*cells), iterations, 3, 8.0)
    assert temperature.shape == (2, 1, 1)
    want = 8 / torch.stack([reference.spread(image, grid, cells) for image in x])
    assert torch.allclose(temperature.flatten().double(), want, rtol=1e-4)
    assert torch.allclose(centres, cluster(x, Grid(*grid), Grid(*cells), iterations, 3, temperature), atol=1e-4)


def test_blank_images_have_a_scale():
    x = torch.cat((torch.zeros(1, 30, 4), torch.full((1, 30, 4), 7.0), torch.full((1, 30, 4), 1e-3)))
    for sharpness in (8, 64):
        centres, temperature = cluster_to_scale(x, Grid(5, 6), Grid(3, 3), 5, 3, sharpness)
        assert (temperature > 0).all()
        assert temperature.isfinite().all()
        assert torch.allclose(centres, x[:, :9], rtol=1e-5)
        _, weight = reading_weights(x, centres, 4, temperature, "l1")
        assert torch.allclose(weight.sum(2), torch.ones(3, 30))


def test_every_image_has_a_temperature_of_its_own():
    x, temperature = torch.randn(2, 80, 6), torch.tensor([0.1, 3.0]).reshape(2, 1, 1)
    for cells in (Grid(5, 6), Grid(2, 2)):
        centres = cluster(x, Grid(8, 10), cells, 3, 3, temperature)
        index, weight = reading_weights(x, centres, 4, temperature)
        for image, (tokens, t) in enumerate(zip(x, (0.1, 3.0), strict=True)):
            alone = cluster(tokens[None], Grid(8, 10), cells, 3, 3, t)
            assert torch.allclose(centres[image : image + 1], alone, atol=1e-6)
            want = TokenMap(*reading_weights(tokens[None], alone, 4, t), cells.length).matrix()
            got = TokenMap(index[image : image + 1], weight[image : image + 1], cells.length).matrix()
            assert torch.allclose(got, want, atol=1e-5)
