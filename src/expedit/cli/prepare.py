"""``expedit prepare``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import add_pixels

TARGETS = ("ade20k-panoptic", "ade20k-instance")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to make, where, and of which splits."""
    parser.add_argument("target", choices=TARGETS, help="the annotation files to make")
    parser.add_argument("root", type=Path, metavar="ROOT", help="the folder ADEChallengeData2016, or one that holds it")
    parser.add_argument(
        "--split", choices=("train", "val"), action="append", help="only this split; can be given twice (default: both)"
    )
    add_pixels(parser)


def run(args: argparse.Namespace) -> int:
    """Make the files; what is finished already is skipped."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ..data.ade20k_prepare import prepare_instance, prepare_panoptic

    prepare = {"ade20k-panoptic": prepare_panoptic, "ade20k-instance": prepare_instance}[args.target]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    for split in args.split or ("train", "val"):
        with Progress(*columns, transient=True) as progress:
            task = progress.add_task(f"{args.target} {split}", total=None)

            def show(done: int, total: int, progress: Progress = progress, task: object = task) -> None:
                progress.update(task, completed=done, total=total)  # type: ignore[arg-type]

            path = prepare(args.root, split, show)
        print(path)
    return 0
