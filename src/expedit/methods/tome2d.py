"""ToMe2D: merge similar tokens into one of every 2 x 2 cell before a branch, un-merge after it.

Bolya and Hoffman, "Token Merging for Fast Stable Diffusion", CVPR Workshops 2023, sections 3.2 and 3.3 (un-merging,
destinations by a two-dimensional stride). The destination of a cell is its first token, not a random one.

Cost of one branch on n tokens: (n - n / s²) · (n / s²) · c for the matching, stride s, width c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..core import Anatomy, Around, Cut, Grid, Guide, Method, TokenMap, attn, mlp
from ..core.checks import choice, integer, number
from ..operators.matching import joined, most_similar

STEPS = {"attention": (attn,), "mlp": (mlp,), "both": (attn, mlp)}


@dataclass(frozen=True, repr=False)
class ToMe2D(Method):
    """Bipartite matching on the lattice around residual branches.

    Attributes:
        ratio: share of the tokens merged away before each branch, as far as cells have other tokens: 0.75 of 2 x 2.
        branches: ``"attention"`` as published, ``"mlp"`` or ``"both"``.
        stride: side of the cells.

    Example:
        >>> import expedit
        >>> expedit.ToMe2D(ratio=0.6, branches="both")
        tome2d(ratio=0.6, branches='both')
    """

    headline: ClassVar[tuple[str, ...]] = ("ratio",)

    ratio: float = 0.5
    branches: Literal["attention", "mlp", "both"] = "attention"
    stride: int = 2

    def __post_init__(self) -> None:
        number("ratio", self.ratio, 0, 1, open_low=False)
        choice("branches", self.branches, tuple(STEPS))
        integer("stride", self.stride, 2)

    def cuts(self, net: Anatomy) -> Sequence[Cut]:
        """Around the chosen steps of every block."""
        merged = Strided(self.ratio, self.stride)
        return [Around(merged, step(block)) for block in range(net.depth) for step in STEPS[self.branches]]


@dataclass(frozen=True)
class Strided:
    """Reducer: the first token of every cell is a destination, the most similar of all others join theirs.

    Attributes:
        ratio: share of the tokens to merge.
        stride: side of the cells.
    """

    guide: ClassVar[Guide] = "tokens"

    ratio: float
    stride: int

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        """``(b, n, c)`` on ``grid`` to ``(b, n - r, c)``: those that stay, in order, each the mean of its group."""
        if grid is None:
            raise ValueError("tome2d: expected tokens on a lattice, but an earlier reduction took them off it")
        n = grid.length
        places = torch.arange(n, device=x.device)
        first = (places // grid.w % self.stride == 0) & (places % grid.w % self.stride == 0)
        kept = -(-grid.h // self.stride) * -(-grid.w // self.stride)
        order = torch.argsort(places + n * ~first)  # cells' first tokens, then the others
        destinations, sources = order[:kept], order[kept:]
        score, target = most_similar(x[:, sources], x[:, destinations])
        token_map = joined(score, target, min(int(n * self.ratio), n - kept), sources, destinations, n)
        return token_map.down(x), token_map
