import pytest
import torch

import reference
from expedit.methods.tome import Merged


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("n", [12, 13])
def test_tome_equals_the_literal_loops(ratio, n):
    x = torch.randn(2, n, 6)
    small, token_map = Merged(ratio, prefix=1)(x, x, None)
    cls = torch.randn(6)
    for image in range(2):
        want, place = reference.tome(torch.cat((cls[None], x[image])), ratio)
        assert torch.allclose(small[image], want[1:], atol=1e-5)
        assert torch.equal(token_map.index[image, :, 0], place[1:] - 1)
