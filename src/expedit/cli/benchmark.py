"""``expedit benchmark MODEL [-m SPEC]…``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .options import add_machine, add_methods, check_device, dtype_of

if TYPE_CHECKING:
    from ..measure.benchmark import Counted, Timed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("model", help="a model, a checkpoint, or an architecture (see: expedit list)")
    add_methods(parser)
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="image in pixels (default: the crop)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], metavar="N", help="batch sizes (default: 1)")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="timed rounds (default: 7)")
    parser.add_argument("--macs-only", action="store_true", help="count, do not time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    """Count, time, print, write."""
    from rich.console import Console
    from rich.progress import Progress

    from ..measure.benchmark import as_json, count, measure
    from ..measure.speed import environment, threads
    from ..models.zoo import build
    from ..spec import parse

    methods = [parse(spec) for spec in args.method]
    device = check_device(args.device)
    if min(args.batch) < 1 or args.rounds < 1:
        raise ValueError(f"--batch and --rounds: expected at least 1, got {args.batch} and {args.rounds}")
    model = build(args.model, device="meta")
    size = tuple(args.size or (model.card.crop, model.card.crop))
    if min(size) < 1:
        raise ValueError(f"--size: expected positive pixels, got {size}")
    console = Console(stderr=True)
    with console.status("counting multiply-adds"):
        counted = count(model, methods, size)
    timed: list[Timed] = []
    with threads(args.threads):
        facts = environment(device, dtype_of(args))
        if not args.macs_only:
            with Progress(console=console, transient=True) as progress:
                total = len(args.batch) * (1 + args.rounds) * len(counted)
                task = progress.add_task("timing, interleaved", total=total)
                for batch in args.batch:
                    timed += measure(
                        model, methods, counted, size, batch, args.rounds, device, dtype_of(args),
                        lambda: progress.advance(task),
                    )  # fmt: skip
    _show(args.model, size, counted, timed, facts)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(as_json(args.model, size, counted, timed, facts), indent=2) + "\n")
    return 0


def _show(
    model: str, size: tuple[int, ...], counted: Sequence[Counted], timed: Sequence[Timed], facts: dict[str, str]
) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    title = f"{model} at {size[0]} x {size[1]}, per image"
    table = Table("method", "tokens", "GMACs", "published convention", title=title, title_justify="left")
    for row in counted:
        note = f" ({row.clusters:.0f} query clusters)" if row.clusters is not None else ""
        gmacs = (f"{row.true_gmacs:.2f}", f"{row.published_convention_gmacs:.2f}")
        table.add_row(row.spec + note, f"{row.tokens:.0f}", *gmacs)
    console.print(table)
    if not timed:
        return
    title = ", ".join(f"{key} {value}" for key, value in facts.items())
    columns = ("method", "batch", "ms / image (quartiles)", "speed-up", "MAC ratio", "efficiency", "peak MB")
    table = Table(*columns, title=title, title_justify="left")
    for t in timed:
        times = f"{t.ms:.1f} ({t.ms_low:.1f}-{t.ms_high:.1f})"
        ratios = (f"{t.speedup:.2f}", f"{t.mac_ratio:.2f}", f"{t.efficiency:.2f}")
        table.add_row(t.spec, str(t.batch), times, *ratios, "-" if t.peak_mb is None else f"{t.peak_mb:.0f}")
    console.print(table)
