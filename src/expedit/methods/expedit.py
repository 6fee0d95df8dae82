"""Expedit: cluster the tokens after block α, read them back by their distances to the clusters.

Liang et al., "Expediting Large-Scale Vision Transformer for Dense Prediction without Fine-tuning", NeurIPS 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, get_args

from torch import Tensor

from ..core import Anatomy, Cut, Grid, Guide, Method, Restore, TokenMap, attn, to_the_end
from ..core.checks import choice, integer, number
from ..operators.clustering import cluster, cluster_to_scale
from ..operators.lattice import Cells, checked, fit, identity
from ..operators.similarity import Normalize, reading_weights

LEAST = 1e-3
"""Size of a cluster that nobody reads: attention passes it by."""


@dataclass(frozen=True, repr=False)
class Expedit(Method):
    """Token clustering after ``alpha`` blocks, token reconstruction at the end.

    Attributes:
        alpha: α, blocks that run at full resolution (Swin: counted over all stages).
        grid: h x w, the lattice of clusters, or its share of each side of the token map at hand: 0.7 is 28 x 28 of
            40 x 40. Swin: per window. The main knob beside α.
        iterations: updates of the clustering.
        neighbourhood: odd side of the cells around a token that may serve it.
        sharpness: what multiplies squared distances in units of their scale, the mean squared distance of the tokens
            of an image to the cell averages that clustering starts with. Small is soft.
        temperature: what multiplies squared distances as they are, in place of ``sharpness``; published: 0.02.
        top_k: clusters that a token reads at the end; all where there are fewer, or for -1.
        restore_temperature: what multiplies squared distances in the reconstruction; ``None`` is as in the clustering.
        normalize: ``"l1"``: the weights of a token sum to 1; or ``"l2"`` as published.
        restore: ``"logits"`` as published (the head runs on the clusters), ``"features"`` (before the head), or
            ``"delta"`` (before the final norm: what the clusters changed by, on top of the tokens that there were).
        size_bias: attention weights a cluster by the number of tokens that read it. ``None``: where it can, unless a
            ``temperature`` is given, as published.
        official_weights: reconstruct as the official code does: tokens far from every cluster shrink or vanish.

    Example:
        >>> import expedit
        >>> expedit.Expedit(alpha=6, grid=(20, 20), top_k=10)
        expedit(alpha=6, grid=(20, 20), top_k=10)
    """

    headline: ClassVar[tuple[str, ...]] = ("alpha", "grid")

    alpha: int = 10
    grid: Cells = 0.7
    iterations: int = 5
    neighbourhood: int = 5
    sharpness: float = 8.0
    temperature: float | None = None
    top_k: int = 20
    restore_temperature: float | None = None
    normalize: Normalize = "l1"
    restore: Restore = "logits"
    size_bias: bool | None = None
    official_weights: bool = False

    def __post_init__(self) -> None:
        integer("alpha", self.alpha, 0)
        object.__setattr__(self, "grid", checked(self.grid))
        integer("iterations", self.iterations, 0)
        if integer("neighbourhood", self.neighbourhood, 1) % 2 == 0:
            raise ValueError(f"neighbourhood: expected an odd integer, got {self.neighbourhood}")
        number("sharpness", self.sharpness, 0, float("inf"))
        for name in ("temperature", "restore_temperature"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), 0, float("inf"))
        if self.top_k != -1:
            integer("top_k", self.top_k, 1)
        choice("normalize", self.normalize, ("l1", "l2"))
        choice("restore", self.restore, get_args(Restore))
        choice("size_bias", self.size_bias, (None, False, True))
        choice("official_weights", self.official_weights, (False, True))

    def cuts(self, net: Anatomy) -> Sequence[Cut]:
        """One span from before block α to the end."""
        integer("alpha", self.alpha, 0, net.depth - 1)
        sized = net.sized and self.temperature is None if self.size_bias is None else self.size_bias
        return [to_the_end(Clusters(self, net.grid, sized), attn(self.alpha), self.restore, net)]


@dataclass(frozen=True)
class Clusters:
    """Reducer: tokens on a lattice to cluster centres on a smaller one.

    Attributes:
        settings: of the method.
        nominal: token lattice of the network's own image size; smaller images keep what they have.
        sized: clusters have sizes.
    """

    guide: ClassVar[Guide] = "tokens"

    settings: Expedit
    nominal: Grid | None = None
    sized: bool = False

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        """``(b, n, c)`` on ``grid`` to ``(b, h * w, c)``; ValueError where the clusters do not fit the lattice."""
        s = self.settings
        grid, cells = fit(s.grid, grid, "expedit", self.nominal)
        if cells == grid:
            return x, identity(x, grid)
        sizes = (grid, cells, s.iterations, s.neighbourhood)
        temperature: float | Tensor
        if s.temperature is None:
            centres, temperature = cluster_to_scale(x, *sizes, s.sharpness)
        else:
            centres, temperature = cluster(x, *sizes, s.temperature), s.temperature
        if s.restore_temperature is not None:
            temperature = s.restore_temperature
        top_k = min(s.top_k, cells.length)
        index, weight = reading_weights(x, centres, top_k, temperature, s.normalize, s.official_weights)
        token_map = TokenMap(index, weight, cells.length, cells)
        if self.sized:
            token_map = replace(token_map, sizes=token_map.mass().clamp_min(LEAST))
        return centres.to(x.dtype), token_map
