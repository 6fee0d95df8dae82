"""What ``expedit predict`` writes of images, and where it must not."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..predicting import SURE
from . import console
from .options import positive

if TYPE_CHECKING:
    from ..models.card import Card
    from ..predicting.sources import Source

WRITES = ("labels", "mask", "overlay", "legend", "json", "tokens", "rle", "parquet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is done with images."""
    parser.add_argument(
        "--write",
        type=kinds,
        metavar="KINDS",
        help=f"what to write, such as labels,json; of {', '.join(WRITES)} (default: what is usual of up to 100 images,"
        " labels,json of more)",
    )
    parser.add_argument("--batch", type=positive, default=1, metavar="N", help="images that run together (default: 1)")
    parser.add_argument(
        "--resume", action="store_true", help="go on with an interrupted run: what its journal has is not done again"
    )
    parser.add_argument(
        "--rows-per-shard", type=positive, default=1000, metavar="N", help="images per Parquet file (default: 1000)"
    )
    parser.add_argument(
        "--min-score",
        type=float,
        default=SURE,
        metavar="S",
        help=f"of instances and tracks that are drawn (default: {SURE})",
    )
    parser.add_argument("--tokens", action="store_true", help="draw the token clusters over the image, too")
    parser.add_argument(
        "--save-features", action="store_true", help="write features as NAME_features.npy, too (h x w x channels)"
    )


def kinds(text: str) -> tuple[str, ...]:
    """An argument that lists what is written."""
    asked = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for kind in asked:
        if kind not in WRITES:
            raise argparse.ArgumentTypeError(f"expected some of {','.join(WRITES)}, got {kind!r}")
    return asked


def chosen(args: argparse.Namespace, card: Card, images: int) -> tuple[str, ...]:
    """What is written of that many images; ValueError for what this task does not have."""
    from ..predicting.parquet import needed
    from ..predicting.pictures import FEW, KINDS, usual

    asked = args.write or usual(card.task, images)
    if not args.write and images > FEW and asked != usual(card.task, 1):
        console.notes().print(
            f"{images} images: writing {','.join(asked)}; --write {','.join(usual(card.task, 1))} for more"
        )
    asked += ("tokens",) * args.tokens + ("labels",) * args.save_features
    for kind in asked:
        if kind != "parquet" and kind not in KINDS[card.task]:
            has = ",".join((*KINDS[card.task], "parquet"))
            raise ValueError(f"--write {kind}: a result of a {card.task} model has {has}")
    if "tokens" in asked and not args.method:
        raise ValueError("--write tokens: a dense model clusters nothing; give a method with -m")
    if "parquet" in asked:
        needed()
    elif "rows_per_shard" in args.given:
        raise ValueError("--rows-per-shard: is of Parquet; give --write parquet, too")
    return tuple(dict.fromkeys(asked))


def existing(output: Path, sources: Sequence[Source], ends: Sequence[str]) -> Iterator[Path]:
    """The files of results that are there already."""
    listed: dict[str, frozenset[str]] = {}
    for source in sources:
        folder, name = os.path.split(source.name)
        if folder not in listed:
            listed[folder] = frozenset(os.listdir(output / folder) if (output / folder).is_dir() else ())
        yield from (output / folder / (name + end) for end in ends if name + end in listed[folder])
