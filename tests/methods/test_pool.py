import torch

from expedit.core import Grid
from expedit.methods.pool import Averages


def test_pool_reads_bilinearly():
    x = torch.randn(2, 8 * 10, 3)
    small, token_map = Averages((4, 5))(x, x, Grid(8, 10))
    want = torch.nn.functional.interpolate(
        small.transpose(1, 2).reshape(2, 3, 4, 5), size=(8, 10), mode="bilinear", align_corners=False
    )
    assert torch.allclose(token_map.up(small), want.flatten(2).transpose(1, 2), atol=1e-6)
