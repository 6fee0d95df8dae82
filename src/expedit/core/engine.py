"""The only loop: residual steps over a stream, with the cuts of a plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .attention import attention
from .cuts import LOGITS, Guide, Kernel, Plan, Reducer, Span
from .tokens import SIZES, Grid, Side, Sizes, Stream, reduced_side

NOTHING: Side = MappingProxyType({})


class Context(NamedTuple):
    """What a branch may know of the tokens it is given, and what it has to do.

    Attributes:
        kernel: attends; the branch hands it ``bias``, too.
        guide: what an attention has to show the reducer that cuts in right after it.
        prefix: tokens in front that are never reduced.
        lead: place of the class token among them.
        grid: lattice of the other tokens, ``None`` once they left it.
        side: companions of the other tokens.
    """

    kernel: Kernel = attention
    guide: Guide | None = None
    prefix: int = 0
    lead: int = 0
    grid: Grid | None = None
    side: Side = NOTHING

    @property
    def bias(self) -> Tensor | None:
        """What a token that stands for w tokens adds to the logits of its key: log w, ``(b, 1, 1, prefix + n)``."""
        sizes = self.side.get(SIZES)
        if not isinstance(sizes, Sizes):
            return None
        return F.pad(sizes.tokens.float().log(), (self.prefix, 0))[:, None, None]


Branch = Callable[[Tensor, Context], tuple[Tensor, Tensor | None]]


class Step(NamedTuple):
    """One residual step ``x + branch(norm(x))``.

    ``branch(y, context)`` returns its output and, where a guide is asked for, that guide. Even steps are attentions,
    odd ones MLPs.
    """

    norm: Callable[[Tensor], Tensor]
    branch: Branch


def drive(
    steps: Sequence[Step], stream: Stream, plan: Plan, taps: frozenset[int] = frozenset(), first: int = 0
) -> tuple[Stream, dict[int, Stream]]:
    """Run steps one after the other: close the spans that stop here, open those that start here, run the step.

    Args:
        steps: residual steps; step ``i`` stands at position ``first + i`` (``cuts.attn`` and ``cuts.mlp``).
        stream: what the embedding made, or what the steps before left.
        plan: the cuts; the empty plan is the untouched network.
        taps: positions at which a fully restored copy is handed out while the stream itself stays small.
        first: position of the first step; 0 where all steps run at once.

    Returns:
        The stream after the last step (reductions that stop later still open) and the tapped copies.
    """
    tapped: dict[int, Stream] = {}
    guide = stream.coarse
    stop = first + len(steps)
    for position, step in enumerate(steps, first):
        stream = stream.restored(position)
        if position in taps:
            tapped[position] = stream.restored(LOGITS)
        if position in plan.spans:
            stream = _reduce(plan.spans[position], stream, guide)
        stream, guide = _run(step, stream, plan, position)
    stream = stream.restored(stop)
    if stop in taps:
        tapped[stop] = stream.restored(LOGITS)
    return stream, tapped


def _reduce(span: Span, stream: Stream, guide: Tensor | None) -> Stream:
    tokens, token_map = span.reducer(stream.tokens, stream.tokens if guide is None else guide, stream.grid)
    sizes = stream.side.get(SIZES)
    if span.by_size and isinstance(sizes, Sizes):
        tokens = sizes.mean(stream.tokens, token_map)
    return stream.reduced(tokens, token_map, span.stop, span.delta)


def _run(step: Step, stream: Stream, plan: Plan, position: int) -> tuple[Stream, Tensor | None]:
    kernel, guide = plan.attend.get(position, attention), plan.guide_for(position + 1)
    context = Context(kernel, guide, stream.prefix, stream.lead, stream.grid, stream.side)
    y = step.norm(stream.x)
    if position in plan.around:
        # only attentions read companions
        side = NOTHING if position % 2 else context.side
        out, shown = _around(plan.around[position], step, y, context._replace(guide=None, side=side)), None
    else:
        out, shown = step.branch(y, context)
    return replace(stream, x=stream.x + out), shown


def _around(reducer: Reducer, step: Step, y: Tensor, context: Context) -> Tensor:
    """Merge, run the branch on few tokens, un-merge; the prefix passes beside the reducer."""
    prefix, tokens = y[:, : context.prefix], y[:, context.prefix :]
    small, token_map = reducer(tokens, tokens, context.grid)
    side = reduced_side(context.side, token_map, context.grid)
    out, _ = step.branch(torch.cat((prefix, small), 1), context._replace(grid=token_map.grid, side=side))
    return token_map.after(context.prefix).up(out)


def without_guide(branch: Callable[[Tensor], Tensor]) -> Branch:
    """An MLP-like branch as the engine calls it: it needs no context and has nothing to show."""
    return lambda y, context: (branch(y), None)
