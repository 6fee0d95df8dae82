"""Peak memory of tracking clips of different lengths, whole and in windows, with a small random network.

    python benchmarks/video_memory.py --frames 8 32 96

Frames of 480 x 854 pixels are made one by one; every length runs in a process of its own, so peaks do not mix (Linux
with glibc only). The network has a tiny Swin and, with ``--width 256``, the decoder's published width, which decides
about the memory.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from expedit.checkpoints import mask2former
from expedit.cost.speed import environment
from expedit.models.mask2former import Architecture
from expedit.models.video_mask2former import VideoMask2Former
from expedit.video import track

SIZE = (480, 854)


def network(width: int, queries: int) -> VideoMask2Former:
    torch.manual_seed(0)
    architecture = Architecture(
        classes=40,
        queries=queries,
        embed=24,
        depths=(1, 1, 2, 1),
        swin_heads=(1, 2, 4, 8),
        conv_dim=width,
        hidden_dim=width,
        mask_dim=width,
        heads=4,
        encoder_layers=1,
        encoder_ffn=width,
        decoder_layers=3,
        decoder_ffn=width,
    )
    names = tuple(f"class {index}" for index in range(40))
    return VideoMask2Former(architecture, mask2former.protocol("video", (1333, 480), names)).eval()


def film(frames: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(0)
    for index in range(frames):
        frame = generator.integers(0, 90, (*SIZE, 3), dtype=np.uint8)
        frame[100:300, 4 * index : 4 * index + 200] = (250, 180, 30)
        yield frame


def peak_memory(run: Callable[[], object]) -> int:
    """Bytes that the process takes from the system for one run, by Linux's own high-water mark."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # start the high-water mark anew
    before = kilobytes("VmRSS")
    run()
    return max(kilobytes("VmHWM") - before, 0) * 1024


def kilobytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key + ":"))


def measure(args: argparse.Namespace) -> dict[str, object]:
    model, [frames] = network(args.width, args.queries), args.frames
    settings = {"frame_batch": args.frame_batch, "window": args.window}
    track(model, film(2), frame_batch=1)
    start = time.perf_counter()
    peak = peak_memory(lambda: track(model, film(frames), **settings))
    seconds = time.perf_counter() - start
    return {"frames": frames, **settings, "width": args.width, "queries": args.queries, "seconds": seconds,
            "peak_mb": peak / 2**20}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 32, 96])
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--frame-batch", type=int, default=4)
    parser.add_argument("--window", type=int)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args)))
        return
    print(json.dumps(environment("cpu", torch.float32)))
    for frames in args.frames:
        options = [f"--width={args.width}", f"--queries={args.queries}", f"--frame-batch={args.frame_batch}"]
        options += [f"--window={args.window}"] if args.window else []
        command = [sys.executable, __file__, "--one", f"--frames={frames}", *options]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip(), flush=True)


if __name__ == "__main__":
    main()
