"""``expedit convert CHECKPOINT [-o FILE]``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import add_numerics


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument(
        "checkpoint",
        type=Path,
        help="an official Segmenter folder (checkpoint.pth and variant.yml), a .pth with official or mmsegmentation"
        " keys, an official Mask2Former .pkl, a folder that transformers wrote, or a .safetensors file",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="file to write (default: ./NAME.safetensors)")
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists; never the checkpoint itself")
    parser.add_argument(
        "--architecture", metavar="NAME", help="of a Mask2Former (default: the published one that the weights fit)"
    )
    add_numerics(parser)


def run(args: argparse.Namespace) -> int:
    """Convert, and say what was written and what was left out."""
    from rich.console import Console

    from ..checkpoints.convert import convert, sizes

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with console.status("reading, checking and writing"):
        done = convert(
            args.checkpoint,
            args.output,
            force=args.force,
            norm_eps=args.norm_eps,
            pos_embed=args.pos_embed,
            architecture=args.architecture,
        )
    card, settings = done.model.card, done.model.settings()
    print(f"{done.target}: {sizes(done.model)}")
    if "norm_eps" in settings:
        print(f"  numerics    encoder norm eps {settings['norm_eps']:g}, positions resized {settings['pos_embed']}")
    window = "whole images" if card.crop is None else f"crop {card.crop}, stride {card.stride}"
    print(f"  protocol    resize (long, short) {card.resize}, {window}")
    print(f"  pixels      mean {card.mean}, std {card.std}")
    print(f"  classes     {', '.join(card.classes[:4])}{', …' if len(card.classes) > 4 else ''}")
    print(f"  weights     sha256 {done.sha256}")
    print(f"  keys        missing: none; unused: {', '.join(done.unused) or 'none'}")
    return 0
