import pytest
import torch

from expedit import EViT, EvoViT, PiToMe, ToMe, accelerate
from expedit.cost.trace import trace
from expedit.models import ViT


@pytest.mark.parametrize(
    ("method", "shown"),
    [
        (EViT(keep_rate=0.5, layers=(0, 1)), (10, 6)),
        (EvoViT(keep_rate=0.5, layers=(0, 1)), (10,)),
        (PiToMe(keep=0.7), (13, 10)),
        (ToMe(ratio=0.3), (13,)),
    ],
)
def test_clusters_are_those_of_the_cuts_at_work_at_the_last_one(method, shown):
    """Nested spans are composed; of spans one after the other and of merges around branches the last one counts."""
    model = accelerate(ViT(image_size=(24, 48), patch=8, width=16, depth=2, heads=2).eval(), method)
    seen = trace(model, torch.randn(1, 3, 24, 48))
    assert tuple(seen.maps[position][0].length for position in seen.shown) == shown
    [owner] = seen.owners()
    assert owner.shape == (1, 18)
    assert int(owner.max()) < shown[-1]
