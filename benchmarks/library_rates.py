"""What the libraries below us make of fewer tokens: rates of a linear layer and of attention by sequence length.

    python benchmarks/library_rates.py            (about a minute on two cores)

ViT-L/16's products in fp32 in turn in one process. Rates fall with the number of rows, so a reduced model cannot be
faster by the whole ratio of its multiply-adds; the last lines say what is left of it for blocks alone, were all else
free.
"""

import argparse

import torch
from torch.nn import functional as F

from expedit.cost.speed import environment, interleave, threads

WIDTH, HEADS, DEPTH = 1024, 16, 24
DENSE = 901
REDUCED = {"expedit(alpha=14, grid=(20, 20))": (14, 401), "expedit(alpha=8, grid=(15, 15))": (8, 226), "tome": (0, 631)}


def products(length: int) -> dict[str, tuple[float, object]]:
    """Multiply-adds and a run of the products of one block on ``length`` tokens."""
    layers = {"qkv": (WIDTH, 3 * WIDTH), "proj": (WIDTH, WIDTH), "fc1": (WIDTH, 4 * WIDTH), "fc2": (4 * WIDTH, WIDTH)}
    runs = {}
    for name, (fan_in, fan_out) in layers.items():
        x, weight, bias = torch.randn(1, length, fan_in), torch.randn(fan_out, fan_in), torch.randn(fan_out)
        runs[name] = length * fan_in * fan_out, lambda x=x, w=weight, b=bias: F.linear(x, w, b)
    heads = torch.randn(3, 1, HEADS, length, WIDTH // HEADS)
    runs["attention"] = 2 * length**2 * WIDTH, lambda: F.scaled_dot_product_attention(*heads)
    return runs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=25)
    args = parser.parse_args()
    with threads(args.threads), torch.inference_mode():
        print(environment())
        lengths = (DENSE, *(length for _, length in REDUCED.values()))
        blocks = {length: products(length) for length in lengths}
        runs = {(name, length): run for length in lengths for name, (_, run) in blocks[length].items()}
        timings = interleave(runs, args.rounds, warmup=2)
        macs = {length: sum(count for count, _ in blocks[length].values()) for length in lengths}
        seconds = {length: sum(timings[name, length].median for name in blocks[length]) for length in lengths}
        for length in lengths:
            rates = {name: count / timings[name, length].median / 1e9 for name, (count, _) in blocks[length].items()}
            rates["block"] = macs[length] / seconds[length] / 1e9
            told = ", ".join(f"{name} {rate:.1f}" for name, rate in rates.items())
            print(f"{length:5} tokens, 10^9 multiply-adds per second: {told}")
        for name, (full, length) in REDUCED.items():
            saved = [DEPTH * x[DENSE] / (full * x[DENSE] + (DEPTH - full) * x[length]) for x in (seconds, macs)]
            print(f"{name}: speed-up {saved[0]:.3f} / MAC ratio {saved[1]:.3f} = {saved[0] / saved[1]:.3f} at most")


if __name__ == "__main__":
    main()
