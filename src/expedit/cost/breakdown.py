"""Where a forward pass spends what a gauge measures: seconds, or multiply-adds, part by part."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core import Grid, Guide, Plan, Reducer, TokenMap
from ..models import Segmenter
from ..surgery import find_backbone, share
from .trace import with_reducers

PARTS = ("embed", "blocks before", "reduce", "blocks after", "head", "restore", "upsample")
"""In the order in which an image meets them; blocks "before" and "after" the first reduction.

Embed is what precedes the first block, head what follows the last one; only a Segmenter's "upsample" is kept apart.
"""


class Meter:
    """Adds what ``gauge`` advances by to the innermost part that is open."""

    def __init__(self, gauge: Callable[[], float]) -> None:
        self.gauge = gauge
        self.spent = dict.fromkeys(PARTS, 0.0)
        self.open = ["embed"]
        self.last = gauge()

    def read(self) -> None:
        """Since the last reading everything belonged to the part that is open."""
        now = self.gauge()
        self.spent[self.open[-1]] += now - self.last
        self.last = now

    def go_on_with(self, part: str) -> None:
        """From here on everything that is not inside a part of its own is ``part``."""
        self.read()
        self.open[0] = part

    @contextmanager
    def inside(self, part: str) -> Iterator[None]:
        """The block is ``part``."""
        self.read()
        self.open.append(part)
        yield
        self.read()
        self.open.pop()


@dataclass(frozen=True)
class _MeteredMap(TokenMap):
    """A token map whose way up is "restore"."""

    meter: Meter | None = None

    def up(self, y: Tensor) -> Tensor:
        assert self.meter is not None, "made by _MeteredReducer only"
        with self.meter.inside("restore"):
            return super().up(y)


@dataclass(frozen=True)
class _MeteredReducer:
    """A reducer as "reduce"; what runs after it is "blocks after"."""

    reducer: Reducer
    meter: Meter

    @property
    def guide(self) -> Guide:
        return self.reducer.guide

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        with self.meter.inside("reduce"):
            small, m = self.reducer(x, guide, grid)
        self.meter.go_on_with("blocks after")
        return small, _MeteredMap(**vars(m), meter=self.meter)


def parts(model: nn.Module, pixels: Tensor, gauge: Callable[[], float]) -> dict[str, float]:
    """What one eager forward of ``model`` on ``pixels`` ``(b, 3, H, W)`` costs by ``gauge``, by part.

    Attention of query clusters (ACT) is part of the blocks.
    """
    twin = share(model)
    path, adapter = find_backbone(twin)
    backbone = twin.get_submodule(path)
    meter = Meter(gauge)
    plan = adapter.plan(backbone)
    if plan != Plan():
        adapter.exchange(backbone, with_reducers(plan, lambda _, reducer: _MeteredReducer(reducer, meter)))
    _mark_seams(backbone, adapter.branches(backbone), meter)
    if isinstance(twin, Segmenter):
        twin.decoder.register_forward_hook(lambda *_: meter.go_on_with("upsample"))
    meter.last = gauge()  # what was done so far is no part of the forward
    with torch.inference_mode():
        twin(pixels)
    meter.read()
    return meter.spent


def _mark_seams(backbone: nn.Module, branches: Sequence[nn.Module], meter: Meter) -> None:
    """Blocks start with whatever runs first of the first one, and stop with the last branch."""
    first = next(name for name, module in backbone.named_modules() if module is branches[0])
    block = re.match(r"\D*\d+", first)  # up to the number of the block, such as "encoder.layer.0" or "blocks.0"

    def start(*_: object) -> None:
        if meter.open == ["embed"]:
            meter.go_on_with("blocks before")

    whole = backbone.get_submodule(block.group() if block else first)
    for module in whole.modules():
        if module is not whole or whole is branches[0]:  # some accelerated blocks are driven part by part
            module.register_forward_pre_hook(start)
    branches[-1].register_forward_hook(lambda *_: meter.go_on_with("head"))
