"""The roofline of this machine: the least time its arithmetic and its memory allow for what a network does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .macs import flop_counter
from .speed import timed

SIDE, GPU_SIDE = 2048, 8192
"""Side of the square matrices whose product tells the rate of arithmetic; its launch takes next to nothing of it."""

COPIED, GPU_COPIED = 2**28, 2**31
"""Bytes of the tensor whose copy tells the bandwidth: far more than any cache holds, and again milliseconds."""

ATOMS = (torch.ops.aten.upsample_bilinear2d, torch.ops.aten.upsample_bicubic2d)
"""Operations that torch can take apart for other purposes but runs as one."""


@dataclass(frozen=True)
class Machine:
    """What a device does at best.

    Attributes:
        macs: multiply-adds per second of a large matrix product.
        bytes: per second, read and written, of a large copy.
    """

    macs: float
    bytes: float

    @staticmethod
    def measured(device: str, dtype: torch.dtype, rounds: int = 7) -> Machine:
        """The best of ``rounds`` products and copies in ``dtype``."""
        side, copied = (SIDE, COPIED) if device == "cpu" else (GPU_SIDE, GPU_COPIED)
        matrix = torch.randn(side, side, device=device, dtype=dtype)
        product = torch.empty_like(matrix)
        source = torch.ones(copied // dtype.itemsize, device=device, dtype=dtype)
        target = torch.ones_like(source)
        macs = side**3 / _fastest(lambda: torch.mm(matrix, matrix, out=product), device, rounds)
        return Machine(macs, 2 * copied / _fastest(lambda: target.copy_(source), device, rounds))


def _fastest(run: Callable[[], object], device: str, rounds: int) -> float:
    return min(timed(run, device)[1] for _ in range(1 + rounds))


class Roofline(TorchDispatchMode):
    """Adds up, operation by operation, the larger of the time for its arithmetic and that for its bytes.

    An operation is taken to read its inputs and to write its outputs once; views cost nothing. What stays in a cache
    is faster than the bandwidth of the memory, so that a part without large products can beat its floor.

    Attributes:
        seconds: so far.
    """

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine
        self.flops = flop_counter().flop_registry
        self.seconds = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``func`` and add its least time; what is made of other operations is counted as those."""
        kwargs = kwargs or {}
        if func._overloadpacket not in (*self.flops, *ATOMS):
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        if not func.is_view:
            flops = self.flops.get(func._overloadpacket, lambda *_, **__: 0)(*args, **kwargs, out_val=out)
            moved = _bytes(tree_leaves((args, kwargs, out)))
            self.seconds += max(flops / 2 / self.machine.macs, moved / self.machine.bytes)
        return out


def _bytes(leaves: Iterable[Any]) -> int:
    """Of distinct tensors; a broadcast axis is stored once."""
    tensors = {id(leaf): leaf for leaf in leaves if isinstance(leaf, Tensor)}
    return sum(min(t.numel(), t.untyped_storage().nbytes() // t.itemsize) * t.itemsize for t in tensors.values())
