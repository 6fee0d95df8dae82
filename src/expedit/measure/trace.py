"""Watch a model work: token maps, query clusters, tokens per branch. Nothing of it stays in the model."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..core import Grid, Guide, Plan, Reducer, TokenMap
from ..methods.act import QueryClusters
from ..surgery import find_backbone, share


@dataclass
class Trace:
    """What one forward pass did.

    Attributes:
        maps: token map by position, in the order in which they were made.
        groups: cluster of every query ``(b * heads, n)`` by position (ACT).
        tokens: length of the sequence that entered each branch.
    """

    maps: dict[int, TokenMap] = field(default_factory=dict)
    groups: dict[int, Tensor] = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)

    @property
    def clusters(self) -> list[int]:
        """Query clusters of every block: the largest number over heads and samples (ACT)."""
        return [int(group.max()) + 1 for group in self.groups.values()]

    def owner(self, prefix: int, grid: Grid) -> Tensor | None:
        """Cluster of every token of the first image as a picture ``(h, w)``: the spans' maps composed, the last
        merge, or the last block's first head of ACT; ``None`` if nothing was reduced."""
        if self.groups:
            return list(self.groups.values())[-1][0, prefix:].unflatten(0, grid)
        maps = list(self.maps.values())
        if not maps:
            return None
        if len(maps[-1].index[0]) == grid.length:  # every map speaks of all tokens: merge and un-merge
            return maps[-1].owner()[0].unflatten(0, grid)
        owner = maps[0].owner()[0]
        for token_map in maps[1:]:
            owner = token_map.owner()[0][owner]
        return owner.unflatten(0, grid)


@dataclass(frozen=True)
class _Watched:
    """A reducer that leaves its map in the trace."""

    reducer: Reducer
    position: int
    maps: dict[int, TokenMap]

    @property
    def guide(self) -> Guide:
        return self.reducer.guide

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        small, token_map = self.reducer(x, guide, grid)
        self.maps[self.position] = token_map
        return small, token_map


class _WatchedClusters(nn.Module):
    """ACT's kernel, leaving its groups in the trace."""

    def __init__(self, kernel: QueryClusters, position: int, groups: dict[int, Tensor]) -> None:
        super().__init__()
        self.kernel, self.position, self.groups = kernel, position, groups

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out, self.groups[self.position] = self.kernel.attend(q, k, v)
        return out


def trace(model: nn.Module, pixels: Tensor) -> Trace:
    """Run ``model`` once on ``pixels`` ``(b, 3, H, W)`` and tell what its method did."""
    twin = share(model)
    path, adapter = find_backbone(twin)
    backbone: Any = twin.get_submodule(path)
    seen = Trace()
    adapter.install(backbone, _watched(adapter.plan(backbone), seen))
    hooks = [
        branch.register_forward_pre_hook(lambda _, inputs: seen.tokens.append(inputs[0].shape[1]))
        for branch in adapter.branches(backbone)
    ]
    with torch.inference_mode():
        twin(pixels)
    for hook in hooks:
        hook.remove()
    return seen


def _watched(plan: Plan, seen: Trace) -> Plan:
    spans = {p: replace(span, reducer=_Watched(span.reducer, p, seen.maps)) for p, span in plan.spans.items()}
    around: dict[int, Reducer] = {p: _Watched(reducer, p, seen.maps) for p, reducer in plan.around.items()}
    attend = {
        p: _WatchedClusters(kernel, p, seen.groups) if isinstance(kernel, QueryClusters) else kernel
        for p, kernel in plan.attend.items()
    }
    return Plan(spans, around, attend)
