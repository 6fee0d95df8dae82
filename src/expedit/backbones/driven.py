"""The seat of a host's block list: the same modules under the same names, driven by the engine.

Embedding, heads, taps and output classes stay the library's. A host iterates over its blocks once per forward pass and
hands each the tokens that the one before returned. What is iterated here are stand-ins that share one ``Run``: they
recognise the tensor they handed out and go on with the stream that it stands for.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from ..core import LOGITS, Plan, Stream, drive
from .forms import Parts, steps_of
from .notes import Notes
from .places import Call, Plain, check_call

RECORDER = "transformers.utils.output_capturing"
"""Module of the hooks with which transformers records hidden states."""


@dataclass(frozen=True)
class Seat:
    """What does not change from pass to pass.

    Attributes:
        place: where the host's tokens are.
        parts: of every block; ``None`` for blocks that run as they are.
        heads: attention heads.
        names: parameters of a block's forward after the tokens.
        notes: of the host's forward passes.
        taps: blocks whose output somebody reads at full size.
        declared: whether nobody reads that of the others, but for a caller who asks for all hidden states.
    """

    place: Plain
    parts: tuple[Parts | None, ...]
    heads: int
    names: tuple[str, ...]
    notes: Notes
    taps: frozenset[int] = frozenset()
    declared: bool = False


class DrivenBlocks(nn.ModuleList):
    """Stands where a host keeps its blocks. Iterating, slicing or calling it begins a pass; nothing of it stays.

    Attributes:
        plan: the cuts.
        kernels: those of the plan's attention kernels that hold tensors.
    """

    def __init__(self, blocks: nn.ModuleList | nn.Sequential, seat: Seat) -> None:
        super().__init__(blocks)
        self.seat = seat
        self.plan = Plan()
        self.kernels = nn.ModuleList()

    __repr__ = nn.Module.__repr__  # a list's begins a pass to show what iteration gives

    @staticmethod
    def parameters_of(block: nn.Module) -> tuple[str, ...]:
        """Names of what a block's forward takes after the tokens."""
        return tuple(inspect.signature(type(block).forward).parameters)[2:]

    def blocks(self) -> list[nn.Module]:
        """The host's own blocks."""
        return [module for name, module in self._modules.items() if name != "kernels" and module is not None]

    def stretch(self, first: int, stop: int) -> list[DrivenBlock]:
        """Stand-ins for the blocks ``first`` to ``stop - 1`` of one pass, which ends fully restored."""
        run = Run(self, first, stop)
        return [DrivenBlock(run, index, block) for index, block in enumerate(self.blocks()) if first <= index < stop]

    def __len__(self) -> int:
        return len(self.blocks())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.stretch(0, len(self)))

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, int):
            return self.blocks()[index]
        first, stop, step = index.indices(len(self))
        if step != 1:
            raise ValueError(f"expected blocks one after the other, got a step of {step}")
        return self.stretch(first, stop)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """All blocks one after the other, as ``nn.Sequential`` would run them (timm)."""
        for block in self:
            x = block(x, *args, **kwargs)
        return x


class DrivenBlock:
    """Stands for one block in one pass; what is asked of it but to be called is asked of the block."""

    def __init__(self, run: Run, index: int, block: nn.Module) -> None:
        self.run, self.index, self.block = run, index, block

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As the block is called."""
        return self.run.block(self.index, self.block, x, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.block, name)


class Run:
    """One stretch of blocks in one forward pass: the stream between them."""

    def __init__(self, driven: DrivenBlocks, first: int, stop: int) -> None:
        self.seat, self.stop = driven.seat, stop
        self.plan = _from(driven.plan, 2 * first)
        self.stream: Stream | None = None
        self.handed: Tensor | None = None

    def block(self, index: int, block: nn.Module, x: Tensor, args: tuple[Any, ...], kwargs: Call) -> Tensor:
        """One block on the tokens ``x`` that the host hands it; returns the tokens for the next."""
        parts = self.seat.parts[index]
        if parts is None:
            self.stream = None
            out: Tensor = block(x, *args, **kwargs)
            return out
        _check_hooks(block)
        call = {**dict(zip(self.seat.names, args, strict=False)), **kwargs}
        check_call(self.seat.place, call)
        steps = steps_of(block, parts, self.seat.place, self.seat.heads, call)
        stream, _ = drive(steps, self._enter(x, call), self.plan, first=2 * index)
        if index + 1 == self.stop:
            stream = stream.restored(LOGITS)
        tapped = index in self.seat.taps
        self.stream, self.handed = stream, self.seat.place.leave(stream.restored(LOGITS) if tapped else stream)
        _fire(block, (x, *args), kwargs, Hooked(self.seat, stream, self.handed if tapped else None))
        return self.handed

    def _enter(self, x: Tensor, call: Call) -> Stream:
        """The stream that ``x`` stands for: a new one, the one handed out, or that with tokens joined in front."""
        if self.stream is None or self.handed is None:
            return self.seat.place.enter(x, call, self.seat.notes)
        if x is self.handed:
            return self.stream
        joined = x.shape[1] - self.handed.shape[1]
        if x.dim() != 3 or joined <= 0 or x.shape[2] != self.handed.shape[2]:
            raise ValueError(
                "the tokens were changed between two blocks, which reduced tokens cannot follow; expected a network "
                "that hands each block what the one before returned"
            )
        return self.stream.joined(x[:, :joined])


class Hooked:
    """The output of a block for its forward hooks, made when one asks."""

    def __init__(self, seat: Seat, stream: Stream, whole: Tensor | None) -> None:
        self.seat, self.stream, self.whole = seat, stream, whole

    def tokens(self) -> Tensor:
        """All tokens of the image."""
        if self.whole is None:
            self.whole = self.seat.place.leave(self.stream.restored(LOGITS))
        return self.whole

    def recorded(self) -> Tensor:
        """The same where somebody reads them, else nan in their shape: a wrong index cannot pass unnoticed."""
        read = self.whole is not None or not self.seat.declared or self.seat.notes.all_wanted
        if read or not self.stream.opened:
            return self.tokens()
        length = self.stream.prefix + self.stream.opened[0].map.index.shape[1]
        x = self.stream.x
        return x.new_full((1, 1, 1), float("nan")).expand(x.shape[0], length, x.shape[2])


def _from(plan: Plan, position: int) -> Plan:
    """``plan`` for a stretch that begins at ``position``: spans that it lies in are opened anew there."""
    spans = {}
    for start, span in plan.spans.items():
        if start < position < span.stop and span.reducer.guide != "tokens":
            raise ValueError(
                f"{type(span.reducer).__name__} needs {span.reducer.guide!r} of block {start // 2}, but this network "
                f"runs its blocks from {position // 2} on by themselves; use a method that only needs the tokens"
            )
        if span.stop > position:
            spans[max(start, position)] = span
    return replace(plan, spans=spans)


def _check_hooks(block: nn.Module) -> None:
    """ValueError where something wants to run around the block as a whole."""
    offloaded = getattr(block, "_hf_hook", None) is not None
    if offloaded or block._forward_pre_hooks:
        what = "is loaded piece by piece (device_map)" if offloaded else "has a forward pre-hook"
        raise ValueError(
            f"{type(block).__name__} {what}, which an accelerated network does not run; expected the network on one "
            "device, its hooks on the parts of a block or after it"
        )


def _fire(block: nn.Module, args: tuple[Any, ...], kwargs: Call, out: Hooked) -> None:
    """The forward hooks of a block: so transformers records hidden states, and so people read them."""
    with_kwargs = block._forward_hooks_with_kwargs
    for key, hook in block._forward_hooks.items():
        tokens = out.recorded() if getattr(hook, "__module__", "") == RECORDER else out.tokens()
        changed = hook(block, args, kwargs, tokens) if key in with_kwargs else hook(block, args, tokens)
        if changed is not None:
            raise ValueError(
                f"a forward hook of {type(block).__name__} replaces its output; expected one that reads it"
            )
