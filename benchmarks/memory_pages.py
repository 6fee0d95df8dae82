"""What fresh pages cost: a dense forward pass with glibc's defaults and with ``keep_memory``.

    python benchmarks/memory_pages.py            (about 2 minutes on two cores; Linux with glibc)

ViT-L/16 at 640 x 640, batch 1, fp32, both modes in turn in one process; medians, and the median ratio of the rounds.
Time differs from run to run by more than the pages cost, so their number and the time in the system are told, too.
"""

import argparse
import ctypes
import resource
import statistics
from collections.abc import Callable
from typing import NamedTuple

import torch

from expedit.checkpoints.zoo import build
from expedit.cost.macs import noise
from expedit.cost.speed import environment, threads, timed
from expedit.runtime import MMAP_THRESHOLD, TRIM_THRESHOLD, keep_memory, release_memory


def default_memory() -> None:
    """The largest thresholds to which glibc moves on its own, and nothing kept from before."""
    library = ctypes.CDLL(None)
    library.mallopt(MMAP_THRESHOLD, 32 << 20)
    library.mallopt(TRIM_THRESHOLD, 64 << 20)
    release_memory()


class Cost(NamedTuple):
    """Of one forward pass: seconds, seconds of all threads in the system, page faults."""

    seconds: float
    system: float
    faults: int


def cost(run: Callable[[], object]) -> Cost:
    """What one run takes."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    _, seconds = timed(run)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return Cost(seconds, after.ru_stime - before.ru_stime, after.ru_minflt - before.ru_minflt)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with threads(args.threads), torch.inference_mode():
        print(environment())
        model = build("segmenter-vit-l16-ade20k")
        pixels = noise((640, 640), next(model.parameters()))
        costs: dict[str, list[Cost]] = {"default": [], "kept": []}
        for _ in range(args.rounds):
            default_memory()
            costs["default"].append(cost(lambda: model(pixels)))
            keep_memory()
            model(pixels)
            costs["kept"].append(cost(lambda: model(pixels)))
        for mode, rounds in costs.items():
            seconds, system, faults = (statistics.median(values) for values in zip(*rounds, strict=True))
            print(f"{mode}: {1e3 * seconds:.0f} ms, {1e3 * system:.0f} ms in the system, {faults:.0f} page faults")
        ratio = statistics.median(a.seconds / b.seconds for a, b in zip(*costs.values(), strict=True))
        print(f"default / kept: {ratio:.3f}")


if __name__ == "__main__":
    main()
