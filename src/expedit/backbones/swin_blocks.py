"""The blocks of a Swin stage, the last of them on reduced windows. Knows the library's modules by their names only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core import Grid, Plan, Span, Step, Stream, TokenMap, drive
from ..operators.windows import merge, padded_grid, partition
from .swin_windows import ShiftedWindows, mlp_of, resize, shift_mask


class ReducedBlocks(nn.ModuleList):
    """Stands where a stage keeps its blocks: the same modules under the same names, so the stage stays the library's.

    The stage runs what iteration gives it, one after the other: the blocks before the cut, then ``reduced``, which
    runs all others.

    Args:
        blocks: of the stage.
        first: block of the stage before which windows are reduced.
        span: the cut; its reducer takes windows ``(b * windows, window.length, c)``.
        window: side lengths of a window.
        cells: those of a reduced one.
        official_shift_mask, official_padding: see ``Swin.install``.
    """

    def __init__(
        self,
        blocks: nn.ModuleList,
        *,
        first: int,
        span: Span,
        window: Grid,
        cells: Grid,
        official_shift_mask: bool,
        official_padding: bool,
    ) -> None:
        super().__init__(blocks)
        self.first, self.span, self.window, self.cells = first, span, window, cells
        self.shift = Grid(cells.h // 2, cells.w // 2)
        self.mask_shift = Grid(window.h // 2, window.w // 2) if official_shift_mask else self.shift
        self.official_padding = official_padding
        self.tables = nn.ModuleList(
            table for block in self._after() if (table := resize(block.attention, window, cells)) is not None
        )

    __repr__ = nn.Module.__repr__  # a list's shows what iteration gives, which here leads back to the list

    def blocks(self) -> list[Any]:
        """The stage's own blocks."""
        return [block for name, block in self.named_children() if name != "tables"]

    def __iter__(self) -> Iterator[Callable[..., Any]]:  # type: ignore[override]
        """What the stage calls, in order."""
        return iter([*self.blocks()[: self.first], self.reduced])

    def reduced(
        self,
        x: Tensor,
        input_dimensions: tuple[int, int],
        output_attentions: bool = False,
        always_partition: bool = True,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Reduce every window, run the blocks after the cut, read all tokens back. Windows stay batch items.

        Args:
            x: ``(b, h * w, c)``.
            input_dimensions: ``(h, w)``.
            output_attentions: MaskFormer's way to ask for attention weights.
            always_partition: without effect: a map smaller than a window is one smaller window.
            **kwargs: handed to the attentions.

        Returns:
            The same tokens ``(b, h * w, c)`` and what the last attention says of its weights.
        """
        grid = Grid(*input_dimensions)
        if output_attentions:
            kwargs["output_attentions"] = True
        pieces = [[self._reduce(piece) for piece in band] for band in self._bands(x, grid)]
        small = torch.cat([torch.cat([piece.small for piece in band], 2) for band in pieces], 1)
        reduced_grid = Grid(*small.shape[1:3])
        y, attention = self._run(small.to(x.dtype).flatten(1, 2), reduced_grid, kwargs)
        y = y.unflatten(1, reduced_grid)
        lattice = self._restore(y - small if self.span.delta else y, pieces)
        whole = lattice[:, : grid.h, : grid.w].flatten(1, 2)
        return (x + whole if self.span.delta else whole).to(x.dtype), attention

    def owner(self, owners: Sequence[Tensor], grid: Grid) -> Tensor:
        """A number for every token of a map: those that read the same reduced token have the same.

        Args:
            owners: reduced token of every token, ``(windows, n)``, by window, for all windows of one size at a time in
                the order in which they were reduced; only the first map counts.
            grid: of the map.

        Returns:
            ``(h, w)`` int64.
        """
        places = torch.arange(1, grid.length + 1).view(1, -1, 1)  # 0 stands for padding
        found, first = torch.zeros(grid.length + 1, dtype=torch.int64), 0
        pieces = [piece for band in self._bands(places, grid) for piece in band]
        for piece, owner in zip(pieces, owners, strict=True):
            size = Grid(*piece.shape[1:3])
            windows = partition(piece.flatten(1, 2), size, self._window_of(size))[:, :, 0]
            cells = int(owner.max()) + 1
            found[windows] = first + cells * torch.arange(len(windows))[:, None] + owner[: len(windows)].cpu()
            first += cells * len(windows)
        owner_map: Tensor = found[1:].unflatten(0, grid)
        return owner_map

    def _bands(self, x: Tensor, grid: Grid) -> list[list[Tensor]]:
        """Tokens ``(b, grid.length, c)`` as maps ``(b, h, w, c)``, each of windows of one size."""
        whole = padded_grid(grid, self.window) if self.official_padding else grid
        lattice = x.unflatten(1, grid)
        if whole != grid:
            lattice = F.pad(lattice, (0, 0, 0, whole.w - grid.w, 0, whole.h - grid.h))
        return _pieces(lattice, self.window)

    def _window_of(self, grid: Grid) -> Grid:
        """The windows of a map whose windows are of one size."""
        return Grid(min(grid.h, self.window.h), min(grid.w, self.window.w))

    def _reduce(self, lattice: Tensor) -> Piece:
        """Reduce the windows of ``(b, h, w, c)``, all of one size, each on its own and in fp32."""
        grid = Grid(*lattice.shape[1:3])
        window = self._window_of(grid)
        windows = partition(lattice.flatten(1, 2), grid, window).float()
        small, token_map = self.span.reducer(windows, windows, window)
        cells = token_map.grid or self.cells
        reduced = Grid(grid.h // window.h * cells.h, grid.w // window.w * cells.w)
        return Piece(merge(small, reduced, cells).unflatten(1, reduced), token_map, cells, grid, window)

    def _restore(self, small: Tensor, pieces: list[list[Piece]]) -> Tensor:
        """Read all tokens ``(b, h, w, c)`` off the reduced ones, piece by piece."""
        heights = [band[0].small.shape[1] for band in pieces]
        bands = []
        for rows, band in zip(small.split(heights, 1), pieces, strict=True):
            columns = rows.split([piece.small.shape[2] for piece in band], 2)
            bands.append(torch.cat([piece.up(part) for part, piece in zip(columns, band, strict=True)], 2))
        return torch.cat(bands, 1)

    def _after(self) -> list[Any]:
        """The blocks after the cut."""
        return self.blocks()[self.first :]

    def _run(self, x: Tensor, grid: Grid, kwargs: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        """All blocks after the cut on the reduced map ``grid``; every second one of the stage shifts its windows."""
        mask = shift_mask(padded_grid(grid, self.cells), self.cells, self.mask_shift, x)
        windows = [
            ShiftedWindows(block.attention, self.cells, self.shift, mask, kwargs)
            if number % 2
            else ShiftedWindows(block.attention, self.cells, Grid(0, 0), None, kwargs)
            for number, block in enumerate(self._after(), self.first)
        ]
        steps = [
            step
            for block, attend in zip(self._after(), windows, strict=True)
            for step in (
                Step(block.layernorm_before, attend),
                Step(block.layernorm_after, mlp_of(block)),
            )
        ]
        stream, _ = drive(steps, Stream(x, prefix=0, grid=grid), Plan())
        return stream.x, windows[-1].weights


class Piece(NamedTuple):
    """Reduced windows of one size: tokens ``(b, h, w, c)`` in windows ``cells``, and how to read ``grid`` off them."""

    small: Tensor
    map: TokenMap
    cells: Grid
    grid: Grid
    window: Grid

    def up(self, small: Tensor) -> Tensor:
        """All tokens of the piece ``(b, *grid, c)`` in fp32, read off reduced ones shaped like its own."""
        reduced = Grid(*small.shape[1:3])
        windows = partition(small.flatten(1, 2), reduced, self.cells).float()
        lattice: Tensor = merge(self.map.up(windows), self.grid, self.window).unflatten(1, self.grid)
        return lattice


def _pieces(lattice: Tensor, window: Grid) -> list[list[Tensor]]:
    """``(b, h, w, c)`` cut so that each part has windows of one size: whole ones, and what is left beside and below."""
    bands = lattice.split(_lengths(lattice.shape[1], window.h), 1)
    return [list(band.split(_lengths(lattice.shape[2], window.w), 2)) for band in bands]


def _lengths(side: int, window: int) -> list[int]:
    """Stretch of whole windows and the rest, as far as there are any."""
    rest = side % window
    return [length for length in (side - rest, rest) if length]
