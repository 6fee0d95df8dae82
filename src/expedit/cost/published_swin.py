"""What a Swin backbone costs in the convention of the published tables (docs/protocols.md, Cost).

Of the backbone alone, as fvcore counts: multiply-adds of convolutions and matrix products once, biases not, 5 per
element of a LayerNorm, 1 per input of an average pooling; softmax, GELU, padding, rolling, exponentials and the choice
of the largest weights are free.
"""

from __future__ import annotations

from itertools import accumulate

from ..core import Grid
from ..methods import Expedit
from ..models.mask2former import Architecture
from ..operators.lattice import cells_of
from ..operators.windows import padded_grid

NORM = 5
"""Operations per element of a LayerNorm."""


def published_backbone_macs(net: Architecture, image: tuple[int, int], method: Expedit | None = None) -> int:
    """Multiply-adds of a Swin backbone as the published tables count them, padded windows taking part in full.

    Args:
        net: sizes of the network.
        image: (height, width) in pixels.
        method: what runs in it; α counts blocks over all stages.
    """
    grid = Grid(-(-image[0] // 4), -(-image[1] // 4))
    total = grid.length * net.embed * (3 * 4 * 4 + NORM)  # patch convolution and its norm
    for stage, (depth, end) in enumerate(zip(net.depths, accumulate(net.depths), strict=True)):
        c = net.embed * 2**stage
        total += _stage(net, grid, c, depth, method if method and end - depth <= method.alpha < end else None, end)
        total += NORM * grid.length * c  # norm of the stage's output
        if stage < len(net.depths) - 1:
            grid = Grid(-(-grid.h // 2), -(-grid.w // 2))
            total += grid.length * (NORM * 4 * c + 4 * c * 2 * c)  # patch merging
    return total


def _stage(net: Architecture, grid: Grid, c: int, depth: int, method: Expedit | None, end: int) -> int:
    """The blocks of a stage of width ``c`` whose last block is number ``end - 1``; ``method`` if it cuts here."""
    window = Grid(net.window, net.window)
    if method is None:
        return depth * _block(net, grid, c, window)
    reduced, cells, tokens = end - method.alpha, cells_of(method.grid, window), padded_grid(grid, window).length
    lattice = Grid(
        *(side // whole * part for side, whole, part in zip(padded_grid(grid, window), window, cells, strict=True))
    )
    # first centres; a distance and an aggregation per iteration; distances of the way back and the mixing
    sandwich = tokens * c + (2 * method.iterations + 2) * tokens * cells.length * c
    return (depth - reduced) * _block(net, grid, c, window) + sandwich + reduced * _block(net, lattice, c, cells)


def _block(net: Architecture, grid: Grid, c: int, window: Grid) -> int:
    """Projections and attention on whole windows; the MLP and two norms on the map itself."""
    whole, hidden = padded_grid(grid, window).length, int(net.mlp_ratio * c)
    return 4 * whole * c**2 + 2 * whole * window.length * c + 2 * grid.length * c * hidden + 2 * NORM * grid.length * c
