import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import reference
from expedit import Regions, accelerate
from expedit.core import Grid, TokenMap
from expedit.core.attention import attention
from expedit.methods.regions import Merging
from expedit.models import Segmenter
from expedit.operators.merging import merged


@pytest.mark.parametrize(
    ("grid", "keep", "rounds"),
    [((6, 8), 27, 3), ((5, 7), 20, 1), ((7, 5), 6, 3), ((1, 9), 5, 2), ((3, 3), 1, 3), ((2, 1), 1, 3)],
)
@pytest.mark.parametrize("spatial", [0.0, 0.01, 0.5])
def test_regions_equal_the_literal_loops(grid, keep, rounds, spatial):
    x = torch.randn(2, grid[0] * grid[1], 6) * 2 + 3
    token_map = merged(x, Grid(*grid), keep, rounds, spatial)
    small = token_map.down(x)
    for image in range(2):
        want, owner, sizes = reference.regions(x[image], grid, keep, rounds, spatial)
        assert torch.equal(token_map.index[image, :, 0], owner)
        assert token_map.sizes[image].tolist() == sizes
        assert torch.allclose(small[image].double(), want, atol=1e-5)
    assert token_map.length == small.shape[1] == keep
    assert token_map.grid is None


def test_a_batch_is_its_images_one_by_one():
    x = torch.randn(3, 12 * 10, 16)
    together = merged(x, Grid(12, 10), 50, 3, 0.01)
    alone = [merged(image[None], Grid(12, 10), 50, 3, 0.01) for image in x]
    assert torch.equal(together.index, torch.cat([one.index for one in alone]))
    assert torch.equal(together.sizes, torch.cat([one.sizes for one in alone]))


@pytest.mark.parametrize("factor", [1e-3, 300.0])
def test_neither_scale_nor_an_offset_of_the_channels_matters(factor):
    x = torch.randn(1, 12 * 10, 16)
    want = merged(x, Grid(12, 10), 50, 3, 0.01)
    assert torch.equal(merged(factor * (x + 2), Grid(12, 10), 50, 3, 0.01).index, want.index)


def test_the_order_of_channels_does_not_matter():
    x = torch.randn(1, 12 * 10, 16)
    want = merged(x, Grid(12, 10), 50, 3, 0.01)
    assert torch.equal(merged(x[:, :, torch.randperm(16)], Grid(12, 10), 50, 3, 0.01).index, want.index)


def test_flat_areas_go_first():
    """Two flat halves become few regions, which do not cross the edge; noise stays."""
    x = torch.randn(12, 12, 8) * 3
    x[:, :4], x[:, 4:8] = torch.randn(8) * 3, torch.randn(8) * 3
    owner = merged(x.flatten(0, 1)[None], Grid(12, 12), 80, 4, 0.01).owner()[0].unflatten(0, (12, 12))
    left, right, noise = (set(owner[:, part : part + 4].flatten().tolist()) for part in (0, 4, 8))
    assert not left & right
    assert len(left) + len(right) < len(noise)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_blank_images_have_regions(value):
    x = torch.full((2, 35, 4), value)
    token_map = merged(x, Grid(5, 7), 12, 3, 0.01)
    assert (token_map.sizes >= 1).all()
    assert token_map.sizes.sum(1).tolist() == [35, 35]
    assert torch.allclose(token_map.down(x), x[:, :12])


def test_tokens_off_the_lattice_are_refused():
    x = torch.randn(1, 12, 4)
    with pytest.raises(ValueError, match="took them off it"):
        Merging(Regions())(x, x, None)


@pytest.mark.parametrize("index", [torch.randint(9, (2, 7, 1)), torch.randint(9, (2, 7, 3))])
def test_the_mass_of_reduced_tokens_is_what_is_read_of_them(index):
    weight = torch.rand(index.shape) if index.shape[2] > 1 else None
    got = TokenMap(index, weight, 9).mass()
    for image in range(2):
        weights = torch.ones(7, 1) if weight is None else weight[image]
        assert torch.allclose(got[image].double(), reference.mass(index[image], weights, 9), atol=1e-6)


@pytest.mark.parametrize("n", [30, 32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bias_is_added_to_the_logits(n, dtype):
    q, k, v = torch.randn(3, 2, 4, n, 8, dtype=dtype).unbind(0)
    bias = torch.rand(2, 1, 1, n) * 4
    logits = (q.float() @ k.float().mT) * 8**-0.5 + bias
    assert (attention(q, k, v, bias) - logits.softmax(3) @ v.float()).abs().max() < (
        1e-5 if dtype.itemsize == 4 else 0.1
    )


@torch.inference_mode()
def test_a_region_counts_for_all_of_its_tokens():
    """An image of tiles: regions of equal tokens, weighted by their number, are the dense network."""
    model = Segmenter(classes=5, head_layers=1, image_size=(48, 64), patch=8, width=32, depth=3, heads=4).eval()
    model.encoder.pos_embed.data[:, 1:] = 0
    for parameter in model.encoder.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.encoder.pos_embed.data[:, 1:] = 0
    colours = torch.randn(4, 3)
    tiles = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0] * 6).reshape(6, 8)
    image = colours[tiles].permute(2, 0, 1)[None].repeat_interleave(8, 2).repeat_interleave(8, 3)
    want = model(image)
    for restore in ("delta", "features"):
        fast = accelerate(model, Regions(keep=0.5, rounds=6, spatial=0.0, restore=restore))
        assert torch.allclose(fast(image), want, atol=1e-4)


@pytest.mark.slow
@torch.inference_mode()
def test_a_pretrained_network_sees_the_same_classes(shared):
    """DINOv2-small and its linear head on four pictures of CamVid at two thirds of the multiply-adds."""
    transformers, weights = pytest.importorskip("transformers"), shared / "weights" / "dinov2-small"
    model = transformers.Dinov2Model.from_pretrained(weights, dtype="float32").eval()
    head = load_file(weights / "camvid_linear_392x504.safetensors")
    lines = (shared / "data" / "camvid" / "train.txt").read_text().split("\n")[:360:90]
    methods = {"regions(keep=0.72)": 0.97, "shrink(scale=0.89) + regions(keep=0.7125)": 0.89, "regions(keep=1.0)": 1.0}
    same = dict.fromkeys(methods, 0.0)
    for line in lines:
        picture = Image.open(shared / "data" / "camvid" / line.split()[0]).convert("RGB").resize((504, 392))
        pixels = torch.from_numpy(np.array(picture, np.float32) / 255).permute(2, 0, 1)[None]
        pixels = (pixels - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / 0.226
        want, *got = (
            (network(pixels).last_hidden_state[:, 1:] @ head["weight"].float().T + head["bias"].float()).argmax(2)
            for network in (model, *(accelerate(model, method) for method in methods))
        )
        for method, labels in zip(methods, got, strict=True):
            same[method] += float((labels == want).float().mean()) / len(lines)
    assert all(same[method] >= least for method, least in methods.items()), same
