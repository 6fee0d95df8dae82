"""What a forward pass is made of."""

import pytest
import torch
from transformers import SwinBackbone, SwinConfig

from expedit import accelerate
from expedit.core import TokenMap
from expedit.cost.benchmark import count, measure
from expedit.cost.breakdown import PARTS, parts
from expedit.cost.macs import cost, flop_counter
from expedit.models import Segmenter, ViT
from expedit.spec import parse

SIZES = {"image_size": (48, 64), "patch": 8, "width": 32, "depth": 3, "heads": 4}


@pytest.mark.parametrize(
    ("spec", "reduced"),
    [
        (None, set()),
        ("expedit(alpha=1, grid=(3, 4), top_k=4)", {"reduce", "blocks after", "restore"}),
        ("tome(ratio=0.3)", {"reduce", "blocks after"}),
    ],
)
def test_the_parts_are_the_whole(spec, reduced):
    """Multiply-adds as the gauge: exact, so every one is booked once. Copying back has none."""
    model, image = Segmenter(classes=4, **SIZES).eval(), torch.randn(1, 3, 48, 64)
    want = cost(model, None if spec is None else parse(spec), (48, 64)).true_macs
    model = model if spec is None else accelerate(model, spec)
    with flop_counter() as counter:
        spent = parts(model, image, lambda: counter.get_total_flops() / 2)
    assert spent.keys() == set(PARTS)
    assert sum(spent.values()) == want
    assert spent["embed"] == 48 * 3 * 64 * 32
    assert spent["upsample"] == 0
    assert {part for part in ("reduce", "blocks after", "restore") if spent[part]} == reduced
    assert model.decoder._forward_hooks == {}, "nothing of it stays in the model"


def test_every_way_back_is_booked():
    """The clock only ticks inside ``TokenMap.up``: all of it is "restore", of merges around a branch as of spans."""
    model, ticks = Segmenter(classes=4, **SIZES).eval(), []
    for spec, ways in (("tome(ratio=0.3)", 6), ("pool(alpha=1, grid=(3, 4))", 1)):
        ticks.clear()
        with pytest.MonkeyPatch.context() as patch:
            up = TokenMap.up
            patch.setattr(TokenMap, "up", lambda self, y, up=up: (ticks.append(1), up(self, y))[1])
            spent = parts(accelerate(model, spec), torch.randn(1, 3, 48, 64), lambda: float(len(ticks)))
        assert spent["restore"] == sum(spent.values()) == ways


def swin():
    sizes = {"embed_dim": 16, "depths": [2, 1, 1, 1], "num_heads": [1, 2, 4, 8], "window_size": 6}
    return SwinBackbone(SwinConfig(**sizes, drop_path_rate=0.0, out_features=["stage1"]))


class Wrapped(torch.nn.Module):
    """A network of one's own around a plain backbone."""

    def __init__(self):
        super().__init__()
        self.trunk = ViT(**SIZES)
        self.head = torch.nn.Conv2d(32, 7, 1)

    def forward(self, image):
        return self.head(self.trunk(image))


@pytest.mark.parametrize(
    ("build", "spec", "embed", "head"),
    [
        (lambda: ViT(**SIZES), "pool(alpha=1, grid=(3, 4))", 48 * 3 * 64 * 32, 0),
        (Wrapped, "expedit(alpha=1, grid=(3, 4), top_k=4)", 48 * 3 * 64 * 32, 48 * 32 * 7),
        (swin, "pool(alpha=1, grid=(3, 3))", 12 * 16 * 3 * 16 * 16, 0),
    ],
)
def test_whatever_can_be_accelerated_is_counted_and_timed(build, spec, embed, head):
    """Embedding and head by hand: products of pixels with filters, of tokens with class weights."""
    model, method = build().eval(), parse(spec)
    size = (48, 64)
    counted = count(model, [method], size)
    assert counted[0].true_gmacs > counted[1].true_gmacs > 0
    assert counted[0].published_convention_gmacs is None
    timed = measure(model, [method], counted, torch.randn(1, 3, *size), rounds=1)
    assert [row.spec for row in timed] == ["dense", repr(method)]
    assert timed[1].parts_ms["reduce"] > 0
    with flop_counter() as counter:
        spent = parts(accelerate(model, method), torch.randn(1, 3, *size), lambda: counter.get_total_flops() / 2)
    assert sum(spent.values()) == pytest.approx(1e9 * counted[1].true_gmacs)
    assert (spent["embed"], spent["head"]) == (embed, head)
    assert spent["blocks before"] > 0
    assert spent["blocks after"] > 0
