"""Time of every part of a model beside its floor: the least that this machine's arithmetic and memory allow for it.

    python benchmarks/floor.py                      (2 minutes on two cores)

ViT-L/16 at 640 x 640 as a whole, dense and with every method, medians of a few eager runs in turn. The floor is worked
out operation by operation, from the rate of a large matrix product and the bandwidth of a large copy.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from expedit.checkpoints.zoo import build
from expedit.cost.breakdown import PARTS, parts
from expedit.cost.macs import flop_counter, noise
from expedit.cost.speed import environment, now, threads, timed
from expedit.surgery import DTYPES, accelerate, optimized

METHODS = ("expedit(alpha=10, grid=(28, 28))", "evit(keep_rate=0.8)", "tome(ratio=0.3)", "act(query_hashes=24)")

SIDE, GPU_SIDE = 2048, 8192
"""Side of the square matrices whose product measures the rate of arithmetic; its launch takes next to nothing of it."""

COPIED, GPU_COPIED = 2**28, 2**31
"""Bytes of the tensor whose copy measures the bandwidth: far more than any cache holds, and again milliseconds."""

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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--method", nargs="+", default=METHODS, metavar="SPEC")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="fp32", choices=DTYPES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with threads(args.threads):
        print(environment(args.device, DTYPES[args.dtype]))
        machine = Machine.measured(args.device, DTYPES[args.dtype])
        print(f"{machine.macs / 1e9:.1f} G multiply-adds/s, {machine.bytes / 1e9:.1f} GB/s")
        dense = optimized(build("segmenter-vit-l16-ade20k"), dtype=args.dtype).to(args.device)
        pixels = noise((640, 640), next(dense.parameters()))
        models = {"dense": dense, **{spec: accelerate(dense, spec) for spec in args.method}}
        runs = {name: [] for name in models}
        for _ in range(args.rounds):
            for name, model in models.items():
                runs[name].append(parts(model, pixels, lambda: now(args.device)))
        for name, model in models.items():
            with Roofline(machine) as roofline:
                floor = parts(model, pixels, lambda roofline=roofline: roofline.seconds)
            spent = {part: statistics.median(run[part] for run in runs[name]) for part in PARTS}
            cells = (f"{part} {1e3 * spent[part]:.1f} ({1e3 * floor[part]:.1f})" for part in PARTS if spent[part])
            print(f"{name}: {', '.join(cells)} ms")


if __name__ == "__main__":
    main()
