"""Reference speed: what whole models gain by each method, and how much of the arithmetic saved is time saved.

    python benchmarks/reference_speed.py            (about 30 minutes on two cores)

ViT-L/16 at the three published crops, batch 1, fp32, interleaved; medians and ratios over the rounds of several
processes, since one process differs from the next (where its memory lies) by more than its rounds do. Writes
results/reference_speed-<threads>threads-<torch>.csv after every model.
"""

import argparse
import csv
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from expedit import accelerate
from expedit.checkpoints.zoo import build
from expedit.cost.benchmark import Counted, count
from expedit.cost.macs import noise
from expedit.cost.speed import Timing, environment, interleave, peak_tensors, threads
from expedit.spec import parse

T = TypeVar("T")

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


class Race(NamedTuple):
    """What one process measured: a row's place is the same in all of them."""

    counted: list[Counted]
    timings: dict[str, Timing]
    peaks: dict[str, int]


def race(architecture: str, rounds: int, threads_: int) -> Race:
    """Whole models, interleaved."""
    side, specs = MODELS[architecture]
    model, methods = build(architecture), [parse(spec) for spec in specs]
    with prepared(threads_):
        counted = count(model, methods, (side, side))
        pixels = noise((side, side), next(model.parameters()))
        networks = {"dense": model, **{repr(method): accelerate(model, method) for method in methods}}
        runs = {name: lambda network=network: network(pixels) for name, network in networks.items()}
        timings = interleave(runs, rounds, warmup=1)
        return Race(counted, timings, {name: peak_tensors(run) for name, run in runs.items()})


@contextmanager
def prepared(threads_: int) -> Iterator[None]:
    """The threads of a measurement."""
    with threads(threads_), torch.inference_mode():
        yield


def apart(measure: Callable[..., T], processes: int, *args: object) -> list[T]:
    """``measure(*args)`` in so many processes, one after the other."""
    found = []
    for _ in range(processes):
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            found.append(pool.submit(measure, *args).result())
    return found


def together(timings: Sequence[dict[str, Timing]]) -> dict[str, Timing]:
    """The rounds of all processes as one."""
    return {name: Timing(tuple(s for each in timings for s in each[name].seconds)) for name in timings[0]}


def model_rows(races: Sequence[Race], side: int) -> list[dict]:
    """Efficiency = speed-up / true MAC ratio, and its median in each of the processes."""
    timings, rows = together([each.timings for each in races]), []
    for c in races[0].counted:
        mac_ratio = races[0].counted[0].true_gmacs / c.true_gmacs
        ratios = timings[c.spec].ratios_to(timings["dense"])
        each = [one.timings[c.spec].speedup_over(one.timings["dense"]) / mac_ratio for one in races]
        low, high = ratios.spread
        figure = f"efficiency = {ratios.median:.3f} ({low:.3f}-{high:.3f}) / {mac_ratio:.3f}"
        figure += f", by process {' '.join(f'{value:.3f}' for value in each)}"
        figure += f", peak {max(one.peaks[c.spec] for one in races) / 2**20:.0f} MB"
        name, ms = f"{c.spec} at {side}x{side}", 1e3 * timings[c.spec].median
        rows.append({"what": name, "ms": ms, "ratio": ratios.median / mac_ratio, "figure": figure})
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="of each process (default: 3)")
    parser.add_argument("--processes", type=int, default=3, help="(default: 3)")
    args = parser.parse_args()
    with threads(args.threads):
        facts = environment()
    path = RESULTS / f"reference_speed-{facts['threads']}threads-torch{facts['torch']}.csv"
    rows: list[dict] = []

    def keep(fresh: list[dict]) -> None:
        for row in fresh:
            print(f"{row['what']:48} {row['ms']:9.1f} ms   {row['ratio']:.3f}   {row['figure']}", flush=True)
        rows.extend(fresh)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0], *facts])
            writer.writeheader()
            writer.writerows({**row, **facts} for row in rows)

    for architecture, (side, _) in MODELS.items():
        keep(model_rows(apart(race, args.processes, architecture, args.rounds, args.threads), side))
    print(f"written to {path}")


if __name__ == "__main__":
    main()
