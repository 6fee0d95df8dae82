import pytest
import torch

from expedit.operators.matching import descending


@pytest.mark.parametrize(
    "score", [torch.zeros(2, 9), torch.rand(2, 50), torch.rand(2, 300).mul(5).round().div(5), -torch.rand(1, 7) * 1e-6]
)
def test_descending_is_the_stable_sort(score):
    assert torch.equal(descending(score), score.argsort(dim=1, descending=True, stable=True))
