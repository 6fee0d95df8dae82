"""``expedit evaluate MODEL DATA [-m SPEC]``."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    add_clips,
    add_compile,
    add_machine,
    add_numerics,
    add_options,
    add_window_batch,
    check_compile,
    check_device,
    dtype_of,
    options_of,
    positive,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from torch import nn

    from ..evaluation.evaluate import Protocol
    from ..evaluation.objects import ObjectEvaluation
    from ..evaluation.processes import Processes

STATE = Path("expedit-evaluation")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.description = (
        "The figures of a model's task on a data set, and its speed: mIoU, panoptic quality, or average precision of"
        " masks. For many GPUs or processes: torchrun --nproc-per-node N -m expedit evaluate MODEL DATA …"
    )
    parser.add_argument("model", help="a model or a checkpoint (see: expedit list)")
    parser.add_argument("data", help="a data set: toy, NAME:PATH, or a path whose layout tells (see: expedit list)")
    parser.add_argument("-m", "--method", metavar="SPEC", help="accelerate with it, as in 'expedit(alpha=6)'")
    add_options(parser)
    parser.add_argument("--root", type=Path, metavar="PATH", help="where the data set called DATA is")
    parser.add_argument("--split", default="val", help="(default: val)")
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N images")
    parser.add_argument(
        "--against", choices=("dense",), help="agreement with the model that is not accelerated; needs no labels"
    )
    add_window_batch(parser)
    parser.add_argument(
        "--scales", type=float, nargs="+", default=[1.0], metavar="S", help="multi-scale testing, such as 0.5 1 1.5"
    )
    parser.add_argument("--flip", action="store_true", help="average with the mirrored image")
    parser.add_argument(
        "--submission",
        type=Path,
        metavar="DIR",
        help="write the predictions there in the official format: panoptic.json and PNGs, COCO's results.json, or"
        " YouTubeVIS's results.zip",
    )
    parser.add_argument(
        "--workers", type=positive, metavar="N", help="threads that read ahead (default: half the cores)"
    )
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
    add_compile(parser)
    add_clips(parser)


@dataclass(frozen=True)
class Job:
    """What is evaluated in this process: a model, the one it is compared with, and how."""

    args: argparse.Namespace
    task: str
    model: nn.Module
    dense: nn.Module
    protocol: Protocol
    processes: Processes
    progress: Callable[[int, int], None]


def run(args: argparse.Namespace) -> int:
    """Evaluate; the first process prints and writes."""
    from rich.console import Console

    from ..cost.speed import threads
    from ..evaluation.evaluate import Protocol
    from ..evaluation.processes import launched

    workers = args.workers if args.workers is not None else min(max((os.cpu_count() or 2) // 2, 2), 8)
    protocol = Protocol(args.window_batch, tuple(args.scales), args.flip, workers)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)  # a bad path is told now, not after hours
    with launched() as processes, threads(args.threads):
        console = Console(stderr=True, quiet=processes.rank > 0)
        model, dense = models(args, processes)
        card: Any = model.card
        if card.task not in TASKS:
            raise ValueError(
                f"{args.model}: there is no evaluation of {card.task} models; of {', '.join(TASKS)} there is"
            )
        with shown(console) as progress:
            task = progress.add_task("evaluating", total=None)

            def show(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total)

            TASKS[card.task](Job(args, card.task, model, dense, protocol, processes, show))
    return 0


def semantic(job: Job) -> None:
    """Mean IoU, and agreement with the dense model."""
    from ..data import open_dataset
    from ..evaluation.evaluate import evaluate
    from ..evaluation.resume import Partial
    from .tables import show_semantic

    args = job.args
    if args.submission is not None:
        raise ValueError("--submission: semantic models have no submission files; write label pictures with predict")
    data = open_dataset(place(args), args.split)
    result = evaluate(
        job.model,
        data,
        against=job.dense if args.against else None,
        limit=args.limit,
        protocol=job.protocol,
        processes=job.processes,
        partial=Partial(args.resume, settings(args, len(data))) if args.resume else None,
        progress=job.progress,
    )
    if job.processes.rank == 0:
        write(args, result.as_json())
        show_semantic(result)


def objects(job: Job) -> None:
    """Panoptic quality, or average precision of masks or tracks; of videos without public truth the submission only."""
    from ..data import open_dataset
    from ..evaluation.evaluate_video import evaluate_video
    from ..evaluation.objects import evaluate_objects
    from ..evaluation.resume import Journal
    from .tables import show_objects

    args = job.args
    if args.against or args.flip or args.scales != [1.0]:
        raise ValueError(f"--against, --flip and --scales are for semantic models; {args.model} is {job.task}")
    if args.submission is not None:
        args.submission.mkdir(parents=True, exist_ok=True)
    data = open_dataset(place(args), args.split, job.task)
    if job.task == "video":
        evaluate: Callable[..., ObjectEvaluation | None] = evaluate_video
        clips = {"frame_batch": args.frame_batch, "window": args.window, "overlap": args.overlap}
    else:
        evaluate, clips = partial(evaluate_objects, workers=job.protocol.workers), {}
    result = evaluate(
        job.model,
        data,
        limit=args.limit,
        submission=args.submission,
        processes=job.processes,
        journal=Journal(args.resume, settings(args, len(data)) | clips) if args.resume else None,
        progress=job.progress,
        **clips,
    )
    if result is not None:
        write(args, result.as_json())
        show_objects(result)


TASKS: dict[str, Callable[[Job], None]] = {
    "semantic": semantic,
    "panoptic": objects,
    "instance": objects,
    "video": objects,
}
"""How a model is evaluated, by the task of its card."""


def place(args: argparse.Namespace) -> str:
    """The data set as ``open_dataset`` takes it."""
    return args.data if args.root is None else f"{args.data}:{args.root}"


def models(args: argparse.Namespace, processes: Processes) -> tuple[nn.Module, nn.Module]:
    """The model to evaluate and the one that is not accelerated, on the device of this process."""
    from ..checkpoints.zoo import load
    from ..surgery import accelerate, optimized

    options = options_of(args)
    device = f"cuda:{processes.local}" if args.device == "cuda" and processes.world > 1 else args.device
    dense = load(args.model, norm_eps=args.norm_eps, pos_embed=args.pos_embed).to(check_device(device), dtype_of(args))
    check_compile(args, dense)
    fast = accelerate(dense, args.method, compile=args.compile, **options) if args.method else None
    dense = optimized(dense, compile=args.compile)
    return (dense if fast is None else fast), dense


def settings(args: argparse.Namespace, images: int) -> dict[str, Any]:
    """Everything the figures depend on: a state of other settings must not be continued."""
    from ..checkpoints.convert import sha256, weights_of
    from ..checkpoints.zoo import SHIPPED
    from ..spec import parse

    return {
        "model": sha256(weights_of(SHIPPED.get(args.model, Path(args.model)))),
        "norm_eps": args.norm_eps,
        "pos_embed": args.pos_embed,
        "method": repr(parse(args.method)) if args.method else None,
        "options": sorted(set(args.option)),
        "dtype": args.dtype,
        "compile": args.compile,
        "against": args.against,
        "data": args.data,
        "root": str(args.root.resolve()) if args.root else None,
        "split": args.split,
        "images": images,
        "limit": args.limit,
        "scales": args.scales,
        "flip": args.flip,
        "submission": str(args.submission.resolve()) if args.submission else None,
    }


def shown(console: Console) -> Progress:
    """A bar with the images done, the pace, and the time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def write(args: argparse.Namespace, figures: dict[str, Any]) -> None:
    """The figures and what they are of, as JSON, if a file was asked for."""
    from ..cost.speed import environment
    from ..data.writing import write_text

    if args.json is None:
        return
    facts = {"model": args.model, "data": args.data, "split": args.split, "method": args.method}
    facts |= {"options": sorted(set(args.option)), "environment": environment(args.device, dtype_of(args))}
    write_text(args.json, json.dumps({**facts, **figures}, indent=1) + "\n")
