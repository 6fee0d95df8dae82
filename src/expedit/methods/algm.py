"""ALGM: merge 2 x 2 windows of one kind early, then similar tokens anywhere in the middle of the network.

Norouzi et al., "ALGM: Adaptive Local-then-Global Token Merging for Efficient Semantic Segmentation with Plain Vision
Transformers", CVPR 2024, sections 3.2 and 3.3. Published, thresholds decide how many tokens merge, the fewest of the
batch; here budgets do, so that an image does not depend on its batch-mates. Published, attention does not know sizes,
which training makes up for; without training it has to.

Cost for n tokens of width c: n² / 4 · c for the global matching; the windows cost no matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core import LOGITS, Anatomy, Cut, Grid, Guide, Method, Span, TokenMap, mlp
from ..core.checks import choice, integer, number
from ..operators.matching import descending, grouped, joined, most_similar


@dataclass(frozen=True, repr=False)
class ALGM(Method):
    """Local merging after the attention of one block, global merging after that of a later one; undone at the end.

    Attributes:
        windows: share of the 2 x 2 windows that merge, those whose tokens are most alike.
        ratio: share of the tokens left that the global step merges; half of them is the most possible.
        layers: 0-based blocks of the two steps.
        size_bias: add the logarithm of a token's size to the logits of its key, and let it count by its size in means.

    Example:
        >>> import expedit
        >>> expedit.ALGM(windows=0.6, ratio=0.2)
        algm(windows=0.6, ratio=0.2)
    """

    headline: ClassVar[tuple[str, ...]] = ("windows", "ratio")

    windows: float = 0.5
    ratio: float = 0.2
    layers: tuple[int, int] = (1, 5)
    size_bias: bool = True

    def __post_init__(self) -> None:
        number("windows", self.windows, 0, 1, open_low=False)
        number("ratio", self.ratio, 0, 1, open_low=False)
        if not isinstance(self.layers, (tuple, list)) or len(self.layers) != 2:
            raise ValueError(f"layers: expected two blocks such as (1, 5), got {self.layers!r}")
        first = integer("layers", self.layers[0], 0)
        object.__setattr__(self, "layers", (first, integer("layers", self.layers[1], first + 1)))
        choice("size_bias", self.size_bias, (False, True))

    def cuts(self, net: Anatomy) -> Sequence[Cut]:
        """Two nested spans from after an attention to the logits."""
        local, later = (integer("layers", layer, 0, net.depth - 1) for layer in self.layers)
        return [
            Span(Windows(self.windows, self.size_bias), mlp(local), LOGITS),
            Span(Matched(self.ratio, self.size_bias), mlp(later), LOGITS, by_size=True),
        ]


@dataclass(frozen=True)
class Windows:
    """Reducer: whole 2 x 2 windows to their means, the share of them whose mean cosine of two tokens is largest."""

    guide: ClassVar[Guide] = "tokens"

    share: float
    sized: bool

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        """``(b, n, c)`` on ``grid`` to ``(b, n - 3 * merged, c)``, in order; an odd last row or column stays."""
        if grid is None:
            raise ValueError("algm: expected tokens on a lattice, but an earlier reduction took them off it")
        rows, columns = grid.h // 2, grid.w // 2
        merged = int(self.share * rows * columns)
        place = torch.arange(grid.length, device=x.device).unflatten(0, grid)
        whole = place[: 2 * rows, : 2 * columns].unflatten(1, (columns, 2)).unflatten(0, (rows, 2))
        windows = whole.transpose(1, 2).flatten(2).flatten(0, 1)
        unit = F.normalize(x.float(), dim=2)
        # |sum of four unit tokens|² = 4 + 2 · (sum of six cosines)
        alike = (unit[:, windows.flatten()].unflatten(1, windows.shape).sum(2).square().sum(2) - 4) / 12
        chosen = windows[descending(alike)[:, :merged]]
        first = chosen[:, :, :1].expand_as(chosen)
        root = place.flatten().expand(x.shape[0], -1).scatter(1, chosen.flatten(1), first.flatten(1))
        token_map = grouped(root, grid.length - 3 * merged, self.sized)
        return token_map.down(x), token_map


@dataclass(frozen=True)
class Matched:
    """Reducer: every second token may join its most similar one among the others."""

    guide: ClassVar[Guide] = "tokens"

    ratio: float
    sized: bool

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        """``(b, n, c)`` to ``(b, n - r, c)``, means of groups, in order."""
        n = x.shape[1]
        places = torch.arange(n, device=x.device)
        score, target = most_similar(x[:, ::2], x[:, 1::2])
        r = min(int(n * self.ratio), n // 2)
        token_map = joined(score, target, r, places[::2], places[1::2], n, self.sized)
        return token_map.down(x), token_map
