"""How tokens are cut into tiles and cells into chunks, and the tables of places that follow from the sizes alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise, product
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import _disable_current_modes

from ..core.tokens import Grid
from .similarity import inner


def gather_shared(rows: Tensor, place: Tensor) -> Tensor:
    """``rows`` ``(b, n, c)`` at ``place`` (any shape): ``(b, *place, c)``."""
    gathered: Tensor = rows.index_select(1, place.flatten()).unflatten(1, place.shape)
    return gathered


class Axis(NamedTuple):
    """How one axis is cut: into tiles of tokens, those of ``step`` cells, and into chunks of ``step`` cells.

    A token may be served by cells up to ``radius`` away. With ``step == 2 * radius`` chunks that begin ``radius``
    cells before the tiles are such that the tokens of a tile use two chunks and the cells of a chunk are visited by
    two tiles. A short axis is one tile and one chunk. With 12 cells and radius 2, steps of 4 cells::

        cells          0   1   2   3   4   5   6   7   8   9  10  11
        tiles        |       0       |       1       |       2       |
        chunks   |       0       |       1       |       2       |       3       |

    Tokens of tile 1 have cells 4 to 7, so cells 2 to 9 may serve them: chunks 1 and 2. Chunk 1 holds cells 2 to 5,
    which serve tokens of tiles 0 and 1.
    """

    tokens: int
    cells: int
    radius: int
    step: int
    tiles: int
    overlap: int

    @staticmethod
    def of(tokens: int, cells: int, radius: int) -> Axis:
        """The cheaper of the two forms for ``cells`` cells over ``tokens`` tokens."""
        step = 2 * max(radius, 1)
        if 2 * step >= cells:
            return Axis(tokens, cells, radius, cells, 1, 1)
        return Axis(tokens, cells, radius, step, -(-cells // step), 2)

    @property
    def chunks(self) -> int:
        """Chunks of the axis; the first and the last reach beyond the cells."""
        return self.tiles + self.overlap - 1

    @property
    def margin(self) -> int:
        """Places in front of the first cell in the first chunk."""
        return 0 if self.overlap == 1 else self.step // 2

    @property
    def longest(self) -> int:
        """Tokens of the largest tile."""
        starts = [min(-(-tile * self.step * self.tokens // self.cells), self.tokens) for tile in range(self.tiles + 1)]
        return max(b - a for a, b in pairwise(starts))

    def visitors(self, device: torch.device) -> Tensor:
        """Tiles that use each chunk, ``(chunks, overlap)`` int64; -1 where there is none."""
        first = torch.arange(self.chunks, device=device)[:, None] - self.overlap + 1
        tile = first + torch.arange(self.overlap, device=device)
        return torch.where(tile < self.tiles, tile, -1)

    def homes(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Chunk of each cell and its place in there, ``(cells, 1)`` int64 each."""
        place = torch.arange(self.cells, device=device)[:, None] + self.margin
        return place // self.step, place % self.step

    def used(self, device: torch.device) -> Tensor:
        """Chunks that each tile uses, ``(tiles, overlap)`` int64."""
        return torch.arange(self.tiles, device=device)[:, None] + torch.arange(self.overlap, device=device)

    def rows(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Token positions of every tile ``(tiles, p)`` (clamped where a tile has fewer) and their cells (-1 there).

        The cell of a token is the one nearest-neighbour up-sampling of the lattice would give it.
        """
        tile = torch.arange(self.tiles, device=device)
        first = (tile * self.step * self.tokens + self.cells - 1) // self.cells
        position = first[:, None] + torch.arange(self.longest, device=device)
        cell = position * self.cells // self.tokens
        inside = (position < self.tokens) & (cell // self.step == tile[:, None])
        return position.clamp(max=self.tokens - 1), torch.where(inside, cell, -1)

    def candidates(self, device: torch.device) -> Tensor:
        """Cells of the chunks that each tile uses, ``(tiles, overlap * step)``; some lie outside of the axis."""
        places = self.used(device)[:, :, None] * self.step + torch.arange(self.step, device=device)
        return places.flatten(1) - self.margin

    def reach(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Cells that may serve a token, that average it at first, that it lies in: ``(tiles, p, q)`` bool each."""
        position, cell = (rows[:, :, None] for rows in self.rows(device))
        candidate = self.candidates(device)[:, None, :]
        real = (candidate >= 0) & (candidate < self.cells) & (cell >= 0)
        above = position * self.cells < (candidate + 1) * self.tokens
        below = (position + 1) * self.cells > candidate * self.tokens
        return real & ((candidate - cell).abs() <= self.radius), real & above & below, real & (candidate == cell)


class Tiling(NamedTuple):
    """Both axes: tiles of ``p`` tokens and chunks of ``s`` cells, row-major.

    A tile uses ``overlap.h * overlap.w`` chunks, and as many tiles visit a chunk. What tokens and cells say of one
    another comes in two orders: by tile ``(b, tiles, p, overlaps * s)``, where the softmax of a token runs, and by
    chunk ``(b * chunks, overlaps * p, s)``, where the mean of a cell runs.
    """

    h: Axis
    w: Axis

    @staticmethod
    def of(grid: Grid, cells: Grid, radius: int) -> Tiling:
        """The tiling of a token lattice and its cells."""
        return Tiling(*(Axis.of(n, m, radius) for n, m in zip(grid, cells, strict=True)))

    def whole(self) -> Tiling:
        """All tokens in one tile."""
        return Tiling(*(axis._replace(step=axis.cells, tiles=1, overlap=1) for axis in self))

    @property
    def overlaps(self) -> list[tuple[int, int]]:
        """Places of the chunks that a tile uses, and of the tiles that visit a chunk."""
        return list(product(range(self.h.overlap), range(self.w.overlap)))

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """How far apart, down and to the right, two visitors of a chunk can be, in tiles."""
        return list(product(range(1 - self.h.overlap, self.h.overlap), range(1 - self.w.overlap, self.w.overlap)))

    def multiply_adds(self) -> int:
        """Of ``products``, per channel."""
        return (len(self.offsets) + 1) // 2 * self.h.tiles * self.w.tiles * (self.h.longest * self.w.longest) ** 2

    def comparisons(self) -> int:
        """Of a token and a cell that may be near it."""
        h, w = (axis.tiles * axis.longest * axis.overlap * axis.step for axis in (self.h, self.w))
        return h * w

    def averages(self) -> int:
        """Multiply-adds of the means of ``products`` over all cells."""
        h, w = (axis.chunks * (axis.overlap * axis.longest) ** 2 * axis.step for axis in (self.h, self.w))
        return h * w

    def products(self, tiled: Tensor, at: Tables) -> Tensor:
        """Inner products of all visitors of a chunk, ``(b * chunks, overlaps * p, overlaps * p)``.

        Two tiles that meet in several chunks are multiplied once.
        """
        near = {}
        for down, right in self.offsets:
            ahead = down * self.w.tiles + right
            if ahead >= 0:
                pairs = inner(tiled[: tiled.shape[0] - ahead], tiled[ahead:].mT)
                near[down, right] = F.pad(pairs, (0, 0, 0, 0, 0, ahead))
                near[-down, -right] = F.pad(pairs.mT, (0, 0, 0, 0, ahead, 0))
        maps = [near[offset].unflatten(0, (-1, at.tile_tokens.shape[0])).flatten(1, 2) for offset in self.offsets]
        rows = torch.cat([*maps, torch.zeros_like(maps[0][:, :1])], 1)
        return gather_shared(rows, at.product_rows).flatten(4, 5).flatten(2, 3).flatten(0, 1)


class Tables(NamedTuple):
    """What follows from the sizes alone.

    Attributes:
        tile_tokens: ``(tiles, p)`` int64, tokens of each tile; places that it does not fill repeat one.
        tile_cells: ``(tiles, q)`` int64, cells of the chunks that each tile uses; a place without one repeats one.
        bias: ``(tiles, p, q)`` float, -inf where a cell may not serve a token; 0 elsewhere and where no token is.
        unfilled: ``(tiles, p, 1)`` bool, places that no token fills.
        pooled: ``(tiles, p, q)`` float, 1 where a cell averages a token at first.
        elsewhere: ``(tiles, p, q)`` bool, cells that a token does not lie in.
        chunk_rows: ``(chunks, overlaps, p)`` int64, where the order by tile has the rows of each chunk; one after the
            last row where there is no token.
        tile_rows: ``(tiles, p, overlaps)`` int64, where the order by chunk has the rows of each tile.
        product_rows: ``(chunks, overlaps, p, overlaps)`` int64, where the products by offset have the rows of each
            chunk; likewise.
        cell_rows: ``(cells, overlaps)`` int64, where ``(tiles, q)`` has the sums of each cell.
        cell_counts: ``(cells, overlaps)`` float, 1 where such a tile exists, so that its sum counts.
    """

    tile_tokens: Tensor
    tile_cells: Tensor
    bias: Tensor
    unfilled: Tensor
    pooled: Tensor
    elsewhere: Tensor
    chunk_rows: Tensor
    tile_rows: Tensor
    product_rows: Tensor
    cell_rows: Tensor
    cell_counts: Tensor


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def tables(*sizes: Any) -> tuple[Tensor, ...]:
    """``Tables`` from the fields of both axes and a device; plain arguments, so that a compiler takes them as given."""
    return _kept_tables(*sizes)


@lru_cache(maxsize=64)
def _kept_tables(*sizes: Any) -> tuple[Tensor, ...]:
    """Made once per size and device: some 200 small operations, and a GPU would be waited for.

    They outlive whoever asks first, so nothing of his mode (inference, counting, fake tensors) may stick to them.
    """
    with torch.inference_mode(False), _disable_current_modes():
        made = _made_tables(Tiling(Axis(*sizes[:6]), Axis(*sizes[6:12])), torch.device("cpu"))
        return tuple(table.to(sizes[12]) for table in made)


def _made_tables(tiling: Tiling, device: torch.device) -> tuple[Tensor, ...]:
    h, w = tiling
    (rows, row_cell), (columns, column_cell) = h.rows(device), w.rows(device)
    tile_tokens = _grid(rows * w.tokens, columns, torch.add)
    filled = _grid(row_cell >= 0, column_cell >= 0, torch.logical_and)
    reach, pooled, home = (_cross(tiling, *both) for both in zip(h.reach(device), w.reach(device), strict=True))
    (tiles, p), overlaps = tile_tokens.shape, len(tiling.overlaps)

    tile = _grid(h.visitors(device) * w.tiles, w.visitors(device), torch.add)
    there = _grid(h.visitors(device) >= 0, w.visitors(device) >= 0, torch.logical_and)
    place, overlap = torch.arange(p, device=device), torch.arange(overlaps, device=device)
    mirrored = overlap.flip(0)  # the last tile that visits a chunk uses it as its first
    chunk_rows = (tile[:, :, None] * p + place) * overlaps + mirrored[:, None]
    chunk = _grid(h.used(device) * w.chunks, w.used(device), torch.add)
    tile_rows = (chunk[:, None, :] * overlaps + mirrored) * p + place[:, None]
    kinds = [[tiling.offsets.index((v - u, z - y)) for v, z in tiling.overlaps] for u, y in tiling.overlaps]
    product_rows = (torch.tensor(kinds, device=device)[:, None, :] * tiles + tile[:, :, None, None]) * p + place[
        :, None
    ]
    cell_chunk = _grid(h.homes(device)[0] * w.chunks, w.homes(device)[0], torch.add)[:, 0]
    cell_place = _grid(h.homes(device)[1] * w.step, w.homes(device)[1], torch.add)
    cell_rows = ((tile * overlaps + mirrored) * h.step * w.step)[cell_chunk] + cell_place
    gives = there[cell_chunk]
    cell_rows = torch.where(gives, cell_rows, torch.where(gives, cell_rows, -1).amax(1, keepdim=True))
    both = there[:, :, None, None] & there[:, None, None, :]
    return (
        tile_tokens,
        _candidates(tiling, device),
        torch.where(reach | ~filled[:, :, None], 0.0, float("-inf")),
        ~filled[:, :, None],
        pooled.float(),
        ~home,
        torch.where(there[:, :, None] & filled[tile], chunk_rows, tiles * p * overlaps),
        tile_rows,
        torch.where(both, product_rows, len(tiling.offsets) * tiles * p),
        cell_rows,
        gives.float(),
    )


def _grid(down: Tensor, right: Tensor, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``(m, i)`` along one axis and ``(n, j)`` along the other, combined to ``(m * n, i * j)``."""
    return combine(down[:, None, :, None], right[None, :, None, :]).flatten(2).flatten(0, 1)


def _candidates(tiling: Tiling, device: torch.device) -> Tensor:
    """Cells of the chunks that each tile uses, ``(tiles, overlaps * s)``; some repeat where there are none."""
    inside = (axis.candidates(device).clamp(0, axis.cells - 1) for axis in tiling)
    down, right = (cell.unflatten(1, (axis.overlap, -1)) for cell, axis in zip(inside, tiling, strict=True))
    both: Tensor = down[:, None, :, None, :, None] * tiling.w.cells + right[None, :, None, :, None, :]
    return both.flatten(2).flatten(0, 1)


def _cross(tiling: Tiling, down: Tensor, right: Tensor) -> Tensor:
    """What holds along both axes: ``(tiles, p, q)`` bool each, to the same of the map."""
    down, right = down.unflatten(2, (tiling.h.overlap, -1)), right.unflatten(2, (tiling.w.overlap, -1))
    both = down[:, None, :, None, :, None, :, None] & right[None, :, None, :, None, :, None, :]
    return both.flatten(4, 7).flatten(2, 3).flatten(0, 1)
