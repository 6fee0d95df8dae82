import pytest
import torch

import reference
from expedit.core import Grid
from expedit.methods.evit import Attentive, EViT


@pytest.mark.parametrize("fuse", [True, False])
def test_evit_equals_the_literal_loops(fuse):
    x, score = torch.randn(2, 23, 5), torch.rand(2, 23)
    small, token_map = Attentive(EViT(keep_rate=0.6, fuse=fuse))(x, score, Grid(1, 23))
    for image in range(2):
        want, source = reference.evit(x[image], score[image], 0.6, fuse)
        assert torch.allclose(small[image], want, atol=1e-5)
        assert torch.equal(token_map.index[image, :, 0], source)
    assert token_map.length == small.shape[1]
    assert token_map.grid is None
