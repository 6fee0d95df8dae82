import pytest
import torch
from torch import nn

import expedit
from expedit import EViT, Expedit, Pool, accelerate
from expedit.core import (
    Anatomy,
)
from expedit.data.toy import Toy
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


@pytest.mark.parametrize("spec", [None, "expedit(alpha=2, grid=(16, 16))"])
@torch.inference_mode()
def test_bf16_hardly_moves_the_logits_of_a_trained_network(spec):
    model = expedit.load("segmenter-mini")
    half = accelerate(model, spec, dtype="bf16") if spec else optimized(model, dtype="bf16")
    full = accelerate(model, spec) if spec else model
    [pixels] = prepared(Toy("val", 1)[0].image, model.card)
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
