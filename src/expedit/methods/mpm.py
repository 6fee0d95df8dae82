"""MPM: two tokens merge where each is the other's most similar one.

"Mutual Pair Merging", arXiv 2604.05718: pairs by cosine before two early blocks, the mean of a pair, one gather at the
end. Published, all mutual pairs merge, which is another number for every image; here a budget decides: the most similar
pairs, and where an image has too few, tokens follow their most similar one into its group.

Cost of one merge of n tokens of width c: n² · c for the cosines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core import LOGITS, Anatomy, Cut, Grid, Guide, Method, Span, TokenMap, attn
from ..core.checks import blocks, choice, integer, number
from ..operators.matching import descending, grouped
from ..operators.similarity import cosines


@dataclass(frozen=True, repr=False)
class MPM(Method):
    """Merge mutual pairs before some blocks; undo it all at the end.

    Attributes:
        ratio: share of the tokens that each merge removes, at most a half.
        layers: 0-based blocks before which pairs merge.
        size_bias: add the logarithm of a token's size to the logits of its key; published, attention does not know it.

    Example:
        >>> import expedit
        >>> expedit.MPM(ratio=0.25)
        mpm(ratio=0.25)
    """

    headline: ClassVar[tuple[str, ...]] = ("ratio",)

    ratio: float = 0.3
    layers: tuple[int, ...] = (2, 5)
    size_bias: bool = True

    def __post_init__(self) -> None:
        number("ratio", self.ratio, 0, 0.5, open_low=False)
        object.__setattr__(self, "layers", blocks("layers", self.layers))
        choice("size_bias", self.size_bias, (False, True))

    def cuts(self, net: Anatomy) -> Sequence[Cut]:
        """One span per merge, nested."""
        pairs = Pairs(self.ratio, self.size_bias)
        return [Span(pairs, attn(integer("layers", layer, 0, net.depth - 1)), LOGITS) for layer in self.layers]


@dataclass(frozen=True)
class Pairs:
    """Reducer: the budget's most similar mutual pairs to their means, then tokens that follow their most similar one.

    Attributes:
        ratio: share of the tokens that are removed.
        sized: attention shall know the sizes.
    """

    guide: ClassVar[Guide] = "tokens"

    ratio: float
    sized: bool

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        """``(b, n, c)`` to ``(b, n - r, c)``, each where the first of its pair was."""
        n = x.shape[1]
        r = int(self.ratio * n)
        place = torch.arange(n, device=x.device)
        score, partner = cosines(x).masked_fill(place[:, None] == place, -2).max(2)
        mutual = partner.gather(1, partner) == place
        # pairs before followers; whom a pair leaves never goes, so at least half of the tokens can
        order = torch.where(mutual, 0.5, 0) + (score.clamp(-1, 1) + 1) / 4
        order = torch.where(mutual & (place < partner), -1, order)
        goes = torch.zeros_like(mutual).scatter(1, descending(order)[:, :r], True)
        root = torch.where(goes, partner, place)
        for _ in range(n.bit_length()):  # likeness grows along a chain of followers, so it ends; each round halves it
            root = root.gather(1, root)
        token_map = grouped(root, n - r, self.sized)
        return token_map.down(x), token_map
