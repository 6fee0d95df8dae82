"""Fast operators against their slow literal twins."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import reference
from expedit.core import Grid, TokenMap
from expedit.methods.act import QueryClusters
from expedit.methods.evit import Attentive, EViT
from expedit.methods.pool import Averages
from expedit.methods.tome import Merged
from expedit.operators.clustering import cluster, spread
from expedit.operators.matching import descending
from expedit.operators.similarity import nearest, reading_weights
from expedit.operators.tiling import Axis, Tiling, _kept_tables, tables
from expedit.operators.windows import merge, partition


@pytest.mark.parametrize(
    ("grid", "cells", "neighbourhood"),
    [
        ((6, 6), (4, 4), 3),
        ((9, 7), (5, 6), 1),
        ((16, 13), (9, 11), 3),
        ((14, 14), (14, 3), 3),
        ((13, 21), (10, 17), 5),
        ((7, 30), (2, 27), 3),
        ((20, 18), (2, 3), 3),  # so coarse that centres are compared with tokens directly
    ],
)
def test_tiled_clustering_equals_the_literal_loops(grid, cells, neighbourhood):
    x = torch.randn(2, grid[0] * grid[1], 6) * 2 + 3
    centres = cluster(x, Grid(*grid), Grid(*cells), 3, neighbourhood, 0.1)
    for image, got in zip(x, centres, strict=True):
        want = reference.cluster(image, grid, cells, 3, neighbourhood, 0.1)
        assert torch.allclose(got.double(), want, atol=1e-4)


@pytest.mark.parametrize(("grid", "cells"), [((6, 6), (4, 4)), ((9, 7), (5, 6)), ((20, 18), (2, 3)), ((5, 5), (1, 1))])
def test_the_scale_of_tokens_is_their_distance_to_the_first_centres(grid, cells):
    x = torch.randn(2, grid[0] * grid[1], 6) * 2 + 3
    got = spread(x, Grid(*grid), Grid(*cells))
    assert got.shape == (2, 1, 1)
    want = torch.stack([reference.spread(image, grid, cells) for image in x])
    assert torch.allclose(got.flatten().double(), want, rtol=1e-5)


def test_blank_images_have_a_scale():
    x = torch.cat((torch.zeros(1, 30, 4), torch.full((1, 30, 4), 7.0), torch.full((1, 30, 4), 1e-3)))
    scale = spread(x, Grid(5, 6), Grid(3, 3))
    assert (scale > 0).all()
    for temperature in (8 / scale, 64 / scale):
        centres = cluster(x, Grid(5, 6), Grid(3, 3), 5, 3, temperature)
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


def test_distances_stay_in_fp32_inside_autocast():
    x = torch.randn(1, 80, 16) + 5
    centres = cluster(x, Grid(8, 10), Grid(5, 6), 3, 3, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cluster(x, Grid(8, 10), Grid(5, 6), 3, 3, 0.1), centres)
        _, inside = reading_weights(x, centres, 4, 0.1)
        merged = Merged(0.3, prefix=1)(x, x, None)[1]
    assert torch.equal(inside, reading_weights(x, centres, 4, 0.1)[1])
    assert torch.equal(merged.index, Merged(0.3, prefix=1)(x, x, None)[1].index)


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


@pytest.mark.parametrize("fuse", [True, False])
def test_evit_equals_the_literal_loops(fuse):
    x, score = torch.randn(2, 23, 5), torch.rand(2, 23)
    small, token_map = Attentive(EViT(keep_rate=0.6, fuse=fuse))(x, score, Grid(1, 23))
    for image in range(2):
        want, source = reference.evit(x[image], score[image], 0.6, fuse)
        assert torch.allclose(small[image], want, atol=1e-5)
        assert torch.equal(token_map.index[image, :, 0], source)
    assert token_map.length == small.shape[1]
    assert token_map.grid is None


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("n", [12, 13])
def test_tome_equals_the_literal_loops(ratio, n):
    x = torch.randn(2, n, 6)
    small, token_map = Merged(ratio, prefix=1)(x, x, None)
    cls = torch.randn(6)
    for image in range(2):
        want, place = reference.tome(torch.cat((cls[None], x[image])), ratio)
        assert torch.allclose(small[image], want[1:], atol=1e-5)
        assert torch.equal(token_map.index[image, :, 0], place[1:] - 1)


@pytest.mark.parametrize(
    "score", [torch.zeros(2, 9), torch.rand(2, 50), torch.rand(2, 300).mul(5).round().div(5), -torch.rand(1, 7) * 1e-6]
)
def test_descending_is_the_stable_sort(score):
    assert torch.equal(descending(score), score.argsort(dim=1, descending=True, stable=True))


@pytest.mark.parametrize("hashes", [4, 24, 32])
def test_act_equals_the_literal_loops(hashes):
    q, k, v = (torch.randn(2, 3, 19, 8) * 6 for _ in range(3))
    projection, bias = torch.randn(8, hashes), torch.rand(hashes)
    got = QueryClusters(projection, bias)(q, k, v)
    scaled = q * 8**-0.5
    for image in range(2):
        want = reference.act(scaled[image], k[image], v[image], projection, bias)
        assert torch.allclose(got[image], want, atol=1e-4)


def test_act_with_one_query_per_cluster_is_attention():
    """Hash cells far finer than the distances between queries: every query is its own cluster."""
    q, k, v = (torch.randn(1, 2, 11, 8) for _ in range(3))
    kernel = QueryClusters(torch.randn(8, 16) * 1e3, torch.rand(16))
    assert torch.allclose(kernel(q, k, v), reference.attention(q, k, v), atol=1e-5)


def test_pool_reads_bilinearly():
    x = torch.randn(2, 8 * 10, 3)
    small, token_map = Averages((4, 5))(x, x, Grid(8, 10))
    want = torch.nn.functional.interpolate(
        small.transpose(1, 2).reshape(2, 3, 4, 5), size=(8, 10), mode="bilinear", align_corners=False
    )
    assert torch.allclose(token_map.up(small), want.flatten(2).transpose(1, 2), atol=1e-6)


@pytest.mark.parametrize("grid", [(12, 12), (10, 14), (5, 6)])
def test_windows_partition_and_merge_are_inverse(grid):
    x = torch.randn(2, grid[0] * grid[1], 3)
    windows = partition(x, Grid(*grid), Grid(6, 4))
    assert windows.shape[1] == 24
    assert torch.equal(merge(windows, Grid(*grid), Grid(6, 4)), x)


def test_down_is_the_mean_of_the_readers():
    token_map = TokenMap(torch.tensor([[[0], [2], [2], [0]]]), None, 4)
    x = torch.tensor([[[1.0], [2.0], [4.0], [5.0]]])
    assert torch.equal(token_map.down(x), torch.tensor([[[3.0], [0.0], [3.0], [0.0]]]))


def test_weighted_down_is_the_weighted_mean_of_the_readers():
    index = torch.tensor([[[0, 1], [1, 0]]])
    weight = torch.tensor([[[0.75, 0.25], [1.0, 0.0]]])
    token_map = TokenMap(index, weight, 3)
    got = token_map.down(torch.tensor([[[4.0], [8.0]]]))
    assert torch.allclose(got, torch.tensor([[[4.0], [(0.25 * 4 + 8) / 1.25], [0.0]]]))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("prefix", [0, 2])
def test_a_map_after_a_prefix_leaves_it_alone(weighted, prefix):
    index = torch.randint(9, (2, 7, 3 if weighted else 1))
    token_map = TokenMap(index, torch.rand(index.shape) if weighted else None, 9)
    own, small = torch.randn(2, prefix, 4), torch.randn(2, 9, 4)
    got = token_map.after(prefix).up(torch.cat((own, small), 1))
    torch.testing.assert_close(got, torch.cat((own, token_map.up(small)), 1))


def test_owner_is_the_token_read_most():
    token_map = TokenMap(torch.tensor([[[3, 1], [2, 0]]]), torch.tensor([[[0.1, 0.9], [0.6, 0.4]]]), 4)
    assert token_map.owner().tolist() == [[1, 2]]
