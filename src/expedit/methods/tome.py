"""Dense ToMe: merge similar tokens before every attention and every MLP, un-merge behind it.

Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023, in the merge and un-merge form of the Expedit paper's
comparison (spec e): the normed tokens are compared, means are unweighted, sizes do not add up over blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core import Anatomy, Around, Cut, Grid, Guide, Method, TokenMap
from ..core.checks import number
from ..operators.similarity import full_precision


@dataclass(frozen=True, repr=False)
class ToMe(Method):
    """Bipartite matching around every residual branch.

    Attributes:
        ratio: share of all tokens (prefix included) merged away before each branch; half of them is the most possible.
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

    ratio: float
    prefix: int

    @property
    def guide(self) -> Guide:
        """The normed tokens are their own metric."""
        return "tokens"

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        """``(b, n, c)`` to ``(b, n - r, c)``: sources that stay, then all destinations, each the mean of its group."""
        b, n = x.shape[:2]
        first = self.prefix % 2  # sources stand at even places of the full sequence, destinations at odd ones
        metric = guide.float()
        scale = 1 / metric.norm(dim=2).clamp(min=1e-8)  # of the products: there are fewer of them than of values
        source, destination = metric[:, first::2], metric[:, 1 - first :: 2]
        sources = source.shape[1]
        r = min(int((n + self.prefix) * self.ratio), (n + self.prefix - 1) // 2, sources)
        with full_precision(x.device):
            products = torch.bmm(source, destination.transpose(1, 2))
        best, target = (products * scale[:, None, 1 - first :: 2]).max(2)
        similarity = best * scale[:, first::2]
        order = similarity.argsort(dim=1, descending=True, stable=True)  # a top-k would leave ties to the device
        stays = torch.ones_like(order).scatter(1, order[:, :r], 0)
        place = torch.where(stays > 0, stays.cumsum(1) - 1, sources - r + target)
        index = torch.empty(b, n, dtype=torch.long, device=x.device)
        index[:, first::2] = place
        index[:, 1 - first :: 2] = torch.arange(sources - r, n - r, device=x.device)
        token_map = TokenMap(index[:, :, None], None, n - r, None)
        return token_map.down(x), token_map
