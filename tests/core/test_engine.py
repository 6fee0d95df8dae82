"""What the engine hands to branches and gives back after a cut."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import nn

from expedit.core import LOGITS, Anatomy, Around, Grid, Plan, Span, Step, Stream, TokenMap, drive, without_guide
from expedit.methods.algm import Matched
from expedit.methods.pool import Averages
from expedit.models import ViT

NET = Anatomy(depth=3, prefix=1, heads=4, head_dim=8)
POOL = Averages((2, 2))


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
    vit = ViT(image_size=(48, 64), patch=8, width=32, depth=3, heads=4).eval()
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


def test_a_token_that_stands_for_several_counts_as_often_in_a_mean():
    """Two merges one inside the other leave the means of the tokens that there were at first."""
    still = Step(nn.Identity(), without_guide(torch.zeros_like))
    x = torch.randn(2, 24, 5)
    plan = Plan.of([Span(Matched(0.4, True), start, LOGITS, by_size=True) for start in (1, 3)], NET)
    stream, _ = drive([still] * 4, Stream(x, 0, Grid(4, 6)), plan)
    outer, inner = (opened.map.index[:, :, 0] for opened in stream.opened)
    for image, owner in enumerate(inner.gather(1, outer)):
        for group, token in enumerate(stream.x[image]):
            assert torch.allclose(token, x[image, owner == group].mean(0), atol=1e-5)
    assert stream.side["sizes"].tokens.sum(1).tolist() == [24, 24]
