"""Deformable attention in one read against the library's samples level by level."""

import pytest
import torch

pytest.importorskip("transformers")
from transformers.models.mask2former import modeling_mask2former as library

from expedit.checkpoints.mask2former import protocol
from expedit.models.deformable import REPLACED, DeformableAttention, sample
from expedit.models.mask2former import Mask2Former
from small_mask2former import small_architecture

SIZES = [(3, 5), (6, 10), (12, 19)]
LENGTH = sum(h * w for h, w in SIZES)


def pair(spread):
    """The library's module, whose places lie up to some pixels outside of the maps, and ours around it."""
    torch.manual_seed(0)
    module = getattr(library, f"Mask2FormerPixelDecoderEncoder{REPLACED}")
    theirs = module(embed_dim=32, num_heads=4, n_levels=3, n_points=4).eval()
    torch.nn.init.normal_(theirs.sampling_offsets.bias, std=spread)
    return theirs, DeformableAttention(theirs)


def inputs(masked=False):
    x = torch.randn(2, LENGTH, 32)
    mask = torch.zeros(2, LENGTH, dtype=torch.bool)
    mask[1, ::3] = masked
    return {
        "hidden_states": x,
        "encoder_hidden_states": x,
        "position_embeddings": torch.randn(2, LENGTH, 32),
        "reference_points": torch.rand(2, LENGTH, 3, 2),
        "spatial_shapes_list": SIZES,
        "attention_mask": mask if masked else None,
    }


@pytest.mark.parametrize("spread", [0.0, 2.0, 30.0])
@pytest.mark.parametrize("masked", [False, True])
@torch.inference_mode()
def test_equals_the_library(spread, masked):
    theirs, ours = pair(spread)
    given = inputs(masked)
    for mine, want in zip(ours(**given), theirs(**given), strict=True):
        torch.testing.assert_close(mine, want, rtol=1e-4, atol=2e-6)
    assert ours.state_dict().keys() == theirs.state_dict().keys()


@torch.inference_mode()
def test_places_stay_exact_in_half_precision():
    """Beyond 256 pixels bf16 has no odd places; values are bf16, places are not."""
    value = torch.randn(1, 300, 1, 4).bfloat16()
    places = torch.tensor([257.0, 0.0]).view(1, 1, 1, 1, 1, 2)
    read = sample(value, places, torch.ones(1, 1, 1, 1, 1).bfloat16(), [(1, 300)])
    assert torch.equal(read[0, 0], value[0, 257, 0])
    _, ours = pair(1.0)
    given = inputs()
    exact, _ = ours(**given)
    half = {name: x.bfloat16() if torch.is_tensor(x) else x for name, x in given.items()}
    assert (ours.bfloat16()(**half)[0] - exact).abs().max() <= 0.05 * exact.abs().max()


@torch.inference_mode()
def test_wild_places_read_nothing_and_stay_inside_the_memory():
    value, weights = torch.ones(1, 6, 2, 3), torch.ones(1, 1, 2, 1, 1)
    for wild in (-1e30, 1e30, -1.0, 3.0):
        assert not sample(value, torch.full((1, 1, 2, 1, 1, 2), wild), weights, [(2, 3)]).any()
    for broken in (float("nan"), float("inf")):
        assert sample(value, torch.full((1, 1, 2, 1, 1, 2), broken), weights, [(2, 3)]).isnan().all()


@torch.inference_mode()
def test_is_one_graph():
    _, ours = pair(2.0)
    given = inputs()
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(**given)[0], ours(**given)[0])


def test_mask2former_uses_it_and_keeps_its_weights():
    architecture = small_architecture()
    card = protocol("semantic", (64, 64), tuple("abcde"))
    model = Mask2Former(architecture, card)
    kinds = {type(module).__name__ for module in model.modules()}
    assert "DeformableAttention" in kinds
    assert not any(kind.endswith(REPLACED) for kind in kinds)
    plain = library.Mask2FormerForUniversalSegmentation(architecture.config())
    assert model.network.state_dict().keys() == plain.state_dict().keys()
