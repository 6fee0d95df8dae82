"""Segmenter: positions of every grid, both heads, and state dicts that are not one."""

import re
from dataclasses import asdict

import pytest
import torch
from torch.nn import functional as F

import expedit
from expedit import Expedit, accelerate
from expedit.checkpoints import safetensors_format
from expedit.cost.macs import cost
from expedit.models import Segmenter
from expedit.models.segmenter import Numerics

GRIDS = [(4, 4), (9, 16), (16, 9), (3, 7), (1, 9), (2, 8), (45, 80)]
"""Rows and columns; 9 x 16, 1 x 9 and 2 x 8 have as many positions as a square."""


def small(grid=(4, 4), head_layers=1, **settings):
    torch.manual_seed(1)
    sizes = {"patch": 8, "width": 16, "depth": 2, "heads": 2, "head_layers": head_layers}
    model = Segmenter(classes=3, image_size=(8 * grid[0], 8 * grid[1]), **sizes, **settings).eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def same(model, again, *sizes):
    with torch.inference_mode():
        for h, w in sizes:
            image = torch.randn(1, 3, h, w)
            assert torch.equal(model(image), again(image)), (h, w)


@pytest.mark.parametrize("head_layers", [None, 1])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_our_files_hold_every_grid(tmp_path, grid, head_layers):
    numerics = Numerics(norm_eps=1e-5, head_norm_eps=1e-4, pos_embed="bilinear")
    model = small(grid, head_layers, numerics=numerics)
    safetensors_format.save(model, tmp_path / "m.safetensors")
    again = expedit.load(tmp_path / "m.safetensors")
    assert again.encoder.nominal == grid
    assert again.settings() == model.settings()
    assert (again.numerics, again.card) == (numerics, model.card)
    same(model, again, (8 * grid[0], 8 * grid[1]), (48, 40))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_state_dicts_of_every_grid(grid):
    model = small(grid)
    size = (8 * grid[0], 8 * grid[1])
    again = Segmenter.from_state_dict(model.state_dict(), num_heads=2, image_size=size)
    same(model, again, size)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (None, "each patch of 8 x 8 pixels in a square, got 21 positions; give the image_size"),
        ((24, 48), "in the 24 x 48 pixels of image_size, got 21 positions"),
        ((21, 64), "in the 21 x 64 pixels"),
        ((24, 56, 1), "image_size: expected two integers"),
        ((-24, -56), "image_size: expected two integers|expected an integer >= 1, got -24"),
    ],
)
def test_positions_that_do_not_make_up_the_size(given, complaint):
    with pytest.raises(ValueError, match=complaint):
        Segmenter.from_state_dict(small((3, 7)).state_dict(), image_size=given)


def test_the_linear_decoder_is_one_layer_on_every_token():
    model, image = small(head_layers=None), torch.randn(2, 3, 40, 24)
    with torch.inference_mode():
        tokens = model.encoder.encode(image)[0].tokens
        logits = tokens @ model.decoder.head.weight.T + model.decoder.head.bias
        want = F.interpolate(logits.transpose(1, 2).unflatten(2, (5, 3)), size=(40, 24), mode="bilinear")
        torch.testing.assert_close(model(image), want, atol=1e-6, rtol=0)
    assert [name for name in model.state_dict() if name.startswith("decoder.")] == [
        "decoder.head.weight",
        "decoder.head.bias",
    ]


def test_linear_logits_are_restored():
    """A linear head and a reconstruction, linear too, may change places."""
    model, image = small(head_layers=None), torch.randn(1, 3, 32, 32)
    settings = {"alpha": 1, "grid": (2, 2), "top_k": 4}
    features, logits = (
        accelerate(model, Expedit(**settings, restore=place, normalize="l1")) for place in ("features", "logits")
    )
    with torch.inference_mode():
        torch.testing.assert_close(features(image), logits(image), atol=1e-5, rtol=0)
        assert (logits(image) - model(image)).abs().max() > 1e-2


def test_true_macs_of_a_linear_decoder_by_hand():
    n, d = 17, 16
    block = n * 12 * d * d + 2 * n * n * d
    found = cost(small(head_layers=None), None, (32, 32))
    assert found.true_macs == 16 * 3 * 64 * d + 2 * block + 16 * d * 3
    assert found.published_macs is None


@pytest.mark.parametrize("name", ["encoder.dist_token", "encoder.head_dist.weight"])
@pytest.mark.parametrize("head_layers", [None, 1])
def test_a_distilled_network_is_refused_by_that_name(name, head_layers):
    state = {**small(head_layers=head_layers).state_dict(), name: torch.zeros(1, 1, 16)}
    with pytest.raises(ValueError, match=rf"distilled Segmenter \(DeiT, with {name}\)"):
        Segmenter.from_state_dict(state)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("encoder.pos_embed", torch.zeros(17, 16), "encoder.pos_embed: expected 3 axes"),
        ("encoder.patch_embed.proj.weight", torch.zeros(16), "proj.weight: expected 4 axes"),
        ("encoder.patch_embed.proj.weight", torch.zeros(16, 3, 0, 0), r"none of length 0, got \(16, 3, 0, 0\)"),
        ("encoder.blocks.0.mlp.fc1.weight", torch.zeros(()), "fc1.weight: expected 2 axes"),
        ("decoder.cls_emb", torch.zeros(1, 1 << 40, 0), "cls_emb: expected 3 axes, none of length 0"),
        ("encoder.patch_embed.proj.weight", torch.zeros(16, 3, 8, 4), r"proj.weight: expected \(16, 3, 8, 8\), got"),
        ("encoder.blocks.1.norm1.weight", torch.zeros(5), r"norm1.weight: expected \(16,\), got \(5,\)"),
    ],
)
def test_tensors_of_other_shapes(name, value, complaint):
    with pytest.raises(ValueError, match=complaint):
        Segmenter.from_state_dict({**small().state_dict(), name: value})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("num_heads", 0),
        ("num_heads", -2),
        ("num_heads", "2"),
        ("head_num_heads", 1.5),
        ("norm_eps", "tiny"),
        ("norm_eps", float("nan")),
        ("head_norm_eps", -1.0),
        ("pos_embed", "nearest"),
        ("pos_embed", ["bicubic"]),
        ("image_size", "32"),
    ],
)
def test_settings_are_checked_before_they_meet_an_image(setting, value):
    with pytest.raises(ValueError, match=f"^{re.escape(setting)}: expected"):
        Segmenter.from_state_dict(small().state_dict(), **{setting: value})


def test_defaults_are_those_of_the_published_tables():
    assert asdict(Segmenter.from_state_dict(small().state_dict()).numerics) == {
        "norm_eps": 1e-6,
        "head_norm_eps": 1e-5,
        "pos_embed": "bicubic",
    }
