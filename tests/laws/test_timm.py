"""Laws over timm's networks. timm needs torchvision, whose operators need not load: `make timm` runs these."""

from importlib.util import find_spec

import pytest
import torch

if find_spec("timm") is None:
    pytest.skip("timm is not installed; `make timm` installs it apart and runs these", allow_module_level=True)

OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
for operator in ("nms", "qnms"):  # what a torchvision without its compiled operators misses on import
    if not torch._C._jit_get_schemas_for_operator(f"torchvision::{operator}"):
        OPERATORS.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402

from expedit import accelerate  # noqa: E402
from expedit.core import LOGITS, Plan, Span, attention, attn  # noqa: E402
from laws.test_families import Halved, Shuffled, with_plan  # noqa: E402

SMALL = {"depth": 4, "num_classes": 0, "img_size": 112, "embed_dim": 48, "num_heads": 3}
NETWORKS = {
    "dinov2": ("vit_small_patch14_dinov2", SMALL, (112, 112)),
    "dinov2-registers": ("vit_small_patch14_reg4_dinov2", SMALL | {"dynamic_img_size": True}, (112, 224)),
    "augreg": ("vit_small_patch16_224", SMALL, (112, 112)),
    "siglip": ("vit_base_patch16_siglip_224", SMALL, (112, 112)),
    "eva02": ("eva02_small_patch14_224", SMALL, (112, 112)),
    "dinov3": ("vit_small_patch16_dinov3", {"depth": 4, "num_classes": 0, "embed_dim": 48, "num_heads": 3}, (112, 224)),
}
WHOLE_ATTENTION = ("eva02",)
"""Whose attention is more than queries, keys and values."""

every_network = pytest.mark.parametrize("name", NETWORKS)


def network(name):
    torch.manual_seed(0)
    kind, settings, _ = NETWORKS[name]
    made = timm.create_model(kind, **settings).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


def pixels(name, batch=2):
    return torch.randn(batch, 3, *NETWORKS[name][2], generator=torch.Generator().manual_seed(1))


def outputs(model, x):
    with torch.inference_mode():
        maps = model.forward_intermediates(x, indices=[1, 3], intermediates_only=True)
        return [model.forward_features(x), *maps]


def farthest(got, want):
    assert [value.shape for value in got] == [value.shape for value in want]
    return max(float((mine - theirs).abs().max() / theirs.abs().max()) for mine, theirs in zip(got, want, strict=True))


@every_network
def test_no_cuts_is_the_untouched_network(name):
    model = network(name)
    twin = with_plan(model, Plan())
    assert list(twin.state_dict()) == list(model.state_dict())
    assert farthest(outputs(twin, pixels(name)), outputs(model, pixels(name))) == 0


@every_network
def test_the_order_of_tokens_does_not_matter(name):
    model = network(name)
    twin = with_plan(model, Plan({attn(1): Span(Shuffled(), attn(1), LOGITS)}), taps=(1,))
    assert farthest(outputs(twin, pixels(name)), outputs(model, pixels(name))) < 2e-5


@every_network
def test_our_queries_keys_and_values_are_timm_s_or_refused(name):
    model = network(name)
    plan = Plan(attend={attn(block): lambda *qkv: attention(*qkv) for block in range(4)})
    if name in WHOLE_ATTENTION:
        with pytest.raises(ValueError, match="more than queries, keys and values"):
            outputs(with_plan(model, plan), pixels(name))
        return
    assert farthest(outputs(with_plan(model, plan), pixels(name)), outputs(model, pixels(name))) < 1e-6


@every_network
def test_taps_are_full_size(name):
    model = network(name)
    fast = accelerate(model, "expedit(alpha=1, grid=(4, 4), normalize='l1', top_k=4)", taps=(1, 3))
    want, got = outputs(model, pixels(name)), outputs(fast, pixels(name))
    assert [value.shape for value in got] == [value.shape for value in want]
    with torch.inference_mode():
        assert torch.allclose(fast.forward_features(pixels(name)[1:]), got[0][1:], atol=1e-4)


def test_token_sizes_reach_the_attention():
    model = network("augreg")
    plans = (Plan({attn(1): Span(Halved(sized), attn(1), LOGITS)}) for sized in (True, False))
    with torch.inference_mode():
        sized, unsized = (with_plan(model, plan).forward_features(pixels("augreg")) for plan in plans)
    assert (sized - unsized).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["dinov2", "dinov3"])
def test_one_graph(name):
    torch._dynamo.reset()
    fast = accelerate(network(name), "expedit(alpha=1, grid=(4, 4), normalize='l1', top_k=4)")
    with torch.no_grad():
        got = torch.compile(fast, fullgraph=True, dynamic=False, backend="aot_eager")(pixels(name))
        assert torch.allclose(got, fast(pixels(name)), atol=1e-5)


def test_taps_that_do_not_exist():
    with pytest.raises(ValueError, match=r"taps: expected blocks in 0\.\.3, got 4"):
        accelerate(network("augreg"), "pool(alpha=1, grid=(3, 3))", taps=(1, 4))
