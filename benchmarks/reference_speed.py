"""Reference speed: what clustering and restoring cost beside one dense block, and what whole models gain.

    python benchmarks/reference_speed.py            (about 5 minutes on two cores)

ViT-L/16 at 640 x 640, batch 1, fp32, interleaved in one process; medians and ratios. Writes
results/reference_speed-<threads>threads-<torch>.csv.
"""

import argparse
import csv
from pathlib import Path

import torch

from expedit.core import Grid
from expedit.core.clustering import cluster
from expedit.core.similarity import reading_weights
from expedit.measure.benchmark import count, measure
from expedit.measure.macs import noise
from expedit.measure.speed import environment, interleave, threads
from expedit.models.zoo import build
from expedit.spec import parse

RESULTS = Path(__file__).resolve().parents[1] / "results"
MODEL, SIZE = "segmenter-vit-l16-ade20k", (640, 640)
METHODS = ("expedit(alpha=10, grid=(28, 28))", "evit(keep_rate=0.8)", "tome(ratio=0.3)", "act(query_hashes=24)")


def operators(model, rounds: int) -> list[dict]:
    """Clustering and reading weights of ADE20K's row against one dense block on its 1,601 tokens."""
    grid, cells = Grid(40, 40), Grid(28, 28)
    tokens = model.encoder.embed(noise(SIZE, next(model.parameters()))).x
    block, patches = model.encoder.blocks[12], tokens[:, 1:]
    centres = cluster(patches, grid, cells, 5, 5, 0.02)
    runs = {
        "dense block, 1601 tokens": lambda: block(tokens),
        "clustering 40x40 to 28x28": lambda: cluster(patches, grid, cells, 5, 5, 0.02),
        "restore weights, top 20 of 784": lambda: reading_weights(patches, centres, 20, 0.02),
        "both": lambda: reading_weights(patches, cluster(patches, grid, cells, 5, 5, 0.02), 20, 0.02),
    }
    timings = interleave(runs, rounds, warmup=2)
    base = timings["dense block, 1601 tokens"]
    return [
        {"what": name, "ms": 1e3 * t.median, "ratio": 1 / t.speedup_over(base), "figure": "time / dense block"}
        for name, t in timings.items()
    ]


def models(model, rounds: int) -> list[dict]:
    """Whole models: efficiency = speed-up / true MAC ratio."""
    methods = [parse(spec) for spec in METHODS]
    counted = count(model, methods, SIZE)
    pixels = noise(SIZE, next(model.parameters()))
    rows = measure(model, methods, counted, pixels, rounds)
    return [
        {
            "what": t.spec,
            "ms": t.ms,
            "ratio": t.efficiency,
            "figure": f"efficiency = {t.speedup:.3f} / {t.mac_ratio:.3f}",
        }
        for t in rows
    ]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    with threads(args.threads), torch.inference_mode():
        model = build(MODEL)
        rows = operators(model, 5 * args.rounds) + models(model, args.rounds)
        facts = environment()
    for row in rows:
        print(f"{row['what']:40} {row['ms']:9.1f} ms   {row['ratio']:.3f}   {row['figure']}")
    path = RESULTS / f"reference_speed-{facts['threads']}threads-torch{facts['torch']}.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *facts])
        writer.writeheader()
        writer.writerows({**row, **facts} for row in rows)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
