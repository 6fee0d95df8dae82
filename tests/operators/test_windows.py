import pytest
import torch

from expedit.core import Grid
from expedit.operators.windows import merge, partition


@pytest.mark.parametrize("grid", [(12, 12), (10, 14), (5, 6)])
def test_windows_partition_and_merge_are_inverse(grid):
    x = torch.randn(2, grid[0] * grid[1], 3)
    windows = partition(x, Grid(*grid), Grid(6, 4))
    assert windows.shape[1] == 24
    assert torch.equal(merge(windows, Grid(*grid), Grid(6, 4)), x)
