"""Watch a model work: token maps, query clusters, tokens per branch. Nothing of it stays in the model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core import Grid, GroupedQueries, Guide, Plan, Reducer, TokenMap
from ..core.tokens import pad_to_multiple
from ..surgery import find_backbone, share


@dataclass
class Trace:
    """What one forward pass did.

    Attributes:
        maps: token maps by position, in the order in which they were made; several where windows differ in size.
        groups: group of every query ``(b * heads, n)`` by position, of kernels that group them.
        tokens: length of the sequence that entered each branch.
        prefix: tokens in front that no method reduces.
        shown: positions whose maps, one inside the other, are the clusters: those not yet undone at the last cut.
    """

    prefix: int
    shown: tuple[int, ...] = ()

    maps: dict[int, list[TokenMap]] = field(default_factory=dict)
    groups: dict[int, Tensor] = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)

    @property
    def clusters(self) -> list[int]:
        """Query clusters of every block: the largest number over heads and samples (ACT)."""
        return [int(group.max()) + 1 for group in self.groups.values()]

    def owners(self) -> list[Tensor]:
        """Cluster of every token ``(sequences, n)`` for each group of sequences that was reduced together.

        Nested spans are composed. Of spans one after the other and of merges that are undone at once it is the last
        one, of ACT's query clusters the first head of the last block. Nothing if nothing was reduced.
        """
        if self.groups:
            return [list(self.groups.values())[-1][:1, self.prefix :]]
        made = [self.maps[position] for position in self.shown]
        if len(made) == 1:
            return [token_map.owner() for token_map in made[0]]
        owner: Tensor | None = None
        for [token_map] in made:
            inner = token_map.owner()[:1]
            owner = inner if owner is None else inner[0][owner]
        return [] if owner is None else [owner]


@dataclass(frozen=True)
class _Watched:
    """A reducer that leaves its map in the trace."""

    reducer: Reducer
    position: int
    maps: dict[int, list[TokenMap]]

    @property
    def guide(self) -> Guide:
        return self.reducer.guide

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        small, token_map = self.reducer(x, guide, grid)
        self.maps.setdefault(self.position, []).append(token_map)
        return small, token_map


class _WatchedGroups(nn.Module):
    """A kernel that leaves the groups of its queries in the trace."""

    def __init__(self, kernel: GroupedQueries, position: int, groups: dict[int, Tensor]) -> None:
        super().__init__()
        self.kernel, self.position, self.groups = kernel, position, groups

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        out, self.groups[self.position] = self.kernel.attend(q, k, v, bias)
        return out


def trace(model: nn.Module, pixels: Tensor) -> Trace:
    """Run ``model`` once on ``pixels`` ``(b, 3, H, W)`` and report what its method did."""
    twin = share(model)
    path, adapter = find_backbone(twin)
    backbone: Any = twin.get_submodule(path)
    plan = adapter.plan(backbone)
    seen = Trace(adapter.anatomy(backbone).prefix, _open_at_last(plan))
    if plan != Plan():
        adapter.exchange(backbone, _watched(plan, seen))

    def count(_: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        tokens = next(iter((*inputs, *named.values())))  # some libraries name the first input, too
        seen.tokens.append(tokens.numel() // tokens.shape[-1] // pixels.shape[0])

    hooks = [branch.register_forward_pre_hook(count, with_kwargs=True) for branch in adapter.branches(backbone)]
    with torch.inference_mode():
        twin(pixels)
    for hook in hooks:
        hook.remove()
    return seen


def _open_at_last(plan: Plan) -> tuple[int, ...]:
    """Positions of the cuts whose reductions are at work at the last one, in order."""
    if plan.around:
        return (max(plan.around),)
    last = max(plan.spans, default=0)
    return tuple(start for start in sorted(plan.spans) if plan.spans[start].stop > last)


def _watched(plan: Plan, seen: Trace) -> Plan:
    plan = with_reducers(plan, lambda position, reducer: _Watched(reducer, position, seen.maps))
    attend = {
        p: _WatchedGroups(kernel, p, seen.groups) if isinstance(kernel, GroupedQueries) else kernel
        for p, kernel in plan.attend.items()
    }
    return replace(plan, attend=attend)


def with_reducers(plan: Plan, wrap: Callable[[int, Reducer], Reducer]) -> Plan:
    """``plan`` with what ``wrap(position, reducer)`` makes of every reducer in its place."""
    spans = {p: replace(span, reducer=wrap(p, span.reducer)) for p, span in plan.spans.items()}
    return replace(plan, spans=spans, around={p: wrap(p, reducer) for p, reducer in plan.around.items()})


def token_clusters(model: nn.Module, pixels: Tensor) -> np.ndarray | None:
    """Which reduced token each token of ``pixels`` ``(1, 3, H, W)`` reads most, ``(h, w)``; ``None`` if dense."""
    seen = trace(model, pixels)
    path, adapter = find_backbone(model)
    backbone: Any = model.get_submodule(path)
    owners = seen.owners()
    if not owners and adapter.plan(backbone).scale != 1:  # the tokens of the smaller image, each its own
        owners = [torch.arange(seen.tokens[0] - seen.prefix)[None]]
    if not owners:
        return None
    return adapter.owner(backbone, owners, Grid(*pixels.shape[2:])).cpu().numpy()


def image_clusters(model: nn.Module, pixels: Tensor, multiple: int) -> np.ndarray | None:
    """``token_clusters`` of an image of any size, which is padded to a ``multiple`` of pixels as ``predict`` does it.

    Returns:
        ``(h, w)``, what lies on the padding cut off; ``None`` if dense.
    """
    padded = pad_to_multiple(pixels, Grid(multiple, multiple))
    owner = token_clusters(model, padded)
    if owner is None:
        return None
    shares = [inner / outer for inner, outer in zip(pixels.shape[2:], padded.shape[2:], strict=True)]
    h, w = (math.ceil(side * share) for side, share in zip(owner.shape, shares, strict=True))
    return owner[:h, :w]
