"""``expedit convert CHECKPOINT [-o FILE]``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .options import add_numerics, positive

if TYPE_CHECKING:
    from ..checkpoints.reading import Loaded

SHOWN = 12
"""Keys without use that are printed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument(
        "checkpoint",
        type=Path,
        help="known by what is in it, not by its ending: a Segmenter of the original (file or folder), of the Expedit"
        " repository or of mmsegmentation, an official Mask2Former, a folder of transformers, a file of expedit",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="file to write (default: ./NAME.safetensors)")
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists; never the checkpoint itself")
    parser.add_argument(
        "--architecture", metavar="NAME", help="of a Mask2Former (default: the published one that the weights fit)"
    )
    parser.add_argument(
        "--part",
        metavar="NAME",
        help="weights to take where the file has several, such as model_ema (default: those that are no average)",
    )
    parser.add_argument(
        "--image-size",
        type=positive,
        nargs=2,
        metavar=("H", "W"),
        help="pixels that a Segmenter was made for, where its file does not say (default: a square)",
    )
    add_numerics(parser)


def run(args: argparse.Namespace) -> int:
    """Convert, and say what was written and what was left out."""
    from ..checkpoints.convert import convert, sizes
    from .progress import waiting

    with waiting("reading, checking and writing"):
        done = convert(
            args.checkpoint,
            args.output,
            force=args.force,
            norm_eps=args.norm_eps,
            pos_embed=args.pos_embed,
            architecture=args.architecture,
            image_size=args.image_size and tuple(args.image_size),
            part=args.part,
        )
    card, settings = done.model.card, done.model.settings()
    print(f"{done.target}: {sizes(done.model)}")
    print(f"  checkpoint  {done.loaded.kind}{_place(done.loaded)}")
    if "norm_eps" in settings:
        print(f"  numerics    encoder norm eps {settings['norm_eps']:g}, positions resized {settings['pos_embed']}")
    window = "whole images" if card.crop is None else f"crop {card.crop}, stride {card.stride}"
    print(f"  protocol    resize (long, short) {card.resize}, {window}")
    print(f"  pixels      mean {card.mean}, std {card.std}")
    print(f"  classes     {', '.join(card.classes[:4])}{', …' if len(card.classes) > 4 else ''}")
    print(f"  weights     sha256 {done.sha256}")
    print(f"  keys        missing: none; unused: {_listed(done.loaded.unused)}")
    return 0


def _place(loaded: Loaded) -> str:
    """Where in the file the weights were, and what else could have been taken."""
    where = f", under {'.'.join(loaded.path)!r}" if loaded.path else ""
    names = f", keys without {_listed(loaded.peeled)}" if loaded.peeled else ""
    others = f"; not taken: {_listed(loaded.others)} (--part NAME takes one)" if loaded.others else ""
    return where + names + others


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(name or "the outermost" for name in names[:SHOWN]) + more or "none"
