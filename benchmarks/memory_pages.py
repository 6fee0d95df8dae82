"""What fresh pages cost: a dense forward pass with glibc's defaults and with ``keep_memory``.

    python benchmarks/memory_pages.py            (about 2 minutes on two cores; Linux with glibc)

ViT-L/16 at 640 x 640, batch 1, fp32, both modes in turn in one process; medians, and the median ratio of the rounds.
"""

import argparse
import ctypes
import statistics

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
        seconds: dict[str, list[float]] = {"default": [], "kept": []}
        for _ in range(args.rounds):
            default_memory()
            seconds["default"].append(timed(lambda: model(pixels))[1])
            keep_memory()
            model(pixels)
            seconds["kept"].append(timed(lambda: model(pixels))[1])
        ratio = statistics.median(a / b for a, b in zip(*seconds.values(), strict=True))
        medians = ", ".join(f"{mode} {1e3 * statistics.median(values):.0f} ms" for mode, values in seconds.items())
        print(f"dense forward: {medians}, ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
