"""Half precision: how far logits move, and what it gains, dense and reduced.

    python benchmarks/half_precision.py                        (minutes; many of them without bf16 products)
    python benchmarks/half_precision.py --device cuda --rounds 9

Segmenter ViT-L/16 for ADE20K at 640 x 640, batch 1, random weights, all runs in turn in one process. Prints for every
network the speed-up of the lower precision over fp32 and |half - fp32| / |fp32| of the logits (Euclidean norms); then
the efficiency of the reduced network in that precision.
"""

import argparse

import torch

from expedit.checkpoints.zoo import build
from expedit.cost.benchmark import count
from expedit.cost.macs import noise
from expedit.cost.speed import environment, interleave, threads
from expedit.spec import parse
from expedit.surgery import accelerate, optimized


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="expedit(alpha=10, grid=(28, 28))", metavar="SPEC")
    parser.add_argument("--dtype", default="bf16", choices=("bf16", "fp16"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    with threads(args.threads), torch.inference_mode():
        print(environment(args.device, torch.bfloat16 if args.dtype == "bf16" else torch.float16))
        dense = build("segmenter-vit-l16-ade20k")
        counted = count(dense, [parse(args.method)], (640, 640))
        dense = dense.to(args.device)
        pixels = noise((640, 640), next(dense.parameters()))
        nets = {
            ("dense", "fp32"): dense,
            ("dense", args.dtype): optimized(dense, dtype=args.dtype),
            (args.method, "fp32"): accelerate(dense, args.method),
            (args.method, args.dtype): accelerate(dense, args.method, dtype=args.dtype),
        }

        def run(key):
            return nets[key](pixels.to(next(nets[key].parameters()).dtype)).float()

        timings = interleave({key: lambda key=key: run(key) for key in nets}, args.rounds, device=args.device)
        for name in ("dense", args.method):
            full, half = run((name, "fp32")), run((name, args.dtype))
            error = ((half - full).norm() / full.norm()).item()
            gain = timings[name, args.dtype].speedup_over(timings[name, "fp32"])
            print(f"{name}: {args.dtype} over fp32 {gain:.2f}, logits differ by {error:.1e}")
        speedup = timings[args.method, args.dtype].speedup_over(timings["dense", args.dtype])
        mac_ratio = counted[0].true_gmacs / counted[1].true_gmacs
        efficiency = f"speed-up {speedup:.3f} / MAC ratio {mac_ratio:.3f} = efficiency {speedup / mac_ratio:.3f}"
        print(f"in {args.dtype}: {efficiency}")


if __name__ == "__main__":
    main()
