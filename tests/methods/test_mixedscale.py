"""Patches of several sizes, against a quadtree that is grown split by split and read pixel by pixel."""

import pytest
import torch

import reference
from expedit import MixedScale, accelerate
from expedit.core import Anatomy, Grid, Plan, Span, coarse_tokens
from expedit.cost.trace import token_clusters, trace
from expedit.methods.mixedscale import Quadtree
from expedit.models import ViT


def vit(size=(96, 64)):
    torch.manual_seed(5)
    model = ViT(image_size=size, patch=8, width=16, depth=2, heads=2).eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("keep", [0.05, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("grid", [(8, 8), (9, 14), (4, 7)])
@pytest.mark.parametrize("smooth", [True, False])
def test_leaves_and_what_is_read_of_them_equal_the_literal_loops(keep, grid, smooth):
    windows = (grid[0] // 4) * (grid[1] // 4) * 5
    x, coarse = torch.randn(2, grid[0] * grid[1], 6), torch.randn(2, windows, 6)
    x += 3 * torch.randn(2, grid[0] * grid[1], 1) * torch.rand(grid[0] * grid[1])[:, None]
    small, token_map = Quadtree(MixedScale(keep=keep, smooth=smooth))(x, coarse, Grid(*grid))
    for image in range(2):
        tokens, read, owner, sizes = reference.mixed_scale(x[image], coarse[image], grid, keep)
        assert torch.equal(small[image], tokens)
        assert torch.equal(token_map.owner()[image], owner)
        assert token_map.sizes[image].tolist() == sizes
        if smooth:
            assert torch.allclose(token_map.matrix()[image], read.float(), atol=1e-6)
        places = torch.arange(len(owner)).float()[None, :, None].expand(2, -1, 1)
        means = torch.stack([places[0][owner == leaf].mean(0) for leaf in range(len(tokens))])
        assert torch.allclose(token_map.down(places)[image], means)


@pytest.mark.parametrize("size", [(96, 64), (72, 104)])
@torch.inference_mode()
def test_windows_are_patches_of_the_smaller_image_at_their_mean_position(size):
    model, image = vit(size), torch.randn(2, 3, *size)
    grid = Grid(size[0] // 8, size[1] // 8)
    stream = accelerate(model, "mixedscale(keep=0.3)").embed(image)
    positions = model.pos_embed[0, 1:].unflatten(0, grid)
    means = []
    for side in (2, 4):
        for row in range(0, grid.h // 4 * 4, side):
            for column in range(0, grid.w // 4 * 4, side):
                means.append(positions[row : row + side, column : column + side].mean((0, 1)))
    for sample in range(2):
        want = reference.smaller_patches(model.patch_embed, image[sample], 8, grid) + torch.stack(means)
        assert torch.allclose(stream.coarse[sample], want, atol=1e-5)
    assert model.embed(image).coarse is None


def test_flat_images_keep_large_patches_and_detail_small_ones():
    image = torch.zeros(1, 3, 96, 64)
    image[:, :, :32, :32] = torch.randn(3, 32, 32)
    clusters = token_clusters(accelerate(vit(), "mixedscale(keep=0.3)"), image)
    detail, flat = clusters[:4, :4], clusters[4:8, 4:]
    assert len(set(detail.flatten().tolist())) > len(set(flat.flatten().tolist()))


@torch.inference_mode()
def test_smooth_reading_has_no_steps_between_windows():
    """A linear ramp over whole windows comes back as a ramp, and not as stairs."""
    x, grid = torch.zeros(1, 64, 1), Grid(8, 8)
    guide = coarse_tokens(torch.arange(8.0).repeat(8)[None, :, None], torch.zeros(1, 20, 1), grid)
    small, token_map = Quadtree(MixedScale(keep=0.01))(x, guide, grid)
    assert small.shape[1] == 4
    row = token_map.up(small)[0, :8, 0]
    assert torch.allclose(row[2:6], torch.tensor([2.0, 3.0, 4.0, 5.0]))


def test_an_image_of_fewer_than_four_rows_stays_whole():
    fast, model = accelerate(vit(), "mixedscale(keep=0.3)"), vit()
    image = torch.randn(1, 3, 24, 80)
    with torch.inference_mode():
        assert torch.equal(fast(image), model(image))


def test_a_smaller_image_is_split_on_its_own_lattice():
    seen = trace(accelerate(vit(), "shrink(scale=0.7) + mixedscale(keep=0.5)"), torch.randn(1, 3, 96, 64))
    assert set(seen.tokens) == {1 + 24}  # of 8 x 6 tokens


def test_it_is_refused_after_the_first_block_and_off_the_lattice():
    net, reducer = Anatomy(4, prefix=1, heads=2, head_dim=8), Quadtree(MixedScale())
    with pytest.raises(ValueError, match="only before the first block"):
        Plan.of([Span(reducer, 2, 8)], net)
    with pytest.raises(ValueError, match="an earlier reduction took them off"):
        reducer(torch.zeros(1, 16, 4), torch.zeros(1, 5, 4), None)
