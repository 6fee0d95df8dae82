"""EViT: keep the tokens the class token attends to, fuse the others into one.

Liang et al., "Not All Patches are What You Need: Expediting Vision Transformers via Token Reorganizations",
ICLR 2022, with the nearest-kept-token read-back of the Expedit paper's comparison.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core import FEATURES, Anatomy, Cut, Grid, Guide, Method, Span, TokenMap, mlp
from ..core.checks import blocks, integer, number
from ..core.tokens import gather_tokens
from ..operators.lattice import identity
from ..operators.matching import descending
from ..operators.similarity import nearest, reading_weights


@dataclass(frozen=True, repr=False)
class EViT(Method):
    """Prune between the attention and the MLP of some blocks; undo it after the final norm.

    Attributes:
        keep_rate: share of the tokens that each pruning keeps. The main knob.
        layers: 0-based blocks that prune.
        fuse: add the dropped tokens up, weighted by their class attention, into one extra token.
        top_k: kept tokens that a dropped one reads at the end; 1 copies the nearest.
        restore_temperature: multiplies the squared distance there; without effect for ``top_k=1``.

    Example:
        >>> import expedit
        >>> expedit.EViT(keep_rate=0.7, layers=(3, 6, 9))
        evit(keep_rate=0.7, layers=(3, 6, 9))
    """

    headline: ClassVar[tuple[str, ...]] = ("keep_rate",)

    keep_rate: float = 0.8
    layers: tuple[int, ...] = (7, 13, 19)
    fuse: bool = True
    top_k: int = 1
    restore_temperature: float = 0.005

    def __post_init__(self) -> None:
        number("keep_rate", self.keep_rate, 0, 1)
        object.__setattr__(self, "layers", blocks("layers", self.layers))
        integer("top_k", self.top_k, 1)
        number("restore_temperature", self.restore_temperature, 0, float("inf"))

    def cuts(self, net: Anatomy) -> Sequence[Cut]:
        """One span per pruning layer, nested, all undone after the final norm."""
        for layer in self.layers:
            integer("layers", layer, 0, net.depth - 1)
        return [Span(Attentive(self), mlp(layer), FEATURES) for layer in self.layers]


@dataclass(frozen=True)
class Attentive:
    """Reducer: the most attended tokens in descending order, then the fused one."""

    guide: ClassVar[Guide] = "cls_attention"

    settings: EViT

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        """``x`` ``(b, n, c)``, scores ``guide`` ``(b, n)`` to ``(b, keep + fuse, c)``, each sample on its own."""
        s = self.settings
        keep = math.ceil(s.keep_rate * x.shape[1])
        if keep == x.shape[1]:
            return x, identity(x, grid)
        if s.top_k > keep:
            raise ValueError(f"evit: top_k ({s.top_k}) is larger than the {keep} tokens that are kept")
        order = descending(guide)
        ordered = gather_tokens(x, order)
        kept, dropped = ordered[:, :keep], ordered[:, keep:]
        index, weight = self._read(kept, dropped)
        place = order[:, :, None].expand_as(index)
        index = torch.zeros_like(index).scatter(1, place, index)
        weight = None if weight is None else torch.zeros_like(weight).scatter(1, place, weight)
        if s.fuse:
            fused = (dropped * guide.gather(1, order[:, keep:])[:, :, None].to(x.dtype)).sum(1, keepdim=True)
            kept = torch.cat((kept, fused), 1)
        return kept, TokenMap(index, weight, kept.shape[1], None)

    def _read(self, kept: Tensor, dropped: Tensor) -> tuple[Tensor, Tensor | None]:
        """What every token (kept ones first) reads of the kept ones: itself, or those most like it."""
        b, keep = kept.shape[:2]
        own = torch.arange(keep, device=kept.device).expand(b, keep)[:, :, None]
        if self.settings.top_k == 1:
            return torch.cat((own, nearest(dropped, kept)), 1), None
        index, weight = reading_weights(dropped, kept, self.settings.top_k, self.settings.restore_temperature)
        own = own.expand(-1, -1, index.shape[2])
        itself = torch.zeros_like(own, dtype=weight.dtype)
        itself[:, :, 0] = 1
        return torch.cat((own, index), 1), torch.cat((itself, weight), 1)
