"""Networks whose output is no number."""

import numpy as np
import pytest
import torch

import expedit
from expedit.models import Segmenter

SIZES = {"image_size": (32, 32), "patch": 8, "width": 16, "depth": 2, "heads": 2, "head_layers": 1}


def broken(value, layer):
    model = Segmenter(classes=3, **SIZES).eval()
    with torch.no_grad():
        model.get_parameter(layer)[0] = value
    return model


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("encoder.blocks.1.mlp.fc1.bias", "Linear encoder.blocks.1.mlp.fc1"),
        ("encoder.norm.weight", "LayerNorm encoder.norm"),
        ("decoder.mask_norm.bias", "LayerNorm decoder.mask_norm"),
    ],
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_first_layer_that_is_not_finite_is_named(layer, said, value):
    with pytest.raises(
        ValueError, match=rf"not finite in fp32 \(nan or infinity\), first in {said}; check the weights"
    ):
        expedit.predict(broken(value, layer), np.zeros((32, 32, 3), np.uint8))


def test_what_overflows_in_half_precision_is_told_to_use_fp32():
    model = broken(60000.0, "encoder.blocks.0.mlp.fc2.bias")
    with torch.no_grad():
        model.encoder.blocks[1].mlp.fc2.bias[0] = 60000.0
    image = np.zeros((32, 32, 3), np.uint8)
    assert expedit.predict(model, image).labels.shape == (32, 32)
    with pytest.raises(ValueError, match=r"not finite in fp16 .*use fp32, whose range is larger, or bf16"):
        expedit.predict(model.half(), image)
