"""Dense ToMe: merge similar tokens before every attention and every MLP, un-merge after it.

Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023, in the merge and un-merge form of the Expedit paper's
comparison: the normed tokens are compared, means are unweighted, sizes do not add up over blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core import Anatomy, Around, Cut, Grid, Guide, Method, TokenMap
from ..core.checks import number
from ..operators.matching import joined, most_similar


@dataclass(frozen=True, repr=False)
class ToMe(Method):
    """Bipartite matching around every residual branch.

    Attributes:
        ratio: share of all tokens (prefix included) merged away before each branch; half of them is the most possible.

    Example:
        >>> import expedit
        >>> expedit.ToMe(ratio=0.5)
        tome(ratio=0.5)
    """

    headline: ClassVar[tuple[str, ...]] = ("ratio",)

    ratio: float = 0.3

    def __post_init__(self) -> None:
        number("ratio", self.ratio, 0, 1, open_low=False)

    def cuts(self, net: Anatomy) -> Sequence[Cut]:
        """Around all ``2 * depth`` steps."""
        return [Around(Merged(self.ratio, net.prefix), step) for step in range(2 * net.depth)]


@dataclass(frozen=True)
class Merged:
    """Reducer: every second token may join its most similar neighbour among the others.

    Attributes:
        ratio: share of ``prefix + n`` tokens to merge.
        prefix: tokens in front of those this reducer sees; they decide the parity of the split.
    """

    guide: ClassVar[Guide] = "tokens"

    ratio: float
    prefix: int

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        """``(b, n, c)`` to ``(b, n - r, c)``: those that stay, in order, each the mean of its group."""
        n = x.shape[1]
        first = self.prefix % 2  # sources stand at even places of the full sequence, destinations at odd ones
        places = torch.arange(n, device=x.device)
        sources, destinations = places[first::2], places[1 - first :: 2]
        score, target = most_similar(guide[:, first::2], guide[:, 1 - first :: 2])
        r = min(int((n + self.prefix) * self.ratio), (n + self.prefix - 1) // 2, sources.shape[0])
        token_map = joined(score, target, r, sources, destinations, n)
        return token_map.down(x), token_map
