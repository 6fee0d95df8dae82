"""The only loop: residual steps over a stream, with the cuts of a plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .cuts import LOGITS, Guide, Kernel, Plan, Reducer, Span
from .tokens import Stream

Branch = Callable[[Tensor, Kernel, Guide | None], tuple[Tensor, Tensor | None]]


class Step(NamedTuple):
    """One residual step ``x + branch(norm(x))``.

    ``branch(y, kernel, guide)`` returns its output and, where a guide is asked for, that guide. Even steps are
    attentions, odd ones MLPs, which ignore ``kernel`` and ``guide``.
    """

    norm: Callable[[Tensor], Tensor]
    branch: Branch


def drive(
    steps: Sequence[Step], stream: Stream, plan: Plan, taps: frozenset[int] = frozenset()
) -> tuple[Stream, dict[int, Stream]]:
    """Run all steps: close the spans that stop here, open those that start here, run the step.

    Args:
        steps: the residual steps; step ``i`` stands at position ``i`` (``cuts.attn`` and ``cuts.mlp``).
        stream: what the embedding made.
        plan: the cuts; the empty plan is the untouched network.
        taps: positions at which a fully restored copy is handed out while the stream itself stays small.

    Returns:
        The stream after the last step (reductions that stop at a named end still open) and the tapped copies.
    """
    tapped: dict[int, Stream] = {}
    guide: Tensor | None = None
    for position, step in enumerate(steps):
        stream = stream.restored(position)
        if position in taps:
            tapped[position] = stream.restored(LOGITS)
        if position in plan.spans:
            stream = _reduce(plan.spans[position], stream, guide)
        stream, guide = _run(step, stream, plan, position)
    stream = stream.restored(len(steps))
    if len(steps) in taps:
        tapped[len(steps)] = stream.restored(LOGITS)
    return stream, tapped


def _reduce(span: Span, stream: Stream, guide: Tensor | None) -> Stream:
    tokens, token_map = span.reducer(stream.tokens, stream.tokens if guide is None else guide, stream.grid)
    return stream.reduced(tokens, token_map, span.stop)


def _run(step: Step, stream: Stream, plan: Plan, position: int) -> tuple[Stream, Tensor | None]:
    kernel = plan.attend.get(position, F.scaled_dot_product_attention)
    y = step.norm(stream.x)
    if position in plan.around:
        out, guide = _around(plan.around[position], step, y, stream, kernel)
    else:
        out, guide = step.branch(y, kernel, plan.guide_for(position + 1))
    return replace(stream, x=stream.x + out), guide


def _around(reducer: Reducer, step: Step, y: Tensor, stream: Stream, kernel: Kernel) -> tuple[Tensor, None]:
    """Merge, run the branch on few tokens, un-merge; the prefix passes beside the reducer."""
    prefix, tokens = y[:, : stream.prefix], y[:, stream.prefix :]
    small, token_map = reducer(tokens, tokens, stream.grid)
    out, _ = step.branch(torch.cat((prefix, small), 1), kernel, None)
    return token_map.behind(stream.prefix).up(out), None


def without_guide(branch: Callable[[Tensor], Tensor]) -> Branch:
    """An MLP-like branch as the engine calls it: no kernel to replace, nothing to show."""
    return lambda y, kernel, guide: (branch(y), None)
