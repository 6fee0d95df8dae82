"""Evo-ViT: informative tokens are updated slowly, all others fast, by what one token that stands for them changes.

Xu et al., "Evo-ViT: Slow-Fast Token Evolution for Dynamic Vision Transformer", AAAI 2022, sections 3.2 and 3.3. No
token is lost. Published, every block selects anew by a running mean of class attentions; here the blocks in ``layers``
select, and their attention sees all tokens, so that a token that was updated fast is judged by what it is.

Cost: none but the selection, which is no matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from ..core import Anatomy, Cut, Grid, Guide, Method, Span, TokenMap, attn, mlp
from ..core.checks import blocks, integer, number
from ..core.tokens import gather_tokens
from ..operators.lattice import identity
from ..operators.matching import descending


@dataclass(frozen=True, repr=False)
class EvoViT(Method):
    """Split tokens by class attention between the attention and the MLP of some blocks, until the next of them.

    Attributes:
        keep_rate: share of the tokens that are updated slowly. The main knob.
        layers: 0-based blocks that select.

    Example:
        >>> import expedit
        >>> expedit.EvoViT(keep_rate=0.6, layers=(2, 6))
        evovit(keep_rate=0.6, layers=(2, 6))
    """

    headline: ClassVar[tuple[str, ...]] = ("keep_rate",)

    keep_rate: float = 0.5
    layers: tuple[int, ...] = (4, 7, 10)

    def __post_init__(self) -> None:
        number("keep_rate", self.keep_rate, 0, 1)
        object.__setattr__(self, "layers", blocks("layers", self.layers))

    def cuts(self, net: Anatomy) -> Sequence[Cut]:
        """One span per selection, one after the other; the difference is read back."""
        integer("layers", self.layers[-1], 0, net.depth - 1)
        split = SlowFast(self.keep_rate)
        stretches = pairwise((*self.layers, net.depth))
        return [Span(split, mlp(layer), attn(following), delta=True) for layer, following in stretches]


@dataclass(frozen=True)
class SlowFast:
    """Reducer: the most attended tokens, then the mean of all others weighted by their class attention."""

    guide: ClassVar[Guide] = "cls_attention"

    keep_rate: float

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        """``x`` ``(b, n, c)``, class attention ``guide`` ``(b, n)`` to ``(b, keep + 1, c)``."""
        n, keep = x.shape[1], math.ceil(self.keep_rate * x.shape[1])
        if keep == n:
            return x, identity(x, grid)
        order = descending(guide)
        ordered, score = gather_tokens(x, order), guide.gather(1, order)
        weight = score[:, keep:, None] / score[:, keep:, None].sum(1, keepdim=True).clamp_min(1e-30)
        package = (ordered[:, keep:].float() * weight).sum(1, keepdim=True).to(x.dtype)
        place = torch.arange(n, device=x.device).clamp(max=keep).expand_as(order)
        index = torch.zeros_like(order).scatter(1, order, place)[:, :, None]
        return torch.cat((ordered[:, :keep], package), 1), TokenMap(index, None, keep + 1)
