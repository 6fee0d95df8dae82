"""Operators keep their digits in a runtime that adds up one by one."""

import pytest
import torch
from torch import nn

from expedit.core import Grid
from expedit.exporting.formats import Capture, to_onnx
from expedit.operators.clustering import cluster_to_scale
from expedit.operators.merging import _start

GRID, CELLS = Grid(40, 40), Grid(28, 28)


class Clustering(nn.Module):
    def forward(self, x):
        return cluster_to_scale(x, GRID, CELLS, 1, 5, 8.0)


class Variance(nn.Module):
    def forward(self, x):
        return _start(x, GRID, 0.01)[1:]


@pytest.mark.slow
@pytest.mark.parametrize("operator", [Clustering(), Variance()], ids=lambda operator: type(operator).__name__)
def test_sums_over_whole_images_are_exact_in_onnx(operator, tmp_path):
    pytest.importorskip("onnxscript", reason="needs the extra export")
    pytest.importorskip("onnxruntime", reason="needs the extra export")
    torch.manual_seed(0)
    x = torch.randn(1, GRID.length, 1024)
    run = to_onnx(Capture(operator.eval(), x, False, tuple("ab"[: len(operator(x))])), tmp_path / "a.onnx", {})
    for theirs, ours in zip(run(x), operator(x), strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-4)
