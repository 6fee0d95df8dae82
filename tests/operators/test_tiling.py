import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import reference
from expedit.core import Grid
from expedit.operators.clustering import cluster
from expedit.operators.tiling import Axis, Tiling, _kept_tables, tables


def test_places_are_worked_out_once_per_size_whoever_asks_first():
    """Neither fake nor inference tensors may be kept for those who come later."""
    sizes = (Grid(17, 19), Grid(5, 6), 1, 3, 0.1)
    x = torch.randn(1, 17 * 19, 4)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        cluster(x, *sizes)
    made = _kept_tables.cache_info().misses
    assert torch.isfinite(cluster(x, *sizes)).all()
    assert _kept_tables.cache_info().misses == made
    assert not any(
        table.is_inference() for table in tables(*Tiling.of(*sizes[:2], 1).h, *Tiling.of(*sizes[:2], 1).w, x.device)
    )


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 4))
def test_every_token_is_in_one_tile_and_sees_exactly_its_neighbourhood(tokens, cells, radius):
    cells = min(tokens, cells)
    axis = Axis.of(tokens, cells, radius)
    position, cell = axis.rows(torch.device("cpu"))
    reach = axis.reach(torch.device("cpu"))[0]
    seen = {}
    for tile in range(axis.tiles):
        for place in range(position.shape[1]):
            if cell[tile, place] < 0:
                assert not reach[tile, place].any()
                continue
            token = int(position[tile, place])
            assert token not in seen
            first = tile * axis.step - axis.margin
            seen[token] = {first + int(k) for k in reach[tile, place].nonzero()}
    labels = [token * cells // tokens for token in range(tokens)]
    assert seen == {
        token: set(range(max(label - radius, 0), min(label + radius, cells - 1) + 1))
        for token, label in enumerate(labels)
    }


@pytest.mark.parametrize(("tokens", "cells"), [(40, 28), (40, 20), (48, 32), (48, 24), (30, 20), (30, 15), (12, 8)])
def test_the_published_lattices_give_tokens_the_cells_of_nearest_upsampling(tokens, cells):
    """At other sizes torch rounds: 23 * 14 / 46 is below 7 there."""
    _, cell = Axis.of(tokens, cells, tokens).rows(torch.device("cpu"))
    assert torch.equal(cell[0], reference.nearest_labels((tokens, 1), (cells, 1)))
