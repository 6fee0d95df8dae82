"""``expedit tune MODEL IMAGES``."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from . import console
from .options import add_library, add_machine, add_pixels, check_device, dtype_of, library_of, positive
from .outputs import Outputs, add_overwrite

if TYPE_CHECKING:
    from ..tuning.search import Tuned


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.description = (
        "Find method and settings for a model from photographs like those it will see, without labels: the most"
        " agreement with the dense model within a budget, or the cheapest setting that keeps an agreement."
    )
    parser.add_argument("model", help="a model, a checkpoint, a folder or a hub name (see: expedit list)")
    parser.add_argument("images", type=Path, help="a folder of photographs, or one of them")
    goal = parser.add_mutually_exclusive_group(required=True)
    goal.add_argument("--macs", type=float, metavar="R", help="at most this share of the dense multiply-adds")
    goal.add_argument("--speedup", type=float, metavar="S", help="this many times as fast, measured on this machine")
    goal.add_argument("--agreement", type=float, metavar="A", help="at least this agreement with the dense model, 0..1")
    parser.add_argument(
        "--confidence",
        type=float,
        metavar="C",
        help="promise that agreement for images like these with this probability; takes a few hundred photographs",
    )
    parser.add_argument(
        "--shrink", action="store_true", help="try a smaller image, too, which agreement judges harder than labels do"
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N photographs")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the result there, for -m @FILE")
    add_overwrite(parser)
    add_library(parser)
    add_pixels(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    """Search, print, write."""
    from ..checkpoints.zoo import load
    from ..cost.speed import environment, threads
    from ..data.photographs import open_photographs
    from ..data.writing import write_json
    from ..tuning.search import tune
    from .progress import waiting

    images = open_photographs(args.images).paths[: args.limit]
    if args.output:
        Outputs(args.overwrite, (args.images, Path(args.model))).check_file(args.output)
    model = load(args.model, **library_of(args)).to(check_device(args.device), dtype_of(args))
    goals = {name: getattr(args, name) for name in ("macs", "speedup", "agreement", "confidence")}
    with threads(args.threads), waiting("counting multiply-adds") as show:
        tuned = tune(model, images, **goals, shrink=args.shrink, progress=show)
        facts = environment(args.device, dtype_of(args))
    _show(args, tuned)
    if args.output:
        write_json(args.output, {**tuned.as_json(), "model": args.model, "machine": facts}, indent=2)
        print(f"written to {args.output}")
    return 0


def _show(args: argparse.Namespace, tuned: Tuned) -> None:
    """All trials, the chosen one, and how to use it."""
    from rich.table import Table

    timed = any(trial.speedup for trial in tuned.trials)
    columns = ("method", "multiply-adds", "agreement", *(("speed-up",) if timed else ()))
    table = Table(*columns, title=f"{args.model} on {args.images}", title_justify="left")
    for trial in tuned.trials:
        speed = (f"{trial.speedup:.2f}",) if trial.speedup else ()
        table.add_row(trial.spec, f"{trial.macs:.3f}", f"{trial.agreement:.4f}", *speed)
    out = console.output()
    if tuned.trials:
        out.print(table)
    print(f"{tuned.method}: {tuned.reason}")
    if tuned.method != "dense":
        method = f"@{args.output}" if args.output else tuned.method
        print(f"use it: {shlex.join(['expedit', 'predict', args.model, 'PHOTO', '-m', method])}")
