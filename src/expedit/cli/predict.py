"""``expedit predict MODEL PATH…``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import console, predict_video
from .options import (
    add_compile,
    add_library,
    add_machine,
    add_options,
    add_window_batch,
    check_compile,
    check_device,
    dtype_of,
    library_of,
    options_of,
)
from .pictures import SURE

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("model", help="a model or a checkpoint (see: expedit list)")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="images or folders of images; or videos")
    parser.add_argument("-m", "--method", metavar="SPEC", help="accelerate with it, as in 'expedit(alpha=6)'")
    add_options(parser)
    parser.add_argument("-o", "--output", type=Path, default=Path("predictions"), metavar="DIR", help="(predictions)")
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
    add_library(parser)
    add_window_batch(parser)
    add_machine(parser)
    add_compile(parser)
    predict_video.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Segment every image or video; a broken one is reported and does not stop the others."""
    from rich.progress import Progress

    from ..checkpoints.zoo import load
    from ..cost.speed import threads
    from ..surgery import accelerate, optimized

    options = options_of(args)
    if args.tokens and not args.method:
        raise ValueError("--tokens: a dense model clusters nothing; give a method with -m")
    check_paths(args.paths)
    writable(args.output)
    dtype = dtype_of(args)
    model = load(args.model, **library_of(args)).to(check_device(args.device))
    check_compile(args, model)
    if args.method:
        model = accelerate(model, args.method, dtype=dtype, compile=args.compile, **options)
    else:
        model = optimized(model, dtype=dtype, compile=args.compile)
    if model.card.task == "video":  # type: ignore[union-attr]
        with threads(args.threads):
            return predict_video.run_video(args, model)
    images = find_images(args.paths)
    failed = 0
    with threads(args.threads), Progress(console=console.notes(), transient=True) as progress:
        for path in progress.track(images, description="segmenting"):
            try:
                segment(model, path, args)
            except (ValueError, FileNotFoundError) as error:
                failed += 1
                print(f"expedit predict: {error}", file=sys.stderr)
    print(f"{len(images) - failed} of {len(images)} images written to {args.output}")
    return 2 if failed else 0


def check_paths(paths: Sequence[Path]) -> None:
    """FileNotFoundError, before a model is read, if one of the paths is missing."""
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")


def find_images(paths: Sequence[Path]) -> list[Path]:
    """All images named or inside the named folders; FileNotFoundError if a folder has none."""
    from ..data.decode import IMAGE_ENDINGS

    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_ENDINGS)
            if not inside:
                raise FileNotFoundError(f"{path}: no images in this folder; looked for {' '.join(IMAGE_ENDINGS)}")
            found += inside
        else:
            found.append(path)
    stems = [path.stem for path in found]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise ValueError(f"several images are called {twice[0]!r}: results would overwrite one another; run them apart")
    return found


def writable(folder: Path) -> None:
    """Make ``folder``; OSError if nothing can be written there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder}: not writable; choose another folder with -o")


def segment(model: nn.Module, path: Path, args: argparse.Namespace) -> None:
    """One image to NAME.json and the pictures of its task, such as NAME_overlay.png (and NAME_tokens.png)."""
    from PIL import Image

    from ..data.decode import read_image
    from ..data.writing import write_array
    from ..inference import predict
    from .pictures import RESULTS

    image = read_image(path)
    prediction = predict(model, image, window_batch=args.window_batch)
    result = RESULTS[prediction.task](image, prediction, args.min_score)
    drawn = {"tokens": tokens(model, image)} if args.tokens else {}
    for kind, picture in {**result.pictures, **drawn}.items():
        Image.fromarray(picture).save(args.output / f"{path.stem}_{kind}.png")
    for kind, values in result.arrays.items():
        if kind != "features" or args.save_features:
            write_array(args.output / f"{path.stem}_{kind}.npy", values)
    height, width = image.shape[:2]
    summary = {"image": path.name, "height": height, "width": width, "model": args.model,
               "method": args.method or "dense", "task": prediction.task, **result.facts}  # fmt: skip
    (args.output / f"{path.stem}.json").write_text(json.dumps(summary, indent=2) + "\n")


def tokens(model: nn.Module, image: np.ndarray) -> np.ndarray:
    """The clusters of the image's tokens over what the model sees of the image, as one window."""
    from .. import draw
    from ..cost.trace import image_clusters
    from ..models.card import card_of
    from ..prepare import seen

    pixels, picture = seen(model, image)
    owner = image_clusters(model, pixels.to(next(model.parameters())), card_of(model).multiple)
    if owner is None:
        raise ValueError("--tokens: a dense model clusters nothing; give a method with -m")
    return draw.clusters(picture, owner)
