import pytest
import torch

import reference
from expedit.methods.act import QueryClusters


@pytest.mark.parametrize("hashes", [4, 24, 32])
def test_act_equals_the_literal_loops(hashes):
    q, k, v = (torch.randn(2, 3, 19, 8) * 6 for _ in range(3))
    projection, bias = torch.randn(8, hashes), torch.rand(hashes)
    got = QueryClusters(projection, bias)(q, k, v)
    scaled = q * 8**-0.5
    for image in range(2):
        want = reference.act(scaled[image], k[image], v[image], projection, bias)
        assert torch.allclose(got[image], want, atol=1e-4)


def test_act_with_one_query_per_cluster_is_attention():
    """Hash cells far finer than the distances between queries: every query is its own cluster."""
    q, k, v = (torch.randn(1, 2, 11, 8) for _ in range(3))
    kernel = QueryClusters(torch.randn(8, 16) * 1e3, torch.rand(16))
    assert torch.allclose(kernel(q, k, v), reference.attention(q, k, v), atol=1e-5)
