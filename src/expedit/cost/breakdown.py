"""Where a forward pass spends what a gauge measures: seconds, or multiply-adds, part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core import Grid, Guide, Reducer, TokenMap
from ..surgery import find_backbone, share
from .trace import with_reducers

PARTS = ("embed", "blocks before", "reduce", "blocks after", "head", "restore", "upsample")
"""In the order in which an image meets them; "before" and "after" the first reduction."""

EMBED, HEAD = ("encoder.patch_embed", "embeddings"), ("decoder",)
"""What the modules are called that turn pixels into tokens, and tokens into logits."""


class Ledger:
    """Books what ``gauge`` says goes by to the innermost part that is open."""

    def __init__(self, gauge: Callable[[], float]) -> None:
        self.gauge = gauge
        self.spent = dict.fromkeys(PARTS, 0.0)
        self.open = ["blocks before"]
        self.last = gauge()

    def book(self) -> None:
        """What went by since the last call belongs to the part that is open."""
        now = self.gauge()
        self.spent[self.open[-1]] += now - self.last
        self.last = now

    def go_on_with(self, part: str) -> None:
        """From here on everything that is not inside a part of its own is ``part``."""
        self.book()
        self.open[0] = part

    def enter(self, part: str) -> None:
        """What follows is ``part``, until ``leave``."""
        self.book()
        self.open.append(part)

    def leave(self) -> None:
        """Back to what was open before."""
        self.book()
        self.open.pop()

    @contextmanager
    def inside(self, part: str) -> Iterator[None]:
        """The block is ``part``."""
        self.enter(part)
        yield
        self.leave()


@dataclass(frozen=True)
class _BookedMap(TokenMap):
    """A token map whose way up is booked."""

    ledger: Ledger | None = None

    def up(self, y: Tensor) -> Tensor:
        assert self.ledger is not None, "made by _BookedReducer only"
        with self.ledger.inside("restore"):
            return super().up(y)


@dataclass(frozen=True)
class _BookedReducer:
    """A reducer that is booked; what runs behind it is "blocks after"."""

    reducer: Reducer
    ledger: Ledger

    @property
    def guide(self) -> Guide:
        return self.reducer.guide

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        with self.ledger.inside("reduce"):
            small, m = self.reducer(x, guide, grid)
        self.ledger.go_on_with("blocks after")
        return small, _BookedMap(m.index, m.weight, m.length, m.grid, m.sizes, self.ledger)


def parts(model: nn.Module, pixels: Tensor, gauge: Callable[[], float]) -> dict[str, float]:
    """What one eager forward of ``model`` on ``pixels`` ``(b, 3, H, W)`` costs by ``gauge``, by part.

    Attention of query clusters (ACT) is part of the blocks.
    """
    twin = share(model)
    path, adapter = find_backbone(twin)
    backbone = twin.get_submodule(path)
    ledger = Ledger(gauge)
    adapter.exchange(backbone, with_reducers(adapter.plan(backbone), lambda _, r: _BookedReducer(r, ledger)))
    for name, module in twin.named_modules():
        if name in EMBED:
            _book_module(module, "embed", ledger)
        elif name in HEAD:
            _book_module(module, "head", ledger)
            module.register_forward_hook(lambda *_: ledger.go_on_with("upsample"))
    ledger.last = gauge()  # what was done so far is no part of the forward
    with torch.inference_mode():
        twin(pixels)
    ledger.book()
    return ledger.spent


def _book_module(module: nn.Module, part: str, ledger: Ledger) -> None:
    module.register_forward_pre_hook(lambda *_: ledger.enter(part))
    module.register_forward_hook(lambda *_: ledger.leave())
