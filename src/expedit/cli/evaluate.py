"""``expedit evaluate MODEL DATA [-m SPEC]``."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import add_machine, add_numerics, check_device, dtype_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from torch import nn

    from ..data import SemanticData
    from ..measure.evaluate import Evaluation
    from ..measure.processes import Processes

STATE = Path("expedit-evaluation")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.description = (
        "Mean IoU and speed of a model on a data set. For many GPUs or processes:"
        " torchrun --nproc-per-node N -m expedit evaluate MODEL DATA …"
    )
    parser.add_argument("model", help="a model or a checkpoint (see: expedit list)")
    parser.add_argument("data", help="a data set: toy, NAME:PATH, or a path whose layout tells (see: expedit list)")
    parser.add_argument("-m", "--method", metavar="SPEC", help="accelerate with it, as in 'expedit(alpha=6)'")
    parser.add_argument("--root", type=Path, metavar="PATH", help="where the data set called DATA is")
    parser.add_argument("--split", default="val", help="(default: val)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    parser.add_argument(
        "--against", choices=("dense",), help="agreement with the model that is not accelerated; needs no labels"
    )
    parser.add_argument("--window-batch", type=int, default=1, metavar="N", help="sliding windows per run (default: 1)")
    parser.add_argument(
        "--scales", type=float, nargs="+", default=[1.0], metavar="S", help="multi-scale testing, such as 0.5 1 1.5"
    )
    parser.add_argument("--flip", action="store_true", help="average with the mirrored image")
    parser.add_argument("--workers", type=int, metavar="N", help="threads that read ahead (default: half the cores)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--resume",
        type=Path,
        nargs="?",
        const=STATE,
        metavar="DIR",
        help=f"keep the state in DIR (default: {STATE}) and go on from what is there, after a kill for example",
    )
    add_numerics(parser)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate; the first process prints and writes."""
    from rich.console import Console

    from ..data import open_dataset
    from ..measure.evaluate import Protocol, evaluate
    from ..measure.partial import Partial
    from ..measure.processes import launched
    from ..measure.speed import threads

    workers = args.workers if args.workers is not None else min(max((os.cpu_count() or 2) // 2, 2), 8)
    protocol = Protocol(args.window_batch, tuple(args.scales), args.flip, workers)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)  # a bad path is told now, not after hours
    data = open_dataset(args.data if args.root is None else f"{args.data}:{args.root}", args.split)
    with launched() as processes, threads(args.threads):
        console = Console(stderr=True, quiet=processes.rank > 0)
        model, dense = models(args, processes)
        partial = Partial(args.resume, settings(args, data)) if args.resume else None
        with shown(console) as progress:
            task = progress.add_task("evaluating", total=None)
            result = evaluate(
                model,
                data,
                against=dense if args.against else None,
                limit=args.limit,
                protocol=protocol,
                processes=processes,
                partial=partial,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
        if processes.rank == 0:
            if args.json:
                write(args.json, args, result)
            report(result)
    return 0


def models(args: argparse.Namespace, processes: Processes) -> tuple[nn.Module, nn.Module]:
    """The model to evaluate and the one that is not accelerated, on the device of this process."""
    from ..models.zoo import load
    from ..surgery import accelerate

    device = f"cuda:{processes.local}" if args.device == "cuda" and processes.world > 1 else args.device
    place = check_device(device), dtype_of(args)
    dense = load(args.model, norm_eps=args.norm_eps, pos_embed=args.pos_embed).to(*place)
    return (accelerate(dense, args.method).to(*place) if args.method else dense), dense


def settings(args: argparse.Namespace, data: SemanticData) -> dict[str, Any]:
    """Everything the counts depend on: a state of other settings must not be continued."""
    from ..models.convert import sha256, weights_of
    from ..models.zoo import SHIPPED
    from ..spec import parse

    return {
        "model": sha256(weights_of(SHIPPED.get(args.model, Path(args.model)))),
        "norm_eps": args.norm_eps,
        "pos_embed": args.pos_embed,
        "method": repr(parse(args.method)) if args.method else None,
        "dtype": args.dtype,
        "against": args.against,
        "data": args.data,
        "root": str(args.root.resolve()) if args.root else None,
        "split": args.split,
        "images": len(data),
        "limit": args.limit,
        "scales": args.scales,
        "flip": args.flip,
    }


def shown(console: Console) -> Progress:
    """A bar with the images done, the pace, and the time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def write(path: Path, args: argparse.Namespace, result: Evaluation) -> None:
    """The figures and what they are of, as JSON."""
    from ..measure.speed import environment

    facts = {"model": args.model, "data": args.data, "split": args.split, "method": args.method}
    facts |= {"environment": environment(args.device, dtype_of(args))}
    path.write_text(json.dumps({**facts, **result.as_json()}, indent=1) + "\n")


def report(result: Evaluation) -> None:
    """Figures in per cent, and the IoU of every class that occurs."""
    from rich.table import Table

    from .console import output

    scores, likeness = result.scores, result.likeness
    figures = Table("figure", "", title=f"{result.images} images", title_justify="left")
    if result.counts.any():
        figures.add_row("mIoU", _percent(scores.miou()))
        figures.add_row("pixel accuracy", _percent(scores.pixel_accuracy))
        figures.add_row("mean class accuracy", _percent(scores.class_accuracy))
    if result.agreement.any():
        figures.add_row("pixels as the dense model says", _percent(likeness.pixel_accuracy))
        figures.add_row("mIoU against the dense model", _percent(likeness.miou()))
    if result.fresh:
        figures.add_row("images per second", f"{result.images_per_second:.2f}")
        figures.add_row("share of the time waiting for images", _percent(result.waiting / result.seconds))
    shown = scores if result.counts.any() else likeness
    classes = Table("class", "IoU", "accuracy", title_justify="left")
    for name, iou, accuracy in zip(result.classes, shown.iou, shown.accuracy, strict=True):
        if iou == iou:  # nan: the class occurs nowhere
            classes.add_row(name, _percent(iou), _percent(accuracy))
    console = output()
    console.print(classes)
    console.print(figures)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %" if share == share else "-"
