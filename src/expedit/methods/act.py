"""ACT: attention of query clusters found by locality-sensitive hashing; keys and values stay whole.

Zheng et al., "End-to-End Object Detection with Adaptive Clustering Transformer", BMVC 2021, as in the Expedit paper's
comparison. The number of clusters depends on the data: this is the one method without static shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core import Anatomy, Attend, Cut, GroupedQueries, Method, TokenMap, attn
from ..core.checks import integer
from ..operators.similarity import full_precision

CELL = 8.0
"""Width of a hash cell."""


@dataclass(frozen=True, repr=False)
class ACT(Method):
    """E2LSH query clustering in every attention.

    Attributes:
        query_hashes: number of hash functions L, at most 32 (two bits each in one 64-bit code). More is finer.
        seed: of the random projections, which are drawn when the method is built into a network.

    Example:
        >>> import expedit
        >>> expedit.ACT(query_hashes=16)
        act(query_hashes=16)
    """

    headline: ClassVar[tuple[str, ...]] = ("query_hashes",)
    static: ClassVar[bool] = False

    query_hashes: int = 24
    seed: int = 0

    def __post_init__(self) -> None:
        integer("query_hashes", self.query_hashes, 1, 32)
        integer("seed", self.seed, 0)

    def cuts(self, net: Anatomy) -> Sequence[Cut]:
        """One kernel with its own hash functions per block."""
        generator = torch.Generator().manual_seed(self.seed)
        cuts: list[Cut] = []
        for block in range(net.depth):
            projection = torch.randn(net.head_dim, self.query_hashes, generator=generator)
            bias = torch.rand(self.query_hashes, generator=generator)
            cuts.append(Attend(QueryClusters(projection, bias), attn(block)))
        return cuts


class QueryClusters(GroupedQueries):
    """Queries with equal hash codes share one row of attention and receive the output of their mean query.

    Args:
        projection: ``(head_dim, hashes)``, normal.
        bias: ``(hashes,)``, uniform in [0, 1).
    """

    projection: Tensor
    bias: Tensor

    def __init__(self, projection: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("projection", projection, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def codes(self, q: Tensor) -> Tensor:
        """Packed hash codes ``(rows, tokens)`` int64 of scaled queries ``(rows, tokens, head_dim)``.

        Two bits per hash: a cell index above 3 carries into the next hash's bits and the top ones wrap around, as in
        the official packing. Codes may collide, but equal cells never part.
        """
        with full_precision(q.device):
            projected = self.projection.float().t() @ q.float().mT + self.bias.float()[:, None]
        cell = (projected / CELL).floor().long()  # (rows, hashes, tokens)
        cell = cell - cell.amin(2, keepdim=True)
        shift = 2 * torch.arange(cell.shape[1], device=q.device)
        return (cell << shift[:, None]).sum(1)

    def groups(self, q: Tensor) -> Tensor:
        """Cluster of every query, ``(rows, tokens)`` int64 from 0 in ascending order of the codes of its row."""
        ordered, order = self.codes(q).sort(1)
        starts = F.pad(ordered[:, 1:] != ordered[:, :-1], (1, 0)).cumsum(1)
        return torch.empty_like(order).scatter(1, order, starts)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See ``GroupedQueries``; a ``bias`` is the same for all queries, or ValueError."""
        if bias is not None and bias.shape[2] != 1:
            raise ValueError("act: queries share rows of attention, so a bias by query does not fit them")
        scaled = (q * q.shape[-1] ** -0.5).flatten(0, 1)
        group = self.groups(scaled)
        clusters = TokenMap(group[:, :, None], None, int(group.max()) + 1)
        centre = clusters.down(scaled).unflatten(0, q.shape[:2])
        bias = None if bias is None else bias.to(centre.dtype)
        out = F.scaled_dot_product_attention(centre, k, v, attn_mask=bias, scale=1.0)
        return clusters.up(out.flatten(0, 1)).unflatten(0, q.shape[:2]), group
