"""Average pooling down, bilinear up: the sanity baseline every comparison must contain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, get_args

from torch import Tensor
from torch.nn import functional as F

from ..core import Anatomy, Cut, Grid, Guide, Method, Restore, TokenMap, attn, bilinear, to_map, to_the_end, to_tokens
from ..core.checks import choice, integer
from ..operators.lattice import Cells, checked, fit, identity


@dataclass(frozen=True, repr=False)
class Pool(Method):
    """Adaptive average pooling after ``alpha`` blocks, bilinear interpolation of what comes out at the end.

    Attributes:
        alpha: blocks that run at full resolution.
        grid: h x w, the lattice of pooled tokens, or its share of each side of the token map at hand.
        restore: interpolate the ``"logits"``, the ``"features"`` before the head, or as a ``"delta"`` what the pooled
            tokens changed by, on top of the tokens that there were.

    Example:
        >>> import expedit
        >>> expedit.Pool(alpha=6, grid=(20, 20))
        pool(alpha=6, grid=(20, 20))
    """

    headline: ClassVar[tuple[str, ...]] = ("alpha", "grid")

    alpha: int = 10
    grid: Cells = 0.7
    restore: Restore = "logits"

    def __post_init__(self) -> None:
        integer("alpha", self.alpha, 0)
        object.__setattr__(self, "grid", checked(self.grid))
        choice("restore", self.restore, get_args(Restore))

    def cuts(self, net: Anatomy) -> Sequence[Cut]:
        """One span from before block α to the end."""
        integer("alpha", self.alpha, 0, net.depth - 1)
        return [to_the_end(Averages(self.grid, net.grid), attn(self.alpha), self.restore, net)]


@dataclass(frozen=True)
class Averages:
    """Reducer: adaptive average pooling; its map is bilinear interpolation.

    Attributes:
        grid: lattice of the averages.
        nominal: as in Expedit's reducer.
    """

    guide: ClassVar[Guide] = "tokens"

    grid: Cells
    nominal: Grid | None = None

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        """``(b, n, c)`` on ``grid`` to ``(b, h * w, c)``; ValueError where the cells do not fit the lattice."""
        grid, cells = fit(self.grid, grid, "pool", self.nominal)
        if cells == grid:
            return x, identity(x, grid)
        return to_tokens(F.adaptive_avg_pool2d(to_map(x, grid), cells)), bilinear(grid, cells, x)
