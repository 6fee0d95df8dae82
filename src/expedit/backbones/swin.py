"""Adapter for the Swin of transformers, alone or inside Mask2Former.

A method's span starts before a block, blocks counted over all stages, and ends with the stage it starts in.
Each un-shifted window of the map is reduced on its own; the blocks that follow attend in the smaller windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..core import Anatomy, Grid, Guide, Plan, Span, attn
from .base import kept_lattice
from .swin_blocks import ReducedBlocks

REASON = "Swin attends in windows of a lattice"


class Swin:
    """The Swin of transformers, and MaskFormer's copy of it; reducers see a window as a whole image."""

    guides: frozenset[Guide] = frozenset(("tokens",))

    def check(self, plan: Plan, lattice: Grid) -> None:
        """See ``Adapter``."""
        kept_lattice(_only_span(plan).reducer, lattice, REASON)

    def anatomy(self, backbone: Any) -> Anatomy:
        """See ``Adapter``. Heads are those of the last stage; their width is the same in all."""
        config = backbone.config
        return Anatomy(
            depth=sum(config.depths),
            prefix=0,
            heads=config.num_heads[-1],
            head_dim=config.embed_dim // config.num_heads[0],
            grid=Grid(config.window_size, config.window_size),
            guides=self.guides,
            sized=False,
            resizes=False,
        )

    def install(
        self,
        model: nn.Module,
        path: str,
        plan: Plan,
        *,
        official_shift_mask: bool = False,
        official_padding: bool = False,
    ) -> None:
        """Run the blocks after the cut of ``plan``, in its stage, on reduced windows.

        Args:
            model, path: see ``Adapter``.
            plan: one span whose reducer keeps the lattice; or no cuts, which change nothing.
            official_shift_mask: mask the shifted windows of the reduced blocks with half the *old* window, as the
                official code does, and not with the half window by which they are shifted.
            official_padding: fill windows that reach beyond the map with zeros that take part as tokens, as the
                official code does. Otherwise windows end where the map ends and are reduced as the smaller ones they
                are; like any map, the reduced one is then padded after the norm of each block.
        """
        if plan == Plan():
            return
        swin: Any = model.get_submodule(path)
        span = _only_span(plan)
        number, first = _locate(swin.config.depths, span)
        stage, window = swin.encoder.layers[number], Grid(swin.config.window_size, swin.config.window_size)
        stage.blocks = ReducedBlocks(
            stage.blocks,
            first=first,
            span=span,
            window=window,
            cells=kept_lattice(span.reducer, window, REASON),
            official_shift_mask=official_shift_mask,
            official_padding=official_padding,
        )

    def plan(self, backbone: Any) -> Plan:
        """The span at work in it."""
        spans = [blocks.span for _, blocks in _reduced(backbone)]
        return Plan({span.start: span for span in spans})

    def exchange(self, backbone: Any, plan: Plan) -> None:
        """See ``Adapter``."""
        for _, blocks in _reduced(backbone):
            blocks.span = _only_span(plan)

    def branches(self, backbone: Any) -> list[nn.Module]:
        """The MLPs: attentions see windows, which may be padded."""
        blocks = [block for stage in backbone.encoder.layers for block in _blocks(stage)]
        return [getattr(block, "mlp", None) or block.intermediate for block in blocks]

    def owner(self, backbone: Any, owners: Sequence[Tensor], image: Grid) -> Tensor:
        """Cluster of every token of the stage that is cut, from those that the reducer saw window by window."""
        [(number, blocks)] = _reduced(backbone)
        step = backbone.config.patch_size * 2**number
        return blocks.owner(owners, Grid(-(-image.h // step), -(-image.w // step)))


def _blocks(stage: Any) -> list[Any]:
    return stage.blocks.blocks() if isinstance(stage.blocks, ReducedBlocks) else list(stage.blocks)


def _reduced(swin: Any) -> list[tuple[int, ReducedBlocks]]:
    """Stages that run on reduced windows, by number."""
    stages = enumerate(stage.blocks for stage in swin.encoder.layers)
    return [(number, blocks) for number, blocks in stages if isinstance(blocks, ReducedBlocks)]


def _only_span(plan: Plan) -> Span:
    if plan.scale != 1:
        raise ValueError(
            "Swin attends inside windows of its own lattice, from which the stages of a smaller image cannot be read "
            "back; give it the smaller image itself"
        )
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
    end = sum(depths[: number + 1])
    if span.stop < attn(sum(depths)) and span.stop != attn(end):
        raise ValueError(
            f"Swin: a span that starts before block {block} ends with its stage, after block {end - 1}; "
            f"expected a stop at {attn(end)} or at a named end, got {span.stop}"
        )
    return number, block - sum(depths[:number])
