"""``expedit predict MODEL PATH…``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import clips, images, writes
from .options import (
    add_compile,
    add_library,
    add_machine,
    add_options,
    add_pixels,
    add_window_batch,
    add_workers,
    device_of,
    dtype_of,
    library_of,
    options_of,
    positive,
)
from .outputs import add_overwrite, check_folder
from .unused import Reasons, by_card, refuse_unused, without_method, without_window

if TYPE_CHECKING:
    from torch import nn

    from ..models.card import Card
    from ..predicting.sources import Found

PATHS = (
    "images, folders, patterns such as 'photos/**/*.jpg', .zip and .tar archives, URLs such as s3://bucket/photos, "
    "@FILE with one of these per line, - for such lines from standard input; or videos"
)

IMAGES_ONLY = ("window_batch", "tokens", "batch", "workers", "write", "rows_per_shard", "resume", "ray", "actors",
               "gpus_per_actor")  # fmt: skip
"""Arguments that videos have no use for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("model", help="a model or a checkpoint (see: expedit list)")
    parser.add_argument("paths", nargs="+", metavar="PATH", help=PATHS)
    parser.add_argument("-m", "--method", metavar="SPEC", help="accelerate with it, as in 'expedit(alpha=6)'")
    add_options(parser)
    parser.add_argument("-o", "--output", type=Path, default=Path("predictions"), metavar="DIR", help="(predictions)")
    writes.add_arguments(parser)
    add_library(parser)
    add_pixels(parser)
    add_overwrite(parser)
    add_window_batch(parser)
    add_workers(parser)
    add_machine(parser)
    add_compile(parser)
    _add_ray(parser)
    clips.add_arguments(parser)


def _add_ray(parser: argparse.ArgumentParser) -> None:
    """``--ray``, ``--actors`` and ``--gpus-per-actor``."""
    group = parser.add_argument_group("on a cluster of Ray")
    group.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="run on the cluster at ADDRESS, or on this machine; writes Parquet",
    )
    group.add_argument(
        "--actors", type=positive, default=1, metavar="N", help="copies of the model that work together (default: 1)"
    )
    group.add_argument(
        "--gpus-per-actor", type=float, default=0, metavar="N", help="GPUs of each, may be a part of one (default: 0)"
    )


def run(args: argparse.Namespace) -> int:
    """Segment every image or video; a broken one is reported and does not stop the others."""
    from ..checkpoints.zoo import load
    from ..cost.speed import threads
    from ..evaluation.processes import launched
    from ..models.card import card_of
    from ..predicting.sources import check_words

    refuse_unused(args, without_method(args), without_window(args), without_ray(args))
    check_words(args.paths)
    check_folder(args.output)
    with launched() as processes, threads(args.threads):
        model = load(args.model, **library_of(args)).to(device_of(args, processes))
        card = card_of(model)
        refuse_unused(args, by_card(card, *clips.ONLY), *by_task(card))
        if card.task == "video":
            return clips.run(args, accelerated(model, args))
        found = find_images(args.paths, args.output)
        if args.ray:
            from . import cluster

            return cluster.run(args, model, card, found)
        return images.run(args, accelerated(model, args), card, found, processes)


def find_images(paths: Sequence[str | Path], spared: Path | None = None) -> Found:
    """All images that ``paths`` name, the folder ``spared`` left out; errors as of ``predicting.sources.find``."""
    from ..predicting.sources import find

    return find([str(path) for path in paths], spared)


def accelerated(model: nn.Module, args: argparse.Namespace) -> nn.Module:
    """The model in the dtype asked for, with the method if there is one."""
    from ..surgery import accelerate, optimized

    if args.method:
        return accelerate(model, args.method, dtype=dtype_of(args), compile=args.compile, **options_of(args))
    return optimized(model, dtype=dtype_of(args), compile=args.compile)


def by_task(card: Card) -> tuple[Reasons, ...]:
    """What only some tasks have a use for: scores of instances and tracks, features, and what is of images."""
    why = f"is of instances and tracks, and this model is {card.task}; leave it"
    scored = {} if card.task in ("instance", "video") else {"min_score": why}
    features = {} if card.task == "features" else {"save_features": f"this model is {card.task}; leave it"}
    still = dict.fromkeys(IMAGES_ONLY, "is for images, and this model takes videos; leave it")
    return scored, features, still if card.task == "video" else {}


def without_ray(args: argparse.Namespace) -> Reasons:
    """What needs a cluster, or does not go with one."""
    if not args.ray:
        return dict.fromkeys(("actors", "gpus_per_actor"), "is of a cluster; give --ray, too")
    table = "--ray writes Parquet; leave it"
    unused = dict.fromkeys(("write", "tokens", "min_score", "save_features"), table)
    return unused | {"device": "--gpus-per-actor says what an actor runs on; leave it"}
