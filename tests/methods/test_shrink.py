import pytest
import torch
from torch.nn import functional as F

import reference
from expedit import Expedit, Regions, Shrink, accelerate
from expedit.core import Grid
from expedit.core.resize import bilinear, shrunk
from expedit.cost.macs import cost
from expedit.cost.trace import token_clusters, trace
from expedit.models import Segmenter, ViT
from expedit.spec import parse
from families import inputs, network, tensors

SIZES = {"image_size": (48, 64), "patch": 8, "width": 32, "depth": 3, "heads": 4}


def segmenter():
    torch.manual_seed(1)
    return Segmenter(classes=5, head_layers=1, **SIZES).eval()


@pytest.mark.parametrize("size", [(48, 64), (41, 67), (96, 40)])
@pytest.mark.parametrize("scale", [0.5, 0.8])
@torch.inference_mode()
def test_the_network_sees_the_smaller_image_and_its_features_are_interpolated(size, scale):
    model, image = ViT(**SIZES).eval(), torch.randn(2, 3, *size)
    padded = F.pad(image, (0, -size[1] % 8, 0, -size[0] % 8))
    h, w = padded.shape[2] // 8, padded.shape[3] // 8
    small = reference.smaller((h, w), scale)
    resized = F.interpolate(padded, [8 * side for side in small], mode="bilinear", antialias=True)
    want = F.interpolate(model(resized), (h, w), mode="bilinear")
    assert torch.allclose(accelerate(model, Shrink(scale))(image), want, atol=1e-4)


@torch.inference_mode()
def test_the_head_of_a_segmenter_runs_on_the_smaller_lattice():
    model, image = segmenter(), torch.randn(1, 3, 48, 64)
    seen = []
    fast = accelerate(model, Shrink(0.5))
    fast.decoder.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[1]))
    assert fast(image).shape == model(image).shape
    assert seen == [3 * 4]


def test_shares_count_the_tokens_that_arrive():
    image = torch.randn(1, 3, 48, 64)
    assert trace(accelerate(segmenter(), "shrink(scale=0.5) + regions(keep=0.5)"), image).tokens == [1 + 6] * 6
    clusters = token_clusters(accelerate(segmenter(), "shrink(scale=0.5) + regions(keep=0.5)"), image)
    assert clusters.shape == (3, 4)
    assert token_clusters(accelerate(segmenter(), "shrink(scale=0.5)"), image).tolist() == [
        [4 * row + column for column in range(4)] for row in range(3)
    ]
    assert token_clusters(segmenter(), image) is None


def test_multiply_adds_are_those_of_the_smaller_image():
    model = segmenter()
    for method in (None, Expedit(alpha=1, grid=0.7, top_k=4), Regions(keep=0.5)):
        whole = Shrink(0.5) if method is None else Shrink(0.5) + method
        got, want = cost(model, whole, (48, 64)), cost(model, method, (24, 32))
        assert got.true_macs == pytest.approx(want.true_macs, rel=0.02)
        assert got.published_macs == want.published_macs
        assert got.tokens == want.tokens


def test_a_sum_is_written_as_it_is_read():
    method = Shrink(0.8) + Regions(keep=0.7)
    assert repr(method) == "shrink(scale=0.8) + regions(alpha=0, keep=0.7)"
    assert parse(repr(method)) == method
    assert parse("Shrink+ACT").static is False


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("regions + shrink", "expected the smaller image before the plus"),
        ("shrink + shrink", "reduces tokens after the plus"),
        ("shrink + regions + tome", "expected a name with settings"),
        ("shrink + 1", "expected a name with settings"),
        ("shrink(scale=1.5)", r"expected a number in \(0, 1\]"),
        ("shrink - regions", "expected a name with settings"),
    ],
)
def test_sums_that_mean_nothing_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        parse(spec)


@pytest.mark.parametrize("name", ["dinov2", "dinov3", "clip", "sapiens2-backbone", "vit", "siglip", "pixio"])
@torch.inference_mode()
def test_tokens_of_a_library_s_network_are_those_of_the_smaller_image_interpolated(name):
    """The prefix to the last digit, the others before the last norm, which does not commute with interpolation."""
    model, given = network(name), inputs(name, batch=2)
    fast = accelerate(model, "shrink(scale=0.6)")
    patch = fast.config.patch_size
    smaller = {"pixel_values": shrunk(given["pixel_values"], Grid(patch, patch), 0.6)}
    if name in ("vit", "clip", "siglip"):
        smaller["interpolate_pos_encoding"] = True
    got, want, whole = tensors(fast(**given)), tensors(model(**smaller)), tensors(model(**given))
    assert {key: value.shape for key, value in got.items()} == {key: value.shape for key, value in whole.items()}
    if "pooler_output" in got and name != "siglip":
        assert torch.allclose(got["pooler_output"], want["pooler_output"], atol=1e-5)


@pytest.mark.parametrize("name", ["sam", "beit", "eomt", "oneformer", "vitpose"])
def test_networks_that_cannot_see_a_smaller_image_say_why(name):
    with pytest.raises(ValueError, match="smaller image"):
        accelerate(network(name), "shrink(scale=0.8)")


def test_the_way_back_is_torch_s_interpolation():
    x = torch.randn(2, 20, 3)
    want = F.interpolate(x.transpose(1, 2).unflatten(2, (4, 5)), size=(8, 11), mode="bilinear")
    assert torch.allclose(bilinear(Grid(8, 11), Grid(4, 5), x).up(x), want.flatten(2).mT, atol=1e-6)
