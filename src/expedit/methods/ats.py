"""ATS: sample tokens by how much they give to the class token.

Fayyaz et al., "Adaptive Token Sampling for Efficient Vision Transformers", ECCV 2022, section 3: significance scores
and inverse transform sampling at evenly spaced points. Published, a token that is drawn twice leaves fewer; here the
next most significant ones fill up, so that the count is that of the settings. Dropped tokens copy the kept one nearest
to them when they were dropped, as EViT's do.

Cost of one sampling of n tokens of width c to m: (n - m) · m · c for the nearest ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core import FEATURES, Anatomy, Cut, Grid, Guide, Method, Span, TokenMap, mlp
from ..core.checks import blocks, integer, number
from ..core.tokens import gather_tokens
from ..operators.lattice import identity
from ..operators.matching import descending
from ..operators.similarity import nearest


@dataclass(frozen=True, repr=False)
class ATS(Method):
    """Sample between the attention and the MLP of some blocks; undo it after the final norm.

    Attributes:
        keep_rate: share of the tokens that each sampling keeps. The main knob.
        layers: 0-based blocks that sample.

    Example:
        >>> import expedit
        >>> expedit.ATS(keep_rate=0.6, layers=(2, 4))
        ats(keep_rate=0.6, layers=(2, 4))
    """

    headline: ClassVar[tuple[str, ...]] = ("keep_rate",)

    keep_rate: float = 0.8
    layers: tuple[int, ...] = (3, 6, 9)

    def __post_init__(self) -> None:
        number("keep_rate", self.keep_rate, 0, 1)
        object.__setattr__(self, "layers", blocks("layers", self.layers))

    def cuts(self, net: Anatomy) -> Sequence[Cut]:
        """One span per sampling layer, nested, all undone after the final norm."""
        sampled = Sampled(self.keep_rate)
        return [Span(sampled, mlp(integer("layers", layer, 0, net.depth - 1)), FEATURES) for layer in self.layers]


@dataclass(frozen=True)
class Sampled:
    """Reducer: the tokens drawn, then the most significant others."""

    guide: ClassVar[Guide] = "significance"

    keep_rate: float

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        """``x`` ``(b, n, c)``, significance ``guide`` ``(b, n)`` to ``(b, keep, c)``, the most significant first."""
        keep = math.ceil(self.keep_rate * x.shape[1])
        if keep == x.shape[1]:
            return x, identity(x, grid)
        order = descending((guide + drawn(guide, keep).float()) / 2)
        ordered = gather_tokens(x, order)
        kept, dropped = ordered[:, :keep], ordered[:, keep:]
        own = torch.arange(keep, device=x.device).expand(x.shape[0], -1)[:, :, None]
        index = torch.cat((own, nearest(dropped, kept)), 1)
        return kept, TokenMap(torch.zeros_like(index).scatter(1, order[:, :, None], index), None, keep)


def drawn(score: Tensor, draws: int) -> Tensor:
    """Tokens at whose scores the distribution function passes one of ``draws`` evenly spaced points, ``(b, n)`` bool.

    The points are (k - 1/2) / draws. Sums are over integers, so they are the same on every device.
    """
    parts = (score.float() * 2.0**30).long()
    total = parts.sum(1, keepdim=True).clamp_min(1)
    passed = (2 * draws * parts.cumsum(1) + total) // (2 * total)
    return passed > F.pad(passed[:, :-1], (1, 0))
