"""Cuts that fit a network and one another, and those that do not."""

import pytest
from torch import nn

from expedit.core import LOGITS, Anatomy, Around, Attend, Plan, Span, attn, mlp
from expedit.methods.evit import Attentive, EViT
from expedit.methods.pool import Averages

NET = Anatomy(depth=3, prefix=1, heads=4, head_dim=8)
POOL = Averages((2, 2))


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
