"""Adapter for the Swin of transformers, alone or inside Mask2Former.

A method's span starts before a block, blocks counted over all stages, and ends with the stage it starts in (spec c.2).
Each un-shifted window of the map is reduced on its own; the blocks that follow attend in the smaller windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core import FEATURES, Anatomy, Grid, Plan, Reducer, Span, attn
from .swin_blocks import ReducedBlocks


def anatomy(swin: Any) -> Anatomy:
    """What methods may know of a ``SwinModel``: reducers see a window as a whole image.

    Heads are those of the last stage; their width is the same in all.
    """
    config = swin.config
    return Anatomy(
        depth=sum(config.depths),
        prefix=0,
        heads=config.num_heads[-1],
        head_dim=config.embed_dim // config.num_heads[0],
        grid=Grid(config.window_size, config.window_size),
        guides=frozenset(("tokens",)),
    )


def install(swin: Any, plan: Plan, *, official_shift_mask: bool = False, official_padding: bool = False) -> nn.Module:
    """``swin`` with the blocks behind the cut of ``plan`` run on reduced windows.

    Args:
        swin: a ``SwinModel`` that may be changed. Where a method is at work already only its reducer is exchanged.
        plan: one span whose reducer keeps the lattice, or none.
        official_shift_mask: mask the shifted windows of the reduced blocks with half the *old* window, as the official
            code does, and not with the half window by which they are shifted.
        official_padding: fill windows that reach beyond the map with zeros that take part as tokens, as the official
            code does. Otherwise windows end where the map ends and are reduced as the smaller ones they are; like any
            map, the reduced one is then padded behind the norm of each block.

    Raises:
        ValueError: the plan does not fit windows; the message says why.
    """
    if plan == Plan():
        return swin
    span = _only_span(plan)
    number, first = _locate(swin.config.depths, span)
    stage = swin.encoder.layers[number]
    if _is_reduced(stage):
        stage.blocks.span = span
        return swin
    window = Grid(swin.config.window_size, swin.config.window_size)
    stage.blocks = ReducedBlocks(
        stage.blocks,
        first=first,
        span=span,
        window=window,
        cells=_reduced_window(span.reducer, window),
        official_shift_mask=official_shift_mask,
        official_padding=official_padding,
    )
    return swin


def plan(swin: Any) -> Plan:
    """The cuts at work in it."""
    reduced = [stage.blocks.span for stage in swin.encoder.layers if _is_reduced(stage)]
    return Plan({span.start: span for span in reduced})


def branches(swin: Any) -> list[nn.Module]:
    """The MLPs; the second axis of their input counts tokens. Attentions see windows as batch items."""
    return [block.mlp for stage in swin.encoder.layers for block in stage.blocks.children()]


def owner(swin: Any, owners: Sequence[Tensor], image: Grid) -> Tensor:
    """Cluster of every token ``(h, w)`` of the stage that is cut, from those that the reducer saw window by window."""
    reduced = [(number, stage.blocks) for number, stage in enumerate(swin.encoder.layers) if _is_reduced(stage)]
    [(number, blocks)] = reduced
    step = swin.config.patch_size * 2**number
    return blocks.owner(owners, Grid(-(-image.h // step), -(-image.w // step)))


def _is_reduced(stage: Any) -> bool:
    return isinstance(stage.blocks, ReducedBlocks)


def _only_span(plan: Plan) -> Span:
    if plan.around or plan.attend:
        raise ValueError(
            "Swin attends inside windows of one size: cuts around a single branch (dense ToMe) and attention kernels "
            "(ACT) do not fit them; use a method that keeps tokens on a lattice, such as Expedit or Pool"
        )
    if len(plan.spans) != 1:
        raise ValueError(f"Swin is reduced in one stage: expected one span, got {len(plan.spans)}")
    return next(iter(plan.spans.values()))


def _locate(depths: list[int], span: Span) -> tuple[int, int]:
    """Stage of the span, and the block inside it before which tokens are reduced."""
    block = span.start // 2
    if span.start % 2:
        raise ValueError(f"Swin is cut between blocks, and position {span.start} lies inside block {block}")
    number = next(number for number in range(len(depths)) if block < sum(depths[: number + 1]))
    behind = sum(depths[: number + 1])
    if span.stop < FEATURES and span.stop != attn(behind):
        raise ValueError(
            f"Swin: a span that starts before block {block} ends with its stage, behind block {behind - 1}; "
            f"expected a stop at {attn(behind)} or at a named end, got {span.stop}"
        )
    return number, block - sum(depths[:number])


def _reduced_window(reducer: Reducer, window: Grid) -> Grid:
    """Lattice of a reduced window; token counts follow from shapes and settings, so blank tokens tell it."""
    blank = torch.zeros(1, window.length, 1)
    try:
        _, token_map = reducer(blank, blank, window)
    except ValueError as error:
        raise ValueError(f"the windows of this Swin hold {window.h} x {window.w} tokens: {error}") from None
    if token_map.grid is None:
        name = type(reducer).__name__
        raise ValueError(
            f"{name} takes tokens off the lattice, and Swin attends in windows of one; use Expedit or Pool"
        )
    return token_map.grid
