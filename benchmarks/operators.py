"""What our operators cost beside one dense block: clustering, the weights that read it back, merging into regions.

    python benchmarks/operators.py                                  (a minute on two cores)
    python benchmarks/operators.py --device cuda --dtype bf16 --batch 1 8 32 --compile --profile

ViT-L/16 at 640 x 640 with the row alpha = 10, 28 x 28 of ADE20K, all runs in turn in one process; medians. With
``--profile`` also the kernels of both operators by time, in the largest batch.
"""

import argparse
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from expedit.checkpoints.zoo import build
from expedit.core import Grid
from expedit.cost.benchmark import room_to_compile, warmup_of
from expedit.cost.macs import noise
from expedit.cost.speed import environment, interleave, threads
from expedit.methods.regions import Merging, Regions
from expedit.operators.clustering import cluster
from expedit.operators.similarity import reading_weights
from expedit.surgery import DTYPES, optimized

GRID, CELLS = Grid(40, 40), Grid(28, 28)
BLOCK, BOTH = "dense block, 1601 tokens", "both"


def operators(model: torch.nn.Module, batch: int, compiled: bool) -> dict[str, Callable[[], object]]:
    """The block and the operators on the tokens of ``batch`` images of noise."""
    tokens = model.encoder.embed(noise((640, 640), next(model.parameters()), batch)).x
    block, patches = model.encoder.blocks[12], tokens[:, 1:]
    centres = cluster(patches, GRID, CELLS, 5, 5, 0.02)

    def clustering(x: torch.Tensor) -> torch.Tensor:
        return cluster(x, GRID, CELLS, 5, 5, 0.02)

    def weights(x: torch.Tensor, s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return reading_weights(x, s, 20, 0.02)

    def both(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return weights(x, clustering(x))

    regions = Merging(Regions(keep=0.57))
    calls = {
        BLOCK: (block, (tokens,)),
        "clustering 40x40 to 28x28": (clustering, (patches,)),
        "restore weights, top 20 of 784": (weights, (patches, centres)),
        BOTH: (both, (patches,)),
        "regions, 912 of 1600": (regions, (patches, patches, GRID)),
    }
    if compiled:
        calls = {name: (torch.compile(call, dynamic=False), given) for name, (call, given) in calls.items()}
    return {name: lambda call=call, given=given: call(*given) for name, (call, given) in calls.items()}


def kernels(run: Callable[[], object], device: str) -> str:
    """The operators of one run by their own time."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.startswith("cuda") else [])]
    with profile(activities=activities) as watched:
        run()
    key = "self_cuda_time_total" if device.startswith("cuda") else "self_cpu_time_total"
    return watched.key_averages().table(sort_by=key, row_limit=20, max_name_column_width=60)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="fp32", choices=DTYPES)
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    with threads(args.threads), torch.inference_mode(), room_to_compile():
        print({**environment(args.device, DTYPES[args.dtype]), "compiled": args.compile})
        model = optimized(build("segmenter-vit-l16-ade20k"), dtype=args.dtype).to(args.device)
        for batch in args.batch:
            runs = operators(model, batch, args.compile)
            timings = interleave(runs, args.rounds, max(warmup_of(args.device, args.compile), 2), args.device)
            for name, t in timings.items():
                share = 1 / t.speedup_over(timings[BLOCK])
                print(f"batch {batch}: {name:32} {1e3 * t.median / batch:8.3f} ms/image, {share:.3f} of the block")
        if args.profile:
            print(kernels(runs[BOTH], args.device))


if __name__ == "__main__":
    main()
