"""Outputs that are no numbers are an error: among nans the first is the largest, and every pixel would be class 0."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

FLOAT = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}


def run(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """``model(*args, **kwargs)``; ValueError, with dtype and kind of layer, where an output holds nan or infinity."""
    out = model(*args, **kwargs)
    if _finite(out):
        return out
    with _first_bad(model) as found:
        model(*args, **kwargs)
    weight = next(model.parameters())
    where = f", first in {found[0]}" if found else ""
    advice = "check the weights" if weight.dtype == torch.float32 else "use fp32, whose range is larger, or bf16"
    dtype = FLOAT.get(weight.dtype, str(weight.dtype))
    raise ValueError(f"the network's output is not finite in {dtype} (nan or infinity){where}; {advice}")


def _finite(out: Any) -> bool:
    return all(bool(value.isfinite().all()) for value in _tensors(out) if value.is_floating_point())


def _tensors(out: Any) -> Iterator[Tensor]:
    """Every tensor of an output: one, several, or named ones."""
    if isinstance(out, Tensor):
        yield out
    elif isinstance(out, dict):
        yield from _tensors(tuple(out.values()))
    elif isinstance(out, (tuple, list)):
        for value in out:
            yield from _tensors(value)


@contextmanager
def _first_bad(model: nn.Module) -> Iterator[list[str]]:
    """The first layer whose output is not finite, in the run inside the block."""
    found: list[str] = []

    def look(name: str, layer: nn.Module, out: Any) -> None:
        if not found and not _finite(out):
            found.append(f"{type(layer).__name__} {name}".strip())

    leaves: Iterable[tuple[str, nn.Module]] = (
        (name, layer) for name, layer in model.named_modules() if not any(True for _ in layer.children())
    )
    hooks = [
        layer.register_forward_hook(lambda layer, _, out, name=name: look(name, layer, out)) for name, layer in leaves
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
