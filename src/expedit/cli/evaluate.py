"""``expedit evaluate MODEL DATA [-m SPEC]``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import console
from .options import (
    add_clips,
    add_compile,
    add_library,
    add_machine,
    add_numerics,
    add_options,
    add_pixels,
    add_window_batch,
    add_workers,
    default_workers,
    device_of,
    dtype_of,
    library_of,
    options_of,
    positive,
)
from .outputs import Outputs, add_overwrite, check_folder
from .unused import Reasons, by_card, refuse_unused, without_method, without_window

if TYPE_CHECKING:
    from rich.progress import Progress
    from torch import nn

    from ..evaluation.judge import Judge
    from ..evaluation.processes import Processes
    from ..evaluation.resume import Journal
    from ..models.card import Card

STATE = Path("expedit-evaluation")

JUDGED = (
    *("window_batch", "scales", "flip", "submission", "frame_batch", "window", "overlap"),
    *("align", "crop", "depth_range"),
)
"""Arguments that are settings of a judge, each of those that have a field of that name."""

KEPT = (
    *("norm_eps", "pos_embed", "dtype", "compile", "against", "data", "split", "scales", "flip", "window", "overlap"),
    *("align", "crop", "depth_range", "revision", "task", "pixels"),
)
"""Arguments that records depend on: a state of other settings must not be continued."""


USED_BY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("flip", "scales"), ("semantic",)),
    "against": ("semantic", "depth"),
    "submission": ("panoptic", "instance", "video"),
    **dict.fromkeys(("align", "crop", "depth_range"), ("depth",)),
}
"""Arguments, and the tasks that have a use for them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.description = (
        "The scores of a model's task on a data set, and its speed: mIoU, panoptic quality, average precision of masks,"
        " or errors of depth. For many GPUs or processes: torchrun --nproc-per-node N -m expedit evaluate MODEL DATA …"
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
    add_workers(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores there")
    parser.add_argument(
        "--resume",
        type=Path,
        nargs="?",
        const=STATE,
        metavar="DIR",
        help=f"keep the state in DIR (default: {STATE}) and go on from what is there, after a kill for example",
    )
    _add_protocol(parser)
    add_library(parser)
    add_numerics(parser)
    add_machine(parser)
    add_compile(parser)
    add_clips(parser)
    _add_depth(parser)
    add_pixels(parser)
    add_overwrite(parser)


def _add_depth(parser: argparse.ArgumentParser) -> None:
    """``--align``, ``--crop`` and ``--depth-range``: how depths are compared, see ``metrics.depth.DepthProtocol``."""
    group = parser.add_argument_group("depth models")
    group.add_argument(
        "--align",
        choices=("none", "median", "least-squares"),
        help="of every picture with the ground truth (default: none for metres, least-squares for an inverse depth)",
    )
    group.add_argument(
        "--crop",
        choices=("none", "nyu-eigen", "kitti-eigen", "kitti-garg"),
        help="part of the pictures that counts (default: nyu-eigen or kitti-garg)",
    )
    group.add_argument(
        "--depth-range",
        type=float,
        nargs=2,
        metavar=("LEAST", "MOST"),
        help="metres that count (default: 0.001 to 10, of KITTI to 80)",
    )


def _add_protocol(parser: argparse.ArgumentParser) -> None:
    """How an image is looked at, and what is written of it."""
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


def run(args: argparse.Namespace) -> int:
    """Evaluate; the first process prints and writes."""
    from ..cost.speed import threads
    from ..data import open_dataset
    from ..evaluation.evaluate import Run, evaluate
    from ..evaluation.processes import launched
    from ..models.card import card_of
    from .tables import show_evaluation

    drawn = "toy draws its pictures itself; leave it"
    reasons = dict.fromkeys(("root", "max_pixels"), drawn) if args.data == "toy" else {}
    refuse_unused(args, reasons, without_method(args), without_window(args))
    check_outputs(args)
    with launched() as processes, threads(args.threads), shown(processes) as progress:
        models = load_models(args, processes)
        card = card_of(next(iter(models.values())))
        data = open_dataset(args.data if args.root is None else f"{args.data}:{args.root}", args.split, card.task)
        judge = judge_of(card, data, args)
        task = progress.add_task("evaluating", total=None)
        settings = Run(
            limit=args.limit,
            workers=args.workers or default_workers(),
            against=args.against,
            processes=processes,
            journal=journal_of(args.resume, args.model, data, settings_of(args)),
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
        found = evaluate(models, data, judge, settings)
    for evaluation in list(found.values())[-1:]:  # before it is at most the model that it is compared with
        show_evaluation(evaluation)  # first, in case that it cannot be written after all
        write(args, evaluation.as_json())
    return 0


def by_task(task: str) -> Reasons:
    """What an evaluation of this task has no use for."""
    return {
        name: f"is for {', '.join(tasks)} models, and this model is {task}; leave it"
        for name, tasks in USED_BY.items()
        if task not in tasks
    }


def check_outputs(args: argparse.Namespace) -> None:
    """Raise now, not after hours, if results could not be written or would replace somebody else's files."""
    place = args.root or Path(args.data.partition(":")[2] or args.data)
    outputs = Outputs(args.overwrite, (Path(args.model), place))
    if args.json:
        outputs.check_file(args.json)
    if args.submission:
        check_folder(args.submission)
        for name in ("panoptic.json", "results.json", "results.zip"):
            outputs.check_content(args.submission / name)
        outputs.check_inside(args.submission / "panoptic")


def load_models(args: argparse.Namespace, processes: Processes) -> dict[str, nn.Module]:
    """The model to evaluate by name, and before it the one that it is compared with."""
    from ..checkpoints.zoo import load
    from ..models.card import card_of
    from ..spec import parse
    from ..surgery import accelerate, optimized

    options = options_of(args)
    dense = load(args.model, norm_eps=args.norm_eps, pos_embed=args.pos_embed, **library_of(args))
    card = card_of(dense)
    refuse_unused(args, by_card(card), by_task(card.task))
    dense = dense.to(device_of(args, processes), dtype_of(args))
    models = {"dense": optimized(dense, compile=args.compile)}
    if args.method:
        method = parse(args.method)
        models[repr(method)] = accelerate(dense, method, compile=args.compile, **options)
    return models if args.against else dict(list(models.items())[-1:])


def judge_of(card: Card, data: Any, args: argparse.Namespace) -> Judge:
    """The judge of a model's task, with what the arguments say of its settings."""
    from ..evaluation.judges import JUDGES

    kind = JUDGES.get(card.task)
    if kind is None:
        raise ValueError(f"expected a model for {', '.join(JUDGES)}, got one for {card.task}: there is no evaluation")
    given = {name: value for name, value in vars(args).items() if name in JUDGED}
    known = {field.name for field in fields(kind)}
    if given.get("submission") is not None:
        given["submission"].mkdir(parents=True, exist_ok=True)
    return kind(card, data, **{name: value for name, value in given.items() if name in known})


def journal_of(folder: Path | None, source: str, data: Any, settings: Mapping[str, Any]) -> Journal | None:
    """The state in ``folder`` of an evaluation of the weights called ``source`` on all images of ``data``."""
    from ..checkpoints.convert import fingerprint
    from ..evaluation.resume import Journal

    if folder is None:
        return None
    return Journal(folder, {"model": fingerprint(source), "images": len(data), **settings})


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that records depend on beside weights, method and image."""
    return {
        **{name: getattr(args, name) for name in KEPT},
        "options": sorted(set(args.option)),
        "root": args.root and str(args.root.resolve()),
        "submission": args.submission and str(args.submission.resolve()),
    }


def shown(processes: Processes) -> Progress:
    """A bar with the images done and the time left, in the first process."""
    from .progress import Bar

    notes = console.notes()
    notes.quiet = processes.rank > 0
    return Bar(to=notes)


def write(args: argparse.Namespace, scores: dict[str, Any]) -> None:
    """The scores and what they are of, as JSON, if a file was asked for."""
    from ..cost.speed import environment
    from ..data.writing import write_json

    if args.json is None:
        return
    facts = {"model": args.model, "data": args.data, "split": args.split, "method": args.method}
    facts |= {"options": sorted(set(args.option)), "environment": environment(args.device, dtype_of(args))}
    write_json(args.json, {**facts, **scores}, indent=1)
