import pytest
import torch

import reference
from expedit import Expedit, Pool
from expedit.core import Grid
from expedit.cost.published import Sizes
from expedit.methods.expedit import Clusters
from expedit.methods.pool import Averages

GRID = Grid(9, 12)


@pytest.mark.parametrize("factor", [1e-3, 1.0, 300.0])
def test_sharpness_does_not_depend_on_the_scale_of_the_features(factor):
    x = torch.randn(2, GRID.length, 16)
    reduce = Clusters(Expedit(grid=0.5, top_k=5))
    small, token_map = reduce(x, x, GRID)
    scaled, scaled_map = reduce(factor * x, factor * x, GRID)
    assert torch.allclose(scaled, factor * small, rtol=1e-3, atol=1e-4 * factor)
    assert torch.equal(scaled_map.index, token_map.index)
    assert torch.allclose(scaled_map.weight, token_map.weight, atol=1e-3)


def test_sharpness_is_a_temperature_in_units_of_the_scale():
    x = torch.randn(1, GRID.length, 8)
    scale = float(reference.spread(x[0], GRID, (5, 6)))
    small, token_map = Clusters(Expedit(grid=(5, 6), sharpness=3.0))(x, x, GRID)
    want, want_map = Clusters(Expedit(grid=(5, 6), temperature=3.0 / scale))(x, x, GRID)
    assert torch.allclose(small, want, atol=1e-5)
    assert torch.allclose(token_map.matrix(), want_map.matrix(), atol=1e-5)
    _, other = Clusters(Expedit(grid=(5, 6), sharpness=3.0, restore_temperature=9.0 / scale))(x, x, GRID)
    assert other.weight.amax(2).mean() > 1.2 * token_map.weight.amax(2).mean()


def test_official_weights_shrink_far_tokens():
    x = 30 * torch.randn(1, GRID.length, 8)
    settings = {"grid": (5, 6), "temperature": 0.1, "normalize": "l2"}
    ours = Clusters(Expedit(**settings))(x, x, GRID)[1]
    official = Clusters(Expedit(**settings, official_weights=True))(x, x, GRID)[1]
    assert torch.allclose(ours.weight.norm(dim=2), torch.ones(1, GRID.length))
    assert (official.weight.norm(dim=2) < 0.5).sum() > GRID.length // 2


@pytest.mark.parametrize("grid", [(3, 3), 0.3])
def test_where_there_are_fewer_clusters_than_top_k_all_are_read(grid):
    x = torch.randn(1, GRID.length, 8)
    few, every = (Clusters(Expedit(grid=grid, **settings))(x, x, GRID)[1] for settings in ({}, {"top_k": -1}))
    assert few.length < Expedit().top_k
    assert torch.equal(few.matrix(), every.matrix())
    sizes = Sizes(GRID, width=8, depth=2, heads=1, hidden=16, classes=3, head_layers=1, patch=4)
    assert sizes.read(108, 9, top_k=20) == sizes.read(108, 9, top_k=-1)


@pytest.mark.parametrize(
    ("share", "grid", "cells"),
    [
        (0.7, (40, 40), (28, 28)),
        (0.7, (37, 50), (26, 35)),
        (0.5, (1, 9), (1, 4)),
        (0.01, (5, 5), (1, 1)),
        (1.0, (4, 6), (4, 6)),
    ],
)
@pytest.mark.parametrize(
    "build", [lambda share: Clusters(Expedit(grid=share, top_k=1)), Averages], ids=["expedit", "pool"]
)
def test_a_share_is_of_each_side_of_the_map_at_hand(build, share, grid, cells):
    x = torch.randn(1, grid[0] * grid[1], 4)
    small, token_map = build(share)(x, x, Grid(*grid))
    assert small.shape[1] == cells[0] * cells[1]
    assert token_map.grid == cells


def test_a_share_is_written_as_it_was_given():
    assert repr(Pool(alpha=3, grid=0.6)) == "pool(alpha=3, grid=0.6)"
    assert Pool(grid=1) == Pool(grid=1.0)
