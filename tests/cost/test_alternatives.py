"""What one could take instead runs in the same rounds, with the agreement beside its time."""

import pytest
import torch

from expedit.cost.alternatives import agreement, parse_against
from expedit.cost.benchmark import count, measure
from expedit.models import Segmenter
from expedit.spec import parse


def test_alternatives_are_contestants_of_the_same_run():
    torch.manual_seed(0)
    model = Segmenter(classes=3, image_size=(48, 48), patch=8, width=16, depth=2, heads=2, head_layers=None).eval()
    method = parse("pool(alpha=1, grid=(4, 4))")
    counted = count(model, [method], (48, 48))
    timed = measure(model, [method], counted, torch.randn(2, 3, 48, 48), rounds=1, against=("size=32", "bf16"))
    rows = {row.spec: row for row in timed}
    assert list(rows) == ["dense", repr(method), "dense, size=32", "dense, bf16", f"{method!r}, bf16"]
    assert rows["dense"].agreement == 1
    assert rows["dense, size=32"].mac_ratio > 2
    assert rows["dense, size=32"].agreement < 1
    assert rows["dense, bf16"].agreement > 0.9
    assert not rows["dense, bf16"].parts_ms
    assert rows[repr(method)].parts_ms["reduce"] > 0


def test_only_classes_of_pixels_agree():
    logits = torch.eye(3)[None, :, :, None].expand(1, 3, 3, 2)
    assert agreement(logits, logits) == 1
    assert agreement(logits.flip(1), logits) == pytest.approx(1 / 3)
    assert agreement((logits,), (logits,)) is None


def test_what_is_no_alternative_is_refused():
    assert parse_against("size=512, onnx") == ("size=512", "onnx")
    for wrong in ("size", "size=0", "tensorrt", ""):
        with pytest.raises(ValueError, match=r"--against: expected some of size=N, bf16"):
            parse_against(wrong)
