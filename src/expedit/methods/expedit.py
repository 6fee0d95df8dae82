"""Expedit: cluster the tokens after block α, read them back by their distances to the clusters.

Liang et al., "Expediting Large-Scale Vision Transformer for Dense Prediction without Fine-tuning", NeurIPS 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from ..core import FEATURES, LOGITS, Anatomy, Cut, Grid, Guide, Method, Span, TokenMap, attn
from ..core.checks import choice, integer, number, pair
from ..operators.clustering import cluster
from ..operators.lattice import fit, identity
from ..operators.similarity import Normalize, reading_weights


@dataclass(frozen=True, repr=False)
class Expedit(Method):
    """Token clustering after ``alpha`` blocks, token reconstruction at the end.

    Attributes:
        alpha: α, blocks that run at full resolution (Swin: counted over all stages).
        grid: h x w, the lattice of clusters (Swin: per window). The main knob beside α.
        iterations: updates of the clustering.
        neighbourhood: odd side of the cells around a token that may serve it.
        temperature: multiplies the squared distance in the clustering.
        top_k: clusters that a token reads at the end; -1 reads all.
        restore_temperature: the same as ``temperature`` in the reconstruction; ``None`` takes ``temperature``.
        normalize: ``"l2"`` as published, or ``"l1"``: the weights of a token sum to 1.
        restore: ``"logits"`` as published (the head runs on the clusters), or ``"features"`` (before the head).

    Example:
        >>> import expedit
        >>> expedit.Expedit(alpha=6, grid=(20, 20), top_k=10)
        expedit(alpha=6, grid=(20, 20), top_k=10)
    """

    headline: ClassVar[tuple[str, ...]] = ("alpha", "grid")

    alpha: int = 10
    grid: tuple[int, int] = (28, 28)
    iterations: int = 5
    neighbourhood: int = 5
    temperature: float = 0.02
    top_k: int = 20
    restore_temperature: float | None = None
    normalize: Normalize = "l2"
    restore: Literal["logits", "features"] = "logits"

    def __post_init__(self) -> None:
        integer("alpha", self.alpha, 0)
        object.__setattr__(self, "grid", pair("grid", self.grid))
        integer("iterations", self.iterations, 0)
        if integer("neighbourhood", self.neighbourhood, 1) % 2 == 0:
            raise ValueError(f"neighbourhood: expected an odd integer, got {self.neighbourhood}")
        number("temperature", self.temperature, 0, float("inf"))
        clusters = self.grid[0] * self.grid[1]
        if self.top_k != -1 and integer("top_k", self.top_k, 1) > clusters:
            raise ValueError(f"top_k: expected at most the {clusters} clusters of grid {self.grid}, got {self.top_k}")
        if self.restore_temperature is not None:
            number("restore_temperature", self.restore_temperature, 0, float("inf"))
        choice("normalize", self.normalize, ("l2", "l1"))
        choice("restore", self.restore, ("logits", "features"))

    def cuts(self, net: Anatomy) -> Sequence[Cut]:
        """One span from before block α to the named end."""
        integer("alpha", self.alpha, 0, net.depth - 1)
        return [Span(Clusters(self, net.grid), attn(self.alpha), LOGITS if self.restore == "logits" else FEATURES)]


@dataclass(frozen=True)
class Clusters:
    """Reducer: tokens on a lattice to cluster centres on a smaller one.

    Attributes:
        settings: of the method.
        nominal: token lattice of the network's own image size; smaller images keep what they have (``core.lattice``).
    """

    guide: ClassVar[Guide] = "tokens"

    settings: Expedit
    nominal: Grid | None = None

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        """``(b, n, c)`` on ``grid`` to ``(b, h * w, c)``; ValueError where the clusters do not fit the lattice."""
        s = self.settings
        grid, cells = fit(s.grid, grid, "expedit", self.nominal)
        if cells == grid:
            return x, identity(x, grid)
        centres = cluster(x, grid, cells, s.iterations, s.neighbourhood, s.temperature)
        temperature = s.temperature if s.restore_temperature is None else s.restore_temperature
        index, weight = reading_weights(x, centres, min(s.top_k, cells.length), temperature, s.normalize)
        return centres.to(x.dtype), TokenMap(index, weight, cells.length, cells)
