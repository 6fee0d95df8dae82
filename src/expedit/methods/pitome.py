"""PiToMe: merge the tokens that resemble many others, protect those that stand alone.

Tran et al., "Accelerating Transformers with Spectrum-Preserving Token Merging", NeurIPS 2024, section 3 (energy score,
ordered split). Here every merge is undone at the end.

Cost of one merge of n tokens: n² · d for the energies (d: width of a head) and r² · d for the matching.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from ..core import LOGITS, Anatomy, Cut, Grid, Guide, Method, Span, TokenMap, mlp
from ..core.checks import choice, integer, number
from ..core.tokens import gather_tokens
from ..operators.lattice import identity
from ..operators.matching import descending, joined, most_similar
from ..operators.similarity import cosines


@dataclass(frozen=True, repr=False)
class PiToMe(Method):
    """Merge between the attention and the MLP of every block from ``alpha`` on; undo it all at the end.

    Attributes:
        keep: share of the tokens that each merge leaves, at least a half of them. The main knob.
        alpha: blocks before the first that merges.
        margin: cosine above which two tokens of the first block count as alike; falls linearly to 0 over the blocks.
        size_bias: add the logarithm of a token's size to the logits of its key (proportional attention), and let it
            count by its size in means.

    Example:
        >>> import expedit
        >>> expedit.PiToMe(keep=0.9)
        pitome(keep=0.9)
    """

    headline: ClassVar[tuple[str, ...]] = ("keep",)

    keep: float = 0.95
    alpha: int = 0
    margin: float = 0.9
    size_bias: bool = True

    def __post_init__(self) -> None:
        number("keep", self.keep, 0, 1)
        integer("alpha", self.alpha, 0)
        number("margin", self.margin, 0, 1, open_low=False)
        choice("size_bias", self.size_bias, (False, True))

    def cuts(self, net: Anatomy) -> Sequence[Cut]:
        """One span per block, nested."""
        integer("alpha", self.alpha, 0, net.depth - 1)
        margins = {block: self.margin * (1 - block / net.depth) for block in range(self.alpha, net.depth)}
        return [Span(Energetic(self, margin), mlp(block), LOGITS, by_size=True) for block, margin in margins.items()]


@dataclass(frozen=True)
class Energetic:
    """Reducer: of the tokens with the most energy every second one joins the most similar of the others.

    Attributes:
        settings: of the method.
        margin: of this block.
    """

    guide: ClassVar[Guide] = "keys"

    settings: PiToMe
    margin: float

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        """``x`` ``(b, n, c)``, keys ``guide`` ``(b, n, d)`` to ``(b, n - r, c)``, means of groups, in order."""
        n = x.shape[1]
        r = min(n - math.ceil(self.settings.keep * n), n // 2)
        if r == 0:
            return x, identity(x, grid)
        order = descending(energy(guide, self.margin))[:, : 2 * r]
        sources, destinations = order[:, ::2], order[:, 1::2]
        ordered = gather_tokens(guide, order)
        score, target = most_similar(ordered[:, ::2], ordered[:, 1::2])
        token_map = joined(score, target, r, sources, destinations, n, self.settings.size_bias)
        return token_map.down(x), token_map


def energy(keys: Tensor, margin: float) -> Tensor:
    """How many others a token is like: mean over all tokens of ELU(cosine - margin), ``(b, n, d) -> (b, n)`` fp32."""
    return F.elu(cosines(keys) - margin).mean(2)
