"""Reference speed: what clustering and restoring cost beside one dense block, and what whole models gain.

    python benchmarks/reference_speed.py            (about 15 minutes on two cores)

ViT-L/16 at the three published crops, batch 1, fp32, interleaved in one process; medians and ratios. Writes
results/reference_speed-<threads>threads-<torch>.csv after every model.
"""

import argparse
import csv
from pathlib import Path

import torch

from expedit import accelerate
from expedit.core import Grid
from expedit.core.clustering import cluster
from expedit.core.similarity import reading_weights
from expedit.measure.benchmark import count
from expedit.measure.macs import noise
from expedit.measure.speed import environment, interleave, peak_tensors, threads
from expedit.models.zoo import build
from expedit.runtime import keep_memory
from expedit.spec import parse

RESULTS = Path(__file__).resolve().parents[1] / "results"
OTHERS = ("evit(keep_rate=0.8)", "tome(ratio=0.3)", "act(query_hashes=24)")
MODELS = {
    "segmenter-vit-l16-ade20k": (640, ("expedit(alpha=10, grid=(28, 28))", *OTHERS)),
    "segmenter-vit-l16-pascal-context": (
        480,
        ("expedit(alpha=14, grid=(20, 20))", "expedit(alpha=8, grid=(15, 15))", *OTHERS),
    ),
    "segmenter-vit-l16-cityscapes": (768, ("expedit(alpha=14, grid=(32, 32))", *OTHERS)),
}


def operators(model, rounds: int) -> list[dict]:
    """Clustering and reading weights of ADE20K's row against one dense block on its 1,601 tokens."""
    grid, cells = Grid(40, 40), Grid(28, 28)
    tokens = model.encoder.embed(noise((640, 640), next(model.parameters()))).x
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


def contest(model, side: int, specs: tuple[str, ...], rounds: int) -> list[dict]:
    """Whole models: efficiency = speed-up / true MAC ratio."""
    methods = [parse(spec) for spec in specs]
    counted = count(model, methods, (side, side))
    pixels = noise((side, side), next(model.parameters()))
    networks = {"dense": model, **{repr(method): accelerate(model, method) for method in methods}}
    runs = {name: lambda network=network: network(pixels) for name, network in networks.items()}
    timings = interleave(runs, rounds, warmup=1)
    rows = []
    for c in counted:
        timing, mac_ratio = timings[c.spec], counted[0].true_gmacs / c.true_gmacs
        ratios = timing.ratios_to(timings["dense"])
        low, high = ratios.spread
        figure = f"efficiency = {ratios.median:.3f} ({low:.3f}-{high:.3f}) / {mac_ratio:.3f}"
        figure += f", peak {peak_tensors(runs[c.spec]) / 2**20:.0f} MB"
        name = f"{c.spec} at {side}x{side}"
        rows.append({"what": name, "ms": 1e3 * timing.median, "ratio": ratios.median / mac_ratio, "figure": figure})
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    keep_memory()
    rows: list[dict] = []
    with threads(args.threads), torch.inference_mode():
        facts = environment()
        path = RESULTS / f"reference_speed-{facts['threads']}threads-torch{facts['torch']}.csv"
        for architecture, (side, specs) in MODELS.items():
            model = build(architecture)
            fresh = [] if rows else operators(model, 5 * args.rounds)
            fresh += contest(model, side, specs, args.rounds)
            for row in fresh:
                print(f"{row['what']:48} {row['ms']:9.1f} ms   {row['ratio']:.3f}   {row['figure']}", flush=True)
            rows += fresh
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, [*rows[0], *facts])
                writer.writeheader()
                writer.writerows({**row, **facts} for row in rows)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
