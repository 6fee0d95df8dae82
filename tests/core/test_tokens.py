import pytest
import torch

from expedit.core import TokenMap


def test_down_is_the_mean_of_the_readers():
    token_map = TokenMap(torch.tensor([[[0], [2], [2], [0]]]), None, 4)
    x = torch.tensor([[[1.0], [2.0], [4.0], [5.0]]])
    assert torch.equal(token_map.down(x), torch.tensor([[[3.0], [0.0], [3.0], [0.0]]]))


def test_weighted_down_is_the_weighted_mean_of_the_readers():
    index = torch.tensor([[[0, 1], [1, 0]]])
    weight = torch.tensor([[[0.75, 0.25], [1.0, 0.0]]])
    token_map = TokenMap(index, weight, 3)
    got = token_map.down(torch.tensor([[[4.0], [8.0]]]))
    assert torch.allclose(got, torch.tensor([[[4.0], [(0.25 * 4 + 8) / 1.25], [0.0]]]))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("prefix", [0, 2])
def test_a_map_after_a_prefix_leaves_it_alone(weighted, prefix):
    index = torch.randint(9, (2, 7, 3 if weighted else 1))
    token_map = TokenMap(index, torch.rand(index.shape) if weighted else None, 9)
    own, small = torch.randn(2, prefix, 4), torch.randn(2, 9, 4)
    got = token_map.after(prefix).up(torch.cat((own, small), 1))
    torch.testing.assert_close(got, torch.cat((own, token_map.up(small)), 1))


def test_owner_is_the_token_read_most():
    token_map = TokenMap(torch.tensor([[[3, 1], [2, 0]]]), torch.tensor([[[0.1, 0.9], [0.6, 0.4]]]), 4)
    assert token_map.owner().tolist() == [[1, 2]]
