"""Windows of a reduced Swin map: shifted, masked, with the position bias of the smaller window."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core import Branch, Context, Grid, without_guide
from ..operators.windows import merge, padded_grid, partition


class ShiftedWindows:
    """Branch: the library's attention in windows and with a shift of our own.

    As in Mask2Former's Swin the normed map is padded with zeros before it is shifted.
    """

    def __init__(self, theirs: Any, window: Grid, shift: Grid, mask: Tensor | None, kwargs: dict[str, Any]) -> None:
        self.theirs, self.window, self.shift, self.mask, self.kwargs = theirs, window, shift, mask, kwargs
        self.weights: Tensor | None = None

    def __call__(self, y: Tensor, context: Context) -> tuple[Tensor, None]:
        """``(b, n, c) -> (b, n, c)``; what the library says of the attention weights is kept."""
        assert context.grid is not None, "a reduced window stays a lattice"
        grid, shift = context.grid, self.shift
        whole = padded_grid(grid, self.window)
        lattice = y.unflatten(1, grid)
        if whole != grid:
            lattice = F.pad(lattice, (0, 0, 0, whole.w - grid.w, 0, whole.h - grid.h))
        if any(shift):
            lattice = lattice.roll((-shift.h, -shift.w), (1, 2))
        windows = partition(lattice.flatten(1, 2), whole, self.window)
        windows, *weights = self.theirs(windows, self.mask, **self.kwargs)
        self.weights = weights[0] if weights else None
        lattice = merge(windows, whole, self.window).unflatten(1, whole)
        if any(shift):
            lattice = lattice.roll((shift.h, shift.w), (1, 2))
        return lattice[:, : grid.h, : grid.w].flatten(1, 2), None


def shift_mask(grid: Grid, window: Grid, shift: Grid, like: Tensor) -> Tensor:
    """What keeps apart, in shifted windows, tokens that are no neighbours: ``(windows, window.length, window.length)``.

    0 inside a region and -100 between the 3 x 3 regions that shifting makes. The official code, after clustering,
    passes a shift that is not the one of the roll.

    Args:
        grid: whole windows.
        window, shift: side lengths and offset of a window.
        like: gives device and dtype.
    """
    row = _regions(grid.h, window.h, shift.h, like.device)
    column = _regions(grid.w, window.w, shift.w, like.device)
    region = partition((3 * row[:, None] + column).flatten()[None, :, None], grid, window)[:, :, 0]
    apart = region[:, :, None] != region[:, None, :]
    return torch.zeros_like(apart, dtype=like.dtype).masked_fill(apart, -100.0)


def _regions(length: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Region of each place along an axis; the last ``shift`` places win over the last ``window`` ones."""
    place = torch.arange(length, device=device)
    return torch.where(place >= length - shift, 2, (place >= length - window).long())


def mlp_of(block: Any) -> Branch:
    """The MLP of a block: one module, or two in MaskFormer's copy of Swin."""
    mlp = getattr(block, "mlp", None)
    return without_guide(mlp or (lambda y: block.output(block.intermediate(y))))


def resize(attention: Any, window: Grid, cells: Grid) -> ResizedBias | None:
    """Have ``attention`` read the positions of a smaller window; its parameters stay as they are, and where.

    MaskFormer's attention indexes its table itself. There the resized rows lie over the table: an attribute of an
    instance is found before a parameter, and only parameters are counted, saved and shared. Returns what then has no
    place in the tree of modules yet.
    """
    theirs = getattr(attention, "relative_position_bias", None)
    if theirs is not None:
        attention.relative_position_bias = ResizedBias(theirs.relative_position_bias_table, window, cells)
        attention.relative_position_bias.relative_position_bias_table = theirs.relative_position_bias_table
        return None
    inner = attention.self
    resized = ResizedBias(inner.relative_position_bias_table, window, cells)
    vars(inner).update(relative_position_bias_table=resized, window_size=tuple(cells))
    return resized


class ResizedBias(nn.Module):
    """Relative position bias of a smaller window, resized once from the table of the larger one.

    Args:
        table: ``((2 * window.h - 1) * (2 * window.w - 1), heads)``.
        window: the window it was trained for.
        cells: the window it is read for.
    """

    bias: Tensor

    def __init__(self, table: nn.Parameter, window: Grid, cells: Grid) -> None:
        super().__init__()
        old = (2 * window.h - 1, 2 * window.w - 1)
        new = (2 * cells.h - 1, 2 * cells.w - 1)
        planes = table.detach().float().t().unflatten(1, old)[None]
        resized = F.interpolate(planes, size=new, mode="bilinear", align_corners=False)[0].flatten(1)
        bias = resized[:, relative_index(cells, table.device).flatten()].unflatten(1, (cells.length, cells.length))
        self.register_buffer("bias", bias[None].to(table.dtype).contiguous(), persistent=False)

    def forward(self) -> Tensor:
        """``(1, heads, cells.length, cells.length)``."""
        return self.bias

    def __getitem__(self, index: Tensor) -> Tensor:
        """The rows of the table that all pairs of tokens read, ``(pairs, heads)``, whatever ``index`` says."""
        return self.bias[0].flatten(1).t()


def relative_index(window: Grid, device: torch.device) -> Tensor:
    """Row of the bias table for each pair of tokens of a window, ``(window.length, window.length)`` int64."""
    row = torch.arange(window.h, device=device).repeat_interleave(window.w)
    column = torch.arange(window.w, device=device).repeat(window.h)
    down = row[:, None] - row[None, :] + window.h - 1
    right = column[:, None] - column[None, :] + window.w - 1
    return down * (2 * window.w - 1) + right
