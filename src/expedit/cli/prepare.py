"""``expedit prepare``."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from . import console
from .options import add_pixels

if TYPE_CHECKING:
    from rich.progress import TaskID

    from .progress import Bar

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
    from ..data.ade20k_prepare import prepare_instance, prepare_panoptic
    from .progress import Bar

    prepare = {"ade20k-panoptic": prepare_panoptic, "ade20k-instance": prepare_instance}[args.target]
    for split in args.split or ("train", "val"):
        with Bar(to=console.notes()) as bar:
            show = partial(_show, bar, bar.add_task(f"{args.target} {split}", total=None))
            path = prepare(args.root, split, show)
        print(path)
    return 0


def _show(bar: Bar, task: TaskID, done: int, total: int) -> None:
    bar.update(task, completed=done, total=total)
