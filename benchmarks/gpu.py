"""What methods gain on a GPU: whole networks at several batch sizes, eagerly, in CUDA graphs, compiled.

    python benchmarks/gpu.py segmenter-l dinov3-l --batch 1 8 32 --how eager graph

Random weights. Dense and reduced networks run in turn in one process; medians of the ratios within the rounds. Writes
results/gpu-<device>-<dtype>.csv after every batch. ``--profile N`` prints the N slowest kernels of the last method.
"""

import argparse
import csv
import re
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from expedit import accelerate
from expedit.checkpoints.zoo import build
from expedit.cost.benchmark import count, room_to_compile
from expedit.cost.macs import noise
from expedit.cost.speed import environment, interleave, peak_tensors
from expedit.spec import parse
from expedit.surgery import DTYPES, optimized, share

RESULTS = Path(__file__).resolve().parents[1] / "results"
SIDE = 640
SPECS = ("expedit(alpha=10, grid=0.7)", "regions(alpha=4, keep=0.6)", "evit(keep_rate=0.8)", "tome(ratio=0.3)")


def dinov3_large():
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    sizes = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    config = DINOv3ViTConfig(**sizes, image_size=SIDE, patch_size=16, num_register_tokens=4, attn_implementation="sdpa")
    return DINOv3ViTModel(config)


MODELS = {"segmenter-l": lambda: build("segmenter-vit-l16-ade20k"), "dinov3-l": dinov3_large}


def eager(network, pixels):
    return lambda: network(pixels)


def graph(network, pixels):
    """Replays of one captured forward: what is left when no kernel is launched one by one."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            network(pixels)
    torch.cuda.current_stream().wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        network(pixels)
    return captured.replay


def compiled(network, pixels, mode=None):
    network = share(network)
    network.compile(dynamic=False, mode=mode)
    start = time.perf_counter()
    for _ in range(3):
        network(pixels)
    torch.cuda.synchronize()
    print(f"    compiled in {time.perf_counter() - start:.0f} s", flush=True)
    return lambda: network(pixels)


def compiled_graph(network, pixels):
    """Compiled, and replayed as CUDA graphs."""
    return compiled(network, pixels, "reduce-overhead")


HOW = {"eager": eager, "graph": graph, "compiled": compiled, "compiled-graph": compiled_graph}


def measure(networks, pixels, how, rounds):
    """Median times, ratios to the dense network and peaks."""
    runs = {name: HOW[how](network, pixels) for name, network in networks.items()}
    timings = interleave(runs, rounds, warmup=3, device="cuda")
    return timings, {name: peak_tensors(run, "cuda") for name, run in runs.items()}


def rows_of(name, counted, timings, peaks, how, batch):
    for c in counted:
        ratio = counted[0].true_gmacs / c.true_gmacs
        speedups = timings[c.spec].ratios_to(timings["dense"])
        yield {
            "model": name,
            "spec": c.spec,
            "how": how,
            "batch": batch,
            "ms_per_image": f"{1e3 * timings[c.spec].median / batch:.3f}",
            "images_per_second": f"{batch / timings[c.spec].median:.1f}",
            "speedup": f"{speedups.median:.3f}",
            "mac_ratio": f"{ratio:.3f}",
            "efficiency": f"{speedups.median / ratio:.3f}",
            "peak_mb": f"{peaks[c.spec] / 2**20:.0f}",
        }


def kernels(network, pixels, most):
    """The slowest kernels of one eager forward."""
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as watched:
        network(pixels)
    return watched.key_averages().table(sort_by="self_cuda_time_total", row_limit=most, max_name_column_width=70)


def write(path, rows, facts):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *facts])
        writer.writeheader()
        writer.writerows({**row, **facts} for row in rows)


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", choices=MODELS)
    parser.add_argument("-m", "--method", action="append", help=f"(default: {', '.join(SPECS)})")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--dtype", default="bf16", choices=DTYPES)
    parser.add_argument("--how", nargs="+", default=["eager"], choices=HOW)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--profile", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    facts = environment("cuda", DTYPES[args.dtype])
    device = re.sub(r"\W+", "_", facts["device"])
    path = args.output or RESULTS / f"gpu-{device}-{args.dtype}-torch{facts['torch']}.csv"
    methods, rows = [parse(spec) for spec in args.method or SPECS], []
    with torch.inference_mode(), room_to_compile():
        for name in args.models:
            dense = optimized(MODELS[name]().eval(), dtype=args.dtype)
            counted = count(dense, methods, (SIDE, SIDE))
            dense.to("cuda")
            networks = {"dense": dense, **{repr(method): accelerate(dense, method) for method in methods}}
            for batch in args.batch:
                pixels = noise((SIDE, SIDE), next(dense.parameters()), batch)
                for how in args.how:
                    found = list(rows_of(name, counted, *measure(networks, pixels, how, args.rounds), how, batch))
                    for row in found:
                        print(*row.values(), flush=True)
                    rows.extend(found)
                    write(path, rows, facts)
                if args.profile:
                    print(kernels(networks[repr(methods[-1])], pixels, args.profile))


if __name__ == "__main__":
    main()
