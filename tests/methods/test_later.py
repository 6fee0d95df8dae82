"""The later methods against literal loops over single tokens."""

import pytest
import torch

import reference_later
from expedit import ALGM, AiluRus, CubistMerge, EvoViT, PiToMe, accelerate
from expedit.core import Context, Grid
from expedit.methods.ailurus import Anchors
from expedit.methods.algm import Matched, Windows
from expedit.methods.ats import Sampled, drawn
from expedit.methods.cubistmerge import RowsThenColumns
from expedit.methods.evovit import SlowFast
from expedit.methods.mpm import Pairs
from expedit.methods.pitome import Energetic
from expedit.methods.tome2d import Strided
from expedit.models import ViT


def assert_same(got, token_map, image, want, index, sizes):
    """One image of a batch against its literal twin: tokens, map and sizes."""
    assert torch.allclose(got[image], want.float(), atol=1e-5)
    assert torch.equal(token_map.index[image, :, 0], index)
    assert token_map.length == len(want)
    if token_map.sizes is not None:
        assert token_map.sizes[image].tolist() == sizes


@pytest.mark.parametrize("keep", [0.5, 0.83, 0.95])
@pytest.mark.parametrize("n", [14, 15])
def test_pitome_equals_the_literal_loops(keep, n):
    x, keys = torch.randn(2, n, 6), torch.randn(2, n, 4)
    small, token_map = Energetic(PiToMe(keep=keep), 0.3)(x, keys, None)
    for image in range(2):
        assert_same(small, token_map, image, *reference_later.pitome(x[image], keys[image], keep, 0.3))


def test_pitome_protects_the_token_that_is_like_no_other():
    crowd = torch.randn(1, 1, 8) + 0.01 * torch.randn(1, 11, 8)
    keys = torch.cat((crowd, -crowd[:, :1]), 1)
    _, token_map = Energetic(PiToMe(keep=0.5), 0.9)(keys, keys, Grid(3, 4))
    assert token_map.sizes[0, token_map.index[0, 11, 0]] == 1


@pytest.mark.parametrize("ratio", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("grid", "stride"), [((4, 6), 2), ((5, 7), 2), ((5, 4), 3), ((1, 1), 2)])
def test_tome2d_equals_the_literal_loops(ratio, grid, stride):
    x = torch.randn(2, grid[0] * grid[1], 6)
    small, token_map = Strided(ratio, stride)(x, x, Grid(*grid))
    for image in range(2):
        assert_same(small, token_map, image, *reference_later.tome2d(x[image], grid, ratio, stride))


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("grid", "radius"), [((5, 6), 2), ((7, 4), 9), ((1, 3), 1)])
def test_ailurus_equals_the_literal_loops(keep, grid, radius):
    x = torch.randn(2, grid[0] * grid[1], 6)
    method = AiluRus(keep=keep, radius=radius, neighbours=4, spatial=0.1)
    small, token_map = Anchors(method)(x, x, Grid(*grid))
    for image in range(2):
        want = reference_later.ailurus(x[image], grid, keep, 4, radius, 0.1)
        assert_same(small, token_map, image, *want)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("grid", [(4, 6), (5, 7), (1, 4)])
def test_algm_windows_equal_the_literal_loops(share, grid):
    x = torch.randn(2, grid[0] * grid[1], 6)
    small, token_map = Windows(share, True)(x, x, Grid(*grid))
    for image in range(2):
        assert_same(small, token_map, image, *reference_later.algm_windows(x[image], grid, share))


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("n", [12, 13])
def test_algm_global_equals_the_literal_loops(ratio, n):
    x = torch.randn(2, n, 6)
    small, token_map = Matched(ratio, True)(x, x, None)
    for image in range(2):
        assert_same(small, token_map, image, *reference_later.algm_global(x[image], ratio))


def test_algm_needs_two_blocks_in_order():
    for layers in ((5, 1), (3, 3), (1,), 4):
        with pytest.raises(ValueError, match="layers: expected"):
            ALGM(layers=layers)


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("n", [2, 12, 33])
def test_mpm_equals_the_literal_loops(ratio, n):
    """The largest budget is more than there are mutual pairs, so tokens follow."""
    x = torch.randn(2, n, 6)
    small, token_map = Pairs(ratio, True)(x, x, None)
    for image in range(2):
        assert_same(small, token_map, image, *reference_later.mpm(x[image], ratio))


def test_mpm_leaves_the_same_number_of_equal_tokens():
    small, token_map = Pairs(0.5, True)(torch.ones(1, 9, 4), torch.ones(1, 9, 4), None)
    assert small.shape[1] == 5
    assert token_map.sizes.sum() == 9
    assert token_map.sizes.min() >= 1


@pytest.mark.parametrize(("grid", "cells"), [((4, 6), (3, 4)), ((5, 7), (3, 4)), ((7, 4), (7, 2)), ((1, 5), (1, 4))])
def test_cubistmerge_equals_the_literal_loops(grid, cells):
    x = torch.randn(2, grid[0] * grid[1], 6)
    small, token_map = RowsThenColumns(cells)(x, x, Grid(*grid))
    assert token_map.grid == cells
    for image in range(2):
        assert_same(small, token_map, image, *reference_later.cubistmerge(x[image], grid, cells))


def test_cubistmerge_leaves_at_least_half_of_each_side():
    x = torch.randn(1, 35, 4)
    _, token_map = RowsThenColumns(0.5)(x, x, Grid(5, 7))
    assert token_map.grid == (3, 4)
    _, token_map = RowsThenColumns((2, 6))(x, x, Grid(5, 7))
    assert token_map.grid == (3, 6)
    with pytest.raises(ValueError, match="at least half of each side"):
        CubistMerge(grid=0.4)


@pytest.mark.parametrize("keep_rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("n", [12, 31])
def test_ats_equals_the_literal_loops(keep_rate, n):
    x, score = torch.randn(2, n, 5), (3 * torch.randn(2, n)).softmax(1)
    small, token_map = Sampled(keep_rate)(x, score, None)
    for image in range(2):
        kept, nearest = reference_later.ats(x[image], score[image], keep_rate)
        assert sorted(map(tuple, small[image].tolist())) == sorted(map(tuple, x[image, kept].tolist()))
        assert torch.equal(token_map.up(small)[image], x[image, nearest])


def test_ats_draws_everywhere_and_not_the_largest_scores_alone():
    """Of a heavy first token and many light ones, which together weigh as much, every fourth light one is drawn."""
    score = torch.tensor([[0.5, *[0.5 / 16] * 16]])
    assert drawn(score, 8)[0].tolist() == [True, *[False, True, False, False] * 4]


@pytest.mark.parametrize("keep_rate", [0.1, 0.5, 0.9])
def test_evovit_equals_the_literal_loops(keep_rate):
    x, score = torch.randn(2, 21, 5), torch.randn(2, 21).softmax(1)
    small, token_map = SlowFast(keep_rate)(x, score, None)
    for image in range(2):
        slow, fast, package = reference_later.evovit(x[image], score[image], keep_rate)
        assert torch.equal(small[image, :-1], x[image, slow])
        assert torch.allclose(small[image, -1], package, atol=1e-6)
        assert token_map.index[image, slow, 0].tolist() == list(range(len(slow)))
        assert token_map.index[image, fast, 0].tolist() == [len(slow)] * len(fast)


@torch.inference_mode()
def test_evovit_updates_fast_tokens_by_what_their_package_changes():
    """One selection before the last MLP, whose change of the package every fast token gets."""
    vit = ViT(image_size=(24, 24), patch=8, width=16, depth=2, heads=2).eval()
    for parameter in vit.parameters():
        parameter += 0.3 * torch.randn_like(parameter)
    image = torch.randn(1, 3, 24, 24)
    x = vit.blocks[0](vit.embed(image).x)
    attended, score = vit.blocks[1].attn(vit.blocks[1].norm1(x), Context(guide="cls_attention", prefix=1))
    x = x + attended
    slow, fast, package = reference_later.evovit(x[0, 1:], score[0], 0.4)
    few = torch.cat((x[0, :1], x[0, 1:][slow], package[None]))
    change = vit.blocks[1].mlp(vit.blocks[1].norm2(few))
    x[0, 0] += change[0]
    x[0, [1 + i for i in slow]] += change[1:-1]
    x[0, [1 + i for i in fast]] += change[-1]
    got = accelerate(vit, EvoViT(keep_rate=0.4, layers=(1,)))(image)
    assert torch.allclose(got.flatten(2).mT, vit.norm(x)[:, 1:], atol=1e-5)
