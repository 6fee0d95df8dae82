import pytest
import torch

import reference
from expedit.core import Grid, TokenMap
from expedit.methods.tome import Merged
from expedit.operators.clustering import cluster
from expedit.operators.similarity import nearest, reading_weights


def test_distances_stay_in_fp32_inside_autocast():
    x = torch.randn(1, 80, 16) + 5
    centres = cluster(x, Grid(8, 10), Grid(5, 6), 3, 3, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cluster(x, Grid(8, 10), Grid(5, 6), 3, 3, 0.1), centres)
        _, inside = reading_weights(x, centres, 4, 0.1)
        merged = Merged(0.3, prefix=1)(x, x, None)[1]
    assert torch.equal(inside, reading_weights(x, centres, 4, 0.1)[1])
    assert torch.equal(merged.index, Merged(0.3, prefix=1)(x, x, None)[1].index)


@pytest.mark.parametrize("normalize", ["l2", "l1"])
@pytest.mark.parametrize(("m", "top_k"), [(30, 4), (30, 30), (200, 5), (200, 150)])
def test_reading_weights_equal_the_literal_rows(m, top_k, normalize):
    x, centres, values = torch.randn(1, 40, 8) * 2, torch.randn(1, m, 8) * 2, torch.randn(1, m, 3)
    index, weight = reading_weights(x, centres, top_k, 0.05, normalize)
    got = TokenMap(index, weight, m).up(values)[0]
    want = reference.reconstruct(x[0], centres[0], values[0], top_k, 0.05, normalize)
    assert torch.allclose(got.double(), want, atol=1e-4)


@pytest.mark.parametrize("normalize", ["l2", "l1"])
@pytest.mark.parametrize(("m", "top_k"), [(30, 4), (200, 5), (200, 150)])
def test_official_weights_shrink_as_published_where_half_of_the_tokens_are_far(m, top_k, normalize):
    x, centres, values = torch.randn(1, 40, 8), torch.randn(1, m, 8), torch.randn(1, m, 3)
    nearest_distance = torch.cdist(x, centres).square().amin(2)
    scale = (27.6 / 0.05 / nearest_distance.median()).sqrt()
    x, centres = x * scale, centres * scale
    assert 15 <= (0.05 * torch.cdist(x, centres).square().amin(2) > 27.6).sum() <= 20
    index, weight = reading_weights(x, centres, top_k, 0.05, normalize, official=True)
    got = TokenMap(index, weight, m).up(values)[0]
    want = reference.reconstruct(x[0], centres[0], values[0], top_k, 0.05, normalize)
    assert torch.allclose(got.double(), want, atol=1e-4)
    whole = TokenMap(*reading_weights(x, centres, top_k, 0.05, normalize), m).up(values)[0]
    assert (whole - got).norm(dim=1).gt(0.1).sum() >= 15


def test_far_tokens_keep_their_weights():
    """The official exponential underflows here and returns zeros; ours subtracts the row's maximum."""
    x, centres = torch.full((1, 3, 4), 100.0), torch.randn(1, 5, 4)
    _, stable = reading_weights(x, centres, 2, 0.1)
    _, official = reading_weights(x, centres, 2, 0.1, official=True)
    assert torch.allclose(stable.square().sum(2), torch.ones(1, 3))
    assert official.abs().max() == 0


def test_nearest_is_the_argmin_of_the_distance():
    x, centres = torch.randn(2, 50, 7), torch.randn(2, 20, 7)
    assert torch.equal(nearest(x, centres)[:, :, 0], torch.cdist(x, centres).argmin(2))
