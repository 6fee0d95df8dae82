"""Regions: join like neighbours early, by Ward's criterion, and let attention know how many tokens a region stands for.

Ward's merging in bipartite rounds, in the spirit of Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023, with
its proportional attention. The combination and its defaults were measured here, on pre-trained networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, get_args

from torch import Tensor

from ..core import Anatomy, Cut, Grid, Guide, Method, Restore, TokenMap, attn, to_the_end
from ..core.checks import choice, integer, number
from ..operators.lattice import identity
from ..operators.merging import merged


@dataclass(frozen=True, repr=False)
class Regions(Method):
    """Merge tokens into regions after ``alpha`` blocks; every token reads back its region.

    Attributes:
        alpha: blocks that run at full resolution.
        keep: share of the tokens of the image that is left as regions. The main knob.
        rounds: of merging; more come closer to the best merging, and cost more.
        spatial: weight of the distance in the image beside that of the tokens.
        restore: what is read back: as a ``"delta"`` what a region changed by, on top of the tokens that there were
            (before the final norm), its ``"features"`` before the head, or its ``"logits"`` after it.

    Example:
        >>> import expedit
        >>> expedit.Regions(keep=0.4)
        regions(alpha=0, keep=0.4)
    """

    headline: ClassVar[tuple[str, ...]] = ("alpha", "keep")

    alpha: int = 0
    keep: float = 0.57
    rounds: int = 3
    spatial: float = 0.01
    restore: Restore = "delta"

    def __post_init__(self) -> None:
        integer("alpha", self.alpha, 0)
        number("keep", self.keep, 0, 1)
        integer("rounds", self.rounds, 1)
        number("spatial", self.spatial, 0, float("inf"), open_low=False)
        choice("restore", self.restore, get_args(Restore))

    def cuts(self, net: Anatomy) -> Sequence[Cut]:
        """One span from before block α to the end."""
        integer("alpha", self.alpha, 0, net.depth - 1)
        return [to_the_end(Merging(self), attn(self.alpha), self.restore, net)]


@dataclass(frozen=True)
class Merging:
    """Reducer: tokens on a lattice to the means of regions, in order; they have sizes and leave the lattice."""

    guide: ClassVar[Guide] = "tokens"

    settings: Regions

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        """``(b, n, c)`` on ``grid`` to ``(b, m, c)``, each sample on its own; ValueError without a lattice."""
        s = self.settings
        if grid is None:
            raise ValueError("regions: expected tokens on a lattice, but an earlier reduction took them off it")
        keep = max(round(s.keep * grid.length), 1)
        if keep == grid.length:
            return x, identity(x, grid)
        token_map = merged(x, grid, keep, s.rounds, s.spatial)
        return token_map.down(x), token_map
