from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

import expedit
from expedit import EViT, Expedit, Pool, accelerate
from expedit.core import (
    LOGITS,
    Anatomy,
    Around,
    Attend,
    Grid,
    Plan,
    Span,
    Step,
    Stream,
    TokenMap,
    attn,
    drive,
    mlp,
    without_guide,
)
from expedit.data.toy import Toy
from expedit.methods.evit import Attentive
from expedit.methods.pool import Averages
from expedit.models import Segmenter, ViT
from expedit.prepare import prepared
from expedit.surgery import optimized

SIZES = {"image_size": (48, 64), "patch": 8, "width": 32, "depth": 3, "heads": 4}
NET = Anatomy(depth=3, prefix=1, heads=4, head_dim=8)
POOL = Averages((2, 2))


def test_a_spec_string_and_a_method_do_the_same():
    model, image = Segmenter(classes=4, **SIZES).eval(), torch.randn(1, 3, 48, 64)
    with torch.inference_mode():
        by_spec = accelerate(model, "expedit(alpha=1, grid=(3, 4), top_k=4)")(image)
        by_object = accelerate(model, Expedit(alpha=1, grid=(3, 4), top_k=4))(image)
    assert torch.equal(by_spec, by_object)


@pytest.mark.parametrize("dtype", ["bf16", torch.bfloat16])
def test_another_dtype_is_a_copy(dtype):
    model, image = Segmenter(classes=4, **SIZES).eval(), torch.randn(1, 3, 48, 64)
    fast = accelerate(model, Pool(alpha=1, grid=(3, 4)), dtype=dtype)
    assert {p.dtype for p in fast.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    with torch.inference_mode():
        want = accelerate(model, Pool(alpha=1, grid=(3, 4)))(image)
        assert (fast(image.bfloat16()).float() - want).abs().median() < 0.05
    same = accelerate(model, Pool(alpha=1, grid=(3, 4)), dtype=torch.float32)
    assert same.encoder.cls_token is model.encoder.cls_token


@pytest.mark.parametrize("spec", [None, "expedit(alpha=6, grid=(20, 20))", "expedit(alpha=2, grid=(16, 16))"])
@torch.inference_mode()
def test_bf16_hardly_moves_the_logits_of_a_trained_network(spec):
    model, data = expedit.load("segmenter-mini"), Toy("val", 3)
    half = accelerate(model, spec, dtype="bf16") if spec else optimized(model, dtype="bf16")
    full = accelerate(model, spec) if spec else model
    for index in range(3):
        [pixels] = prepared(data[index].image, model.card)
        logits, want = half(pixels.bfloat16()).float(), full(pixels)
        assert (logits - want).norm() <= 0.02 * want.norm()


def test_a_dtype_that_does_not_exist():
    with pytest.raises(ValueError, match="dtype: expected one of fp32, bf16, fp16 or a torch dtype, got 'int8'"):
        accelerate(Segmenter(classes=4, **SIZES), Pool(alpha=1, grid=(3, 4)), dtype="int8")


def test_compiling_is_for_static_shapes(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda call, **how: asked.append(how) or call)
    accelerate(Segmenter(classes=4, **SIZES), Pool(alpha=1, grid=(3, 4)), compile=True)
    assert asked == [{"dynamic": False}]


@pytest.mark.slow
def test_compiled_once_for_all_images_of_a_size():
    model = Segmenter(classes=4, **SIZES).eval()
    spec = "expedit(alpha=1, grid=(3, 4), top_k=12)"  # all: on noise centres are so alike that a top-k is a toss-up
    fast, eager = accelerate(model, spec, compile=True), accelerate(model, spec)
    with torch.inference_mode():
        fast(torch.randn(1, 3, 48, 64))
        with torch._dynamo.config.patch(error_on_recompile=True):
            image = torch.randn(1, 3, 48, 64)
            assert torch.allclose(fast(image), eager(image), atol=1e-4)
    assert type(fast) is Segmenter
    assert model._compiled_call_impl is None


def test_the_backbone_is_found_inside_any_module():
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = ViT(**SIZES)
            self.head = nn.Conv2d(32, 2, 1)

        def forward(self, image):
            return self.head(self.backbone(image))

    model, image = Wrapper().eval(), torch.randn(1, 3, 48, 64)
    with torch.inference_mode():
        fast = accelerate(model, Pool(alpha=1, grid=(3, 4)))
        assert fast(image).shape == model(image).shape
        assert not torch.equal(fast(image), model(image))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Expedit(alpha=3), "alpha: expected an integer in 0..2, got 3"),
        (EViT(layers=(1, 7)), "layers: expected an integer in 0..2, got 7"),
        (Pool(alpha=4), "alpha"),
    ],
)
def test_settings_that_do_not_fit_the_network(method, message):
    with pytest.raises(ValueError, match=message):
        accelerate(ViT(**SIZES), method)


@pytest.mark.parametrize("method", [Expedit(alpha=1, grid=(7, 8)), Pool(alpha=1, grid=(6, 9))])
def test_a_grid_larger_than_the_token_map(method):
    fast = accelerate(ViT(**SIZES), method)
    with pytest.raises(ValueError, match=r"larger than the token map \(6, 8\)"):
        fast(torch.randn(1, 3, 48, 64))
    with torch.inference_mode():
        assert fast(torch.randn(1, 3, 80, 80)).shape == (1, 32, 10, 10)


@pytest.mark.parametrize("method", [Expedit(alpha=1, grid=(5, 6)), Pool(alpha=1, grid=(5, 6))])
def test_an_image_smaller_than_the_grid_keeps_its_tokens_along_that_axis(method):
    fast = accelerate(ViT(**SIZES), method)
    lengths = []
    fast.blocks[2].attn.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    with torch.inference_mode():
        assert fast(torch.randn(1, 3, 16, 96)).shape == (1, 32, 2, 12)
        assert fast(torch.randn(1, 3, 8, 8)).shape == (1, 32, 1, 1)
    assert lengths == [1 + 2 * 6, 1 + 1]


def test_models_without_a_backbone_and_twice_accelerated_ones():
    with pytest.raises(ValueError, match=r"expected a supported backbone \(.*SwinModel.*\) in Linear, got none"):
        accelerate(nn.Linear(2, 2), Pool())
    fast = accelerate(ViT(**SIZES), Pool(alpha=1, grid=(3, 4)))
    with pytest.raises(ValueError, match="accelerated already"):
        accelerate(fast, Pool(alpha=1, grid=(3, 4)))


@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        ([Span(POOL, 6, LOGITS)], "position in 0..5"),
        ([Span(POOL, 2, 2)], "start < stop"),
        ([Span(POOL, 1, 4), Span(POOL, 2, 5)], "does not nest"),
        ([Span(POOL, 1, 4), Span(POOL, 1, 5)], "cut twice"),
        ([Around(POOL, 1), Around(POOL, 1)], "cut twice"),
        ([Attend(nn.Identity(), mlp(1))], "expected an attention step"),
        ([Span(Attentive(EViT()), attn(1), LOGITS)], "right after an attention"),
        ([Span(Attentive(EViT()), mlp(1), LOGITS), Around(POOL, attn(1))], "no other cut wraps"),
        ([Around(Attentive(EViT()), mlp(1))], "around a branch it only sees tokens"),
    ],
)
def test_cuts_that_do_not_fit_one_another(cuts, message):
    with pytest.raises(ValueError, match=message):
        Plan.of(cuts, NET)


def test_a_guide_the_network_does_not_have():
    plain = Anatomy(depth=3, prefix=0, heads=4, head_dim=8, guides=frozenset(("tokens", "keys")))
    with pytest.raises(ValueError, match="needs 'cls_attention'"):
        Plan.of([Span(Attentive(EViT()), mlp(1), LOGITS)], plain)


def test_spans_inside_one_another_and_one_after_the_other():
    plan = Plan.of([Span(POOL, 0, 2), Span(POOL, 2, 5), Span(POOL, 3, 4)], NET)
    assert sorted(plan.spans) == [0, 2, 3]


def test_one_of_several_backbones():
    method = Pool(alpha=1, grid=(3, 4))
    both = nn.ModuleDict({"near": ViT(**SIZES), "far": ViT(**SIZES)})
    with pytest.raises(ValueError, match="several backbones: give one of 'near', 'far' as where="):
        accelerate(both, method)
    with pytest.raises(ValueError, match="in ModuleDict at 'here', got none"):
        accelerate(both, method, where="here")
    fast = accelerate(both, method, where="far")
    assert fast["far"].plan.spans
    assert not fast["near"].plan.spans


def test_a_subclass_of_a_backbone_is_one():
    class Mine(ViT):
        pass

    assert type(accelerate(Mine(**SIZES), Pool(alpha=1, grid=(3, 4)))) is Mine


class Positions(NamedTuple):
    """A companion of tokens that is averaged like them."""

    place: torch.Tensor

    def down(self, token_map, grid):
        return Positions(token_map.down(self.place))


@pytest.mark.parametrize("position", [1, 2])
def test_companions_reach_branches_inside_a_span(position):
    """The branch sees those of the tokens it is given, and the span gives the others back."""
    seen = []

    def branch(y, context):
        seen.append(context)
        return torch.zeros_like(y), None

    x, place = torch.randn(2, 1 + 48, 5), torch.randn(2, 48, 3)
    plan = Plan.of([Span(POOL, position, 3)], NET)
    stream, _ = drive([Step(nn.Identity(), branch)] * 4, Stream(x, 1, Grid(6, 8), {"at": Positions(place)}), plan)
    _, token_map = POOL(place, place, Grid(6, 8))
    for step, context in enumerate(seen):
        inside = position <= step < 3
        assert context.grid == (Grid(2, 2) if inside else Grid(6, 8))
        assert torch.equal(context.side["at"].place, token_map.down(place) if inside else place)
    assert torch.equal(stream.side["at"].place, place)


def test_companions_reach_attentions_that_are_cut_around():
    seen = []

    def branch(y, context):
        seen.append(context)
        return torch.zeros_like(y), None

    x, place = torch.randn(2, 1 + 48, 5), torch.randn(2, 48, 3)
    plan = Plan.of([Around(POOL, 0)], NET)
    drive([Step(nn.Identity(), branch)] * 2, Stream(x, 1, Grid(6, 8), {"at": Positions(place)}), plan)
    assert [len(context.side["at"].place[0]) for context in seen] == [4, 48]
    assert [context.grid for context in seen] == [Grid(2, 2), Grid(6, 8)]


def test_a_difference_is_read_back():
    """With delta what the span did not change stays, to the digit."""

    def branch(y, context):
        return torch.full_like(y, 0.5), None

    x = torch.randn(2, 1 + 48, 5)
    for delta in (True, False):
        plan = Plan.of([Span(POOL, 1, 3, delta)], NET)
        stream, _ = drive([Step(nn.Identity(), branch)] * 4, Stream(x, 1, Grid(6, 8)), plan)
        assert torch.allclose(stream.x, x + 2, atol=1e-5) == delta
    with pytest.raises(ValueError, match="a difference is read back on the residual stream"):
        Plan.of([Span(POOL, 1, LOGITS, True)], NET)


@dataclass(frozen=True)
class Twins:
    """Reducer: tokens 2 i and 2 i + 1 become one that stands for both."""

    guide = "tokens"

    def __call__(self, x, guide, grid):
        b, n = x.shape[:2]
        index = (torch.arange(n) // 2).expand(b, n)[:, :, None]
        return x[:, ::2], TokenMap(index, None, n // 2, None, torch.full((b, n // 2), 2.0))


@pytest.mark.parametrize(
    "cuts", [[Span(Twins(), 0, 6)], [Span(Twins(), 0, 6), Span(Twins(), 2, 4)], [Around(Twins(), 2)]]
)
@torch.inference_mode()
def test_a_token_that_stands_for_equal_ones_is_attended_to_like_all_of_them(cuts):
    vit = ViT(**SIZES).eval()
    tokens = torch.randn(2, 12, 1, 32).expand(-1, -1, 4, -1).flatten(1, 2)
    stream = Stream(torch.cat((torch.randn(2, 1, 32), tokens), 1), 1, Grid(6, 8))
    want, _ = drive(vit.steps(), stream, Plan())
    got, _ = drive(vit.steps(), stream, Plan.of(cuts, NET))
    assert torch.allclose(got.restored(LOGITS).x, want.x, atol=1e-5)


def test_companions_travel_with_the_tokens():
    seen = []
    step = Step(nn.Identity(), without_guide(torch.zeros_like))

    class Spy(Averages):
        def __call__(self, x, guide, grid):
            small, token_map = super().__call__(x, guide, grid)
            seen.append(token_map)
            return small, token_map

    x, side = torch.randn(2, 1 + 48, 5), torch.randn(2, 48, 3)
    plan = Plan.of([Span(Spy((3, 4)), 1, 3)], NET)
    stream, tapped = drive([step] * 4, Stream(x, 1, Grid(6, 8), {"rope": Positions(side)}), plan, frozenset((1, 2, 4)))
    assert stream.grid == Grid(6, 8)
    assert torch.equal(stream.side["rope"].place, side)
    assert torch.equal(tapped[1].x, x)
    small = seen[0].down(side)
    assert small.shape == (2, 12, 3)
    assert tapped[2].x.shape == x.shape


def test_a_model_without_a_card_is_told_so():
    bare = accelerate(ViT(**SIZES), Pool(alpha=1, grid=(3, 4)))
    with pytest.raises(ValueError, match="ViT has no card, which says what its classes are"):
        expedit.predict(bare, np.zeros((48, 64, 3), np.uint8))
