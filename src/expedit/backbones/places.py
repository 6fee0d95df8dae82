"""Where the tokens of a host are: how they enter the engine and leave it, and what their attention knows of places.

Positions that were added to the tokens need nothing. Rotary positions travel as a companion. Hosts whose blocks read a
table or a window by the place of a token keep their tokens on a lattice, and everything follows that lattice.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..core import Context, Grid, Rotation, Side, Stream, TokenMap, coarse_tokens, enlarged
from ..operators.windows import merge, partition
from .notes import Notes

Call = dict[str, Any]

MOST_PREFIX = 1024
"""More tokens than this before the lattice are a misread lattice, not class, register and query tokens."""


class Plain:
    """Tokens ``(b, prefix + n, c)`` with absolute or rotary positions.

    Attributes:
        accepts: what blocks may be handed that follows reduced tokens; anything else must be ``None`` or false.
        reason: why tokens must stay on a lattice; empty where they need not.
    """

    accepts: ClassVar[frozenset[str]] = frozenset(("position_embeddings", "dataset_index"))
    reason: ClassVar[str] = ""

    def __init__(self, host: Any, prefix: int) -> None:
        self.prefix = prefix
        self.follows = self.accepts

    def drives(self, block: Any) -> bool:
        """Whether a block maps tokens to tokens of the same places; others run as they are."""
        return True

    def grid(self, x: Tensor, call: Call, notes: Notes) -> Grid:
        """Lattice of the tokens that the host hands to its first block."""
        return notes.grid

    def enter(self, x: Tensor, call: Call, notes: Notes) -> Stream:
        """The stream that begins with the host's tokens; ValueError where they are not those of an image."""
        grid = self.grid(x, call, notes)
        prefix = x.shape[1] - grid.length
        if not 0 <= prefix <= MOST_PREFIX:
            raise ValueError(f"expected {grid.h} x {grid.w} tokens and class tokens before them, got {x.shape[1]}")
        table, side = self.table(call), {}
        if table is not None:
            side["rotation"] = Rotation(*(phasor.expand(x.shape[0], -1, -1) for phasor in table))
        change = notes.change
        coarse = None if change is None else coarse_tokens(x[:, prefix:], change, grid)
        return enlarged(Stream(x, prefix, grid, side, lead=prefix - self.prefix, coarse=coarse), notes.whole or grid)

    def leave(self, stream: Stream) -> Tensor:
        """Tokens as the host knows them."""
        return stream.x

    def table(self, call: Call) -> tuple[Tensor, Tensor] | None:
        """Cosine and sine ``(n, d)`` of rotary positions, if the host hands any."""
        table: tuple[Tensor, Tensor] | None = call.get("position_embeddings")
        return table

    def rotation(self, context: Context, call: Call) -> tuple[Tensor, Tensor] | None:
        """Those of the tokens at hand: the host's own where nothing was reduced, else ``(b, 1, m, d)``."""
        table, carried = self.table(call), context.side.get("rotation")
        if table is None or not isinstance(carried, Rotation):
            return None
        if context.grid is not None and carried.cos.shape[1] == table[0].shape[-2]:
            return table
        return carried.cos[:, None], carried.sin[:, None]

    def attend(self, block: Any, theirs: Any, y: Tensor, context: Context, call: Call) -> Any:
        """See ``forms.Place``."""
        rotation = self.rotation(context, call)
        return theirs(y) if rotation is None else theirs(y, position_embeddings=rotation)

    def rotated(self, theirs: Any, q: Tensor, k: Tensor, context: Context, call: Call) -> tuple[Tensor, ...]:
        """By the function of the library's own module."""
        rotation = self.rotation(context, call)
        if rotation is None:
            return q, k
        turned: tuple[Tensor, Tensor] = sys.modules[type(theirs).__module__].apply_rotary_pos_emb(q, k, *rotation)
        return turned

    def mlp(self, call: Call) -> Call:
        """The data set of a picture chooses among VitPose++'s experts."""
        index = call.get("dataset_index")
        return {} if index is None else {"indices": index}


class FixedLattice(Plain):
    """The host's own lattice, for images of one size (EoMT); queries join the prefix later."""

    def __init__(self, host: Any, prefix: int) -> None:
        super().__init__(host, prefix)
        self.own = Grid(*host.grid_size)

    def grid(self, x: Tensor, call: Call, notes: Notes) -> Grid:
        """See ``Plain``."""
        return self.own


class Biased(Plain):
    """Attention logits get a bias by the places of both tokens (BEiT), read for the lattice at hand."""

    accepts = frozenset(("resolution", "interpolate_pos_encoding"))
    reason = "BEiT adds a bias by the place of a token"

    def __init__(self, host: Any, prefix: int) -> None:
        super().__init__(host, prefix)
        self.shared = host.shared_position_bias
        self.patch = host.config.patch_size
        if self.shared is not None:
            self.follows = self.accepts | {"attention_mask"}  # made of the shared bias for all tokens

    def grid(self, x: Tensor, call: Call, notes: Notes) -> Grid:
        """See ``Plain``."""
        return Grid(call["resolution"][0] // self.patch, call["resolution"][1] // self.patch)

    def attend(self, block: Any, theirs: Any, y: Tensor, context: Context, call: Call) -> Any:
        """See ``forms.Place``."""
        table = self.shared if block.relative_position_bias is None else block.relative_position_bias
        if table is None:
            return theirs(y)
        assert context.grid is not None, "plans that leave the lattice are refused"
        return theirs(y, attention_mask=table(tuple(context.grid), False, dim_size=y.shape[1]))


@dataclass(frozen=True)
class Whole:
    """Companion: the lattice of the image, whatever is left of its tokens."""

    grid: Grid

    def down(self, token_map: TokenMap, grid: Grid | None) -> Whole:
        """Itself."""
        return self


class Windowed(Plain):
    """Tokens ``(b, h, w, c)``; most blocks attend in windows, which shrink with the lattice (SAM).

    The last windows are padded with zeros that take part in attention, as in the library.
    """

    accepts = frozenset()
    reason = "SAM attends in windows of a lattice"

    def grid(self, x: Tensor, call: Call, notes: Notes) -> Grid:
        """See ``Plain``."""
        return Grid(*x.shape[1:3])

    def enter(self, x: Tensor, call: Call, notes: Notes) -> Stream:
        """See ``Plain``."""
        grid = self.grid(x, call, notes)
        return Stream(x.flatten(1, 2), 0, grid, {"whole": Whole(grid)})

    def leave(self, stream: Stream) -> Tensor:
        """See ``Plain``."""
        assert stream.grid is not None, "plans that leave the lattice are refused"
        lattice: Tensor = stream.x.unflatten(1, stream.grid)
        return lattice

    def window(self, block: Any, context: Context) -> Grid | None:
        """The window of a block on the lattice at hand, ``None`` if it sees the whole of it."""
        if block.window_size == 0:
            return None
        grid, whole = context.grid, whole_of(context.side)
        assert grid is not None, "plans that leave the lattice are refused"
        return Grid(*(max(round(block.window_size * n / m), 1) for n, m in zip(grid, whole, strict=True)))

    def attend(self, block: Any, theirs: Any, y: Tensor, context: Context, call: Call) -> Tensor:
        """See ``forms.Place``."""
        grid, window = context.grid, self.window(block, context)
        assert grid is not None, "plans that leave the lattice are refused"
        if window is None:
            return self.look(block, theirs, y.unflatten(1, grid), context).flatten(1, 2)
        tokens = partition(y, grid, window).unflatten(1, window)
        return merge(self.look(block, theirs, tokens, context).flatten(1, 2), grid, window)

    def look(self, block: Any, theirs: Any, tokens: Tensor, context: Context) -> Tensor:
        """The library's attention inside ``tokens`` ``(b, h, w, c)``; its relative positions resize themselves."""
        returned = theirs(tokens)
        out: Tensor = returned[0] if isinstance(returned, tuple) else returned
        return out


class RotaryWindows(Windowed):
    """Windows with rotary positions that a block works out from row and column (SAM 3)."""

    def look(self, block: Any, theirs: Any, tokens: Tensor, context: Context) -> Tensor:
        """Cells keep the distances of the tokens that they stand for."""
        lattice = Grid(*tokens.shape[1:3])
        assert context.grid is not None, "plans that leave the lattice are refused"
        whole = whole_of(context.side)
        places = block.position_ids
        if context.grid != whole:
            side = block.window_size or whole.w
            axes = [
                _places(cells, whole_side / side_now, tokens.device) * block.config.window_size / side
                for cells, whole_side, side_now in zip(lattice, whole, context.grid, strict=True)
            ]
            places = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 1).flip(-1)
        out: tuple[Tensor, Any] = theirs(tokens, block.rotary_emb(tokens, places))
        return out[0]


def _places(cells: int, step: float, device: torch.device) -> Tensor:
    """Middles of ``cells`` cells of ``step`` tokens each, counted in tokens from the middle of the first token."""
    return (torch.arange(cells, device=device) + 0.5) * step - 0.5


class StagedWindows(Windowed):
    """Windows in stages; blocks that pool tokens or widen channels run as they are (SAM 2)."""

    reason = "SAM 2 attends in windows of a lattice"

    def drives(self, block: Any) -> bool:
        """See ``Plain``."""
        return block.query_stride is None and block.dim == block.dim_out


class SinesFirst(Plain):
    """timm's Eva: one rotary table ``(n, 2 d)``, sines before cosines."""

    accepts = frozenset(("rope",))

    def table(self, call: Call) -> tuple[Tensor, Tensor] | None:
        """See ``Plain``."""
        table: Tensor | None = call.get("rope")
        if table is None:
            return None
        if table.dim() != 2:
            raise ValueError(f"rope: expected one table (n, 2 d) for all heads, got {tuple(table.shape)}")
        sin, cos = table.chunk(2, -1)
        return cos, sin

    def attend(self, block: Any, theirs: Any, y: Tensor, context: Context, call: Call) -> Any:
        """See ``forms.Place``."""
        return theirs(y, rope=self.joined(context, call))

    def joined(self, context: Context, call: Call) -> Tensor | None:
        """The table of the tokens at hand as timm's attention takes it."""
        rotation = self.rotation(context, call)
        if rotation is None:
            return None
        return torch.cat(rotation[::-1], -1)

    def rotated(self, theirs: Any, q: Tensor, k: Tensor, context: Context, call: Call) -> tuple[Tensor, ...]:
        """By timm's own function; the prefix has no positions."""
        table = self.joined(context, call)
        if table is None:
            return q, k
        turn, half = sys.modules[type(theirs).__module__].apply_rot_embed_cat, getattr(theirs, "rotate_half", False)
        prefix = q.shape[2] - table.shape[-2]
        parts = ((row[:, :, :prefix], turn(row[:, :, prefix:], table, half=half)) for row in (q, k))
        return tuple(torch.cat(pair, 2).type_as(q) for pair in parts)


def whole_of(side: Side) -> Grid:
    """The lattice of the image that a windowed stream came from."""
    whole = side["whole"]
    assert isinstance(whole, Whole), "made by Windowed.enter"
    return whole.grid


def check_call(place: Plain, call: Mapping[str, Any]) -> None:
    """ValueError where a host hands its blocks something that does not follow reduced tokens."""
    for name, value in call.items():
        traced_mask = name == "attention_mask" and torch.compiler.is_compiling()  # the library then makes one of ones
        if value is None or value is False or traced_mask or name in (*place.follows, "output_hidden_states"):
            continue
        raise ValueError(f"{name}: an accelerated network does not follow it; expected none, or the dense network")
