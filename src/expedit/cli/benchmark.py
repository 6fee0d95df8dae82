"""``expedit benchmark MODEL [-m SPEC]…``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import console
from .options import (
    add_compile,
    add_library,
    add_machine,
    add_methods,
    add_options,
    check_device,
    dtype_of,
    library_of,
    options_of,
    positive,
)
from .outputs import Outputs, add_overwrite
from .unused import counting_only, refuse_unused, without_method

if TYPE_CHECKING:
    from torch import nn

    from ..core import Method
    from ..cost.benchmark import Counted, Timed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("model", help="a model, a checkpoint, or an architecture (see: expedit list)")
    add_methods(parser)
    add_options(parser)
    parser.add_argument(
        "--size",
        type=positive,
        nargs=2,
        metavar=("H", "W"),
        help="image in pixels (default: the crop, or as published)",
    )
    parser.add_argument(
        "--frames",
        type=positive,
        metavar="N",
        help="count clips of N images (default: 1, for a video network as published)",
    )
    parser.add_argument("--batch", type=positive, nargs="+", default=[1], metavar="N", help="batch sizes (default: 1)")
    parser.add_argument(
        "--against",
        metavar="LIST",
        help="what one could take instead, in the same run: some of size=N, bf16, fp16, compile, onnx, openvino",
    )
    parser.add_argument("--rounds", type=positive, default=7, metavar="N", help="timed rounds (default: 7)")
    parser.add_argument("--macs-only", action="store_true", help="count, do not time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    add_overwrite(parser)
    add_library(parser)
    add_machine(parser)
    add_compile(parser)


def run(args: argparse.Namespace) -> int:
    """Count, time, print, write."""
    from ..checkpoints.zoo import build
    from ..cost.alternatives import parse_against
    from ..cost.benchmark import as_json, count
    from ..cost.macs import nominal_size
    from ..cost.speed import environment, threads
    from ..data.writing import write_json
    from ..recipes import measured_at
    from ..spec import parse
    from .progress import waiting

    methods = [parse(spec) for spec in args.method]
    options = options_of(args)
    refuse_unused(args, without_method(args), counting_only(args))
    against = parse_against(args.against) if args.against else ()
    check_device(args.device)
    if args.json:
        Outputs(args.overwrite, (Path(args.model),)).check_file(args.json)
    light = args.macs_only and all(method.static for method in methods)
    model = build(args.model, device="meta" if light else "cpu", **library_of(args))
    published_frames, *published_size = measured_at(args.model) or (1, *nominal_size(model))
    size = tuple(args.size or published_size)
    frames = published_frames if args.frames is None else args.frames
    with waiting("counting multiply-adds"):
        counted = count(model, methods, size, options=options, frames=frames)
    timed: list[Timed] = []
    with threads(args.threads):
        facts = {**environment(args.device, dtype_of(args)), "compiled": "yes" if args.compile else "no"}
        if not args.macs_only:
            timed = _time(model, methods, counted, size, against, args)
    _show(args.model, size, counted, timed, facts, frames)
    if args.json:
        content = as_json(args.model, size, counted, timed, facts, frames)
        write_json(args.json, content, indent=2)
    return 0


def _time(
    model: nn.Module,
    methods: Sequence[Method],
    counted: Sequence[Counted],
    size: tuple[int, int],
    against: Sequence[str],
    args: argparse.Namespace,
) -> list[Timed]:
    """Interleaved timing at every batch size, with progress."""
    from ..cost.benchmark import measure, rounds_of
    from ..cost.macs import noise
    from .progress import Bar

    like = next(model.parameters()).new_empty(0, dtype=dtype_of(args), device=args.device)
    timed: list[Timed] = []
    with Bar(to=console.notes()) as bar:
        rounds = rounds_of(args.rounds, args.device, args.compile)
        contestants = len(counted) * (1 + len(against))
        task = bar.add_task("timing, interleaved", total=len(args.batch) * rounds * contestants)
        for batch in args.batch:
            pixels = noise(size, like, batch)
            timed += measure(
                model,
                methods,
                counted,
                pixels,
                args.rounds,
                options=options_of(args),
                progress=lambda: bar.advance(task),
                compile=args.compile,
                against=against,
            )
    return timed


def _show(
    model: str,
    size: tuple[int, ...],
    counted: Sequence[Counted],
    timed: Sequence[Timed],
    facts: dict[str, str],
    frames: int,
) -> None:
    from rich.table import Table

    out = console.output()
    unit = "image" if frames == 1 else f"clip of {frames} frames"
    title = f"{model} at {size[0]} x {size[1]}, per {unit}"
    table = Table("method", "tokens", "GMACs", "published convention", title=title, title_justify="left")
    for row in counted:
        note = f" ({row.clusters:.0f} query clusters)" if row.clusters is not None else ""
        published = row.published_convention_gmacs
        gmacs = (f"{row.true_gmacs:.2f}", "-" if published is None else f"{published:.2f}")
        table.add_row(row.spec + note, f"{row.tokens:.0f}", *gmacs)
    out.print(table)
    if timed:
        _show_times(timed, facts)
        _show_parts(timed)


def _show_times(timed: Sequence[Timed], facts: dict[str, str]) -> None:
    """What was measured."""
    from rich.table import Table

    title = ", ".join(f"{key} {value}" for key, value in facts.items())
    columns = (
        "method",
        "batch",
        "ms / image (quartiles)",
        "speed-up (quartiles)",
        "MAC ratio",
        "efficiency",
        "peak MB",
        "agreement",
    )
    table = Table(*columns, title=title, title_justify="left")
    for t in timed:
        times = f"{t.ms:.1f} ({t.ms_low:.1f}-{t.ms_high:.1f})"
        speedup = f"{t.speedup:.2f} ({t.speedup_low:.2f}-{t.speedup_high:.2f})"
        ratios = (speedup, f"{t.mac_ratio:.2f}", f"{t.efficiency:.3f}")
        peak = "-" if t.peak_mb is None else f"{t.peak_mb:.0f}"
        same = "-" if t.agreement is None else f"{100 * t.agreement:.1f} %"
        table.add_row(t.spec, str(t.batch), times, *ratios, peak, same)
    console.output().print(table)


def _show_parts(timed: Sequence[Timed]) -> None:
    """Where the time goes."""
    from rich.table import Table

    timed = [t for t in timed if t.parts_ms]
    shown = [part for part in timed[0].parts_ms if any(t.parts_ms[part] for t in timed)]
    table = Table("method", "batch", *shown, title="ms / image by part, eager", title_justify="left")
    for t in timed:
        cells = (f"{t.parts_ms[part]:.1f}" if t.parts_ms[part] else "-" for part in shown)
        table.add_row(t.spec, str(t.batch), *cells)
    console.output().print(table)
