"""What memory pages cost: a dense forward pass with glibc's defaults, with ``keep_memory``, and with huge pages, too.

    python benchmarks/memory_pages.py            (about 6 minutes on two cores; Linux with glibc)

ViT-L/16 at 640 x 640, batch 1, fp32; medians, and the median ratio of the rounds. The first two modes run in turn in
one process. Huge pages (``GLIBC_TUNABLES=glibc.malloc.hugetlb=1``) are chosen when a process starts, so they and
ordinary ones run in processes of their own, in turn.
"""

import argparse
import ctypes
import os
import statistics
import subprocess
import sys

import torch

from expedit.measure.macs import noise
from expedit.measure.speed import environment, threads, timed
from expedit.models.zoo import build
from expedit.runtime import MMAP_THRESHOLD, TRIM_THRESHOLD, keep_memory, release_memory


def default_memory() -> None:
    """The largest thresholds to which glibc moves on its own, and nothing kept from before."""
    library = ctypes.CDLL(None)
    library.mallopt(MMAP_THRESHOLD, 32 << 20)
    library.mallopt(TRIM_THRESHOLD, 64 << 20)
    release_memory()


def alone(huge: bool, threads_: int) -> float:
    """Seconds of one forward pass, after two that do not count, in a process of its own."""
    environ = {**os.environ, "GLIBC_TUNABLES": f"glibc.malloc.hugetlb={int(huge)}"}
    command = [sys.executable, __file__, "--alone", "--threads", str(threads_)]
    return float(subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout)


def report(name: str, slow: list[float], fast: list[float]) -> None:
    """Medians in milliseconds, and the median ratio of the rounds."""
    ratio = statistics.median(a / b for a, b in zip(slow, fast, strict=True))
    print(f"{name}: {1e3 * statistics.median(slow):.0f} and {1e3 * statistics.median(fast):.0f} ms, ratio {ratio:.3f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="print the seconds of one run with memory kept")
    args = parser.parse_args()
    with threads(args.threads), torch.inference_mode():
        model = build("segmenter-vit-l16-ade20k")
        pixels = noise((640, 640), next(model.parameters()))
        if args.alone:
            keep_memory()
            model(pixels), model(pixels)
            print(timed(lambda: model(pixels))[1])
            return
        print(environment())
        default, kept = [], []
        for _ in range(args.rounds):
            default_memory()
            default.append(timed(lambda: model(pixels))[1])
            keep_memory()
            model(pixels)
            kept.append(timed(lambda: model(pixels))[1])
        report("dense forward, default and kept memory", default, kept)
    pairs = [(alone(False, args.threads), alone(True, args.threads)) for _ in range(args.rounds)]
    report("dense forward, kept memory, ordinary and huge pages", *map(list, zip(*pairs, strict=True)))


if __name__ == "__main__":
    main()
