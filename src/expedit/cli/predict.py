"""``expedit predict MODEL PATH…``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import clips, console
from .options import (
    add_compile,
    add_library,
    add_machine,
    add_options,
    add_pixels,
    add_window_batch,
    check_device,
    dtype_of,
    library_of,
    options_of,
)
from .outputs import Outputs, add_overwrite, check_folder
from .pictures import ENDS, SURE
from .unused import by_card, refuse_unused, without_method, without_window

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from ..models.card import Card


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
    add_pixels(parser)
    add_overwrite(parser)
    add_window_batch(parser)
    add_machine(parser)
    add_compile(parser)
    clips.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Segment every image or video; a broken one is reported and does not stop the others."""
    from ..checkpoints.zoo import load
    from ..cost.speed import threads
    from ..models.card import card_of

    refuse_unused(args, without_method(args), without_window(args))
    check_paths(args.paths)
    check_folder(args.output)
    model = load(args.model, **library_of(args)).to(check_device(args.device))
    card = card_of(model)
    refuse_unused(args, by_card(card, *clips.ONLY), scored(card))
    model = accelerated(model, args)
    with threads(args.threads):
        return clips.run(args, model) if card.task == "video" else run_images(args, model, card)


def accelerated(model: nn.Module, args: argparse.Namespace) -> nn.Module:
    """The model in the dtype asked for, with the method if there is one."""
    from ..surgery import accelerate, optimized

    if args.method:
        return accelerate(model, args.method, dtype=dtype_of(args), compile=args.compile, **options_of(args))
    return optimized(model, dtype=dtype_of(args), compile=args.compile)


def scored(card: Card) -> dict[str, str]:
    """What only some tasks have a use for: scores of instances and tracks, and features."""
    why = f"is of instances and tracks, and this model is {card.task}; leave it"
    reasons = {} if card.task in ("instance", "video") else {"min_score": why}
    return reasons | ({} if card.task == "features" else {"save_features": f"this model is {card.task}; leave it"})


def run_images(args: argparse.Namespace, model: nn.Module, card: Card) -> int:
    """All images, one after the other."""
    from rich.progress import Progress

    images = find_images(args.paths)
    check_outputs(args, images, (".json", *ENDS[card.task], *(["_tokens.png"] if args.tokens else [])))
    failed = 0
    with Progress(console=console.notes(), transient=True) as progress:
        for path in progress.track(images, description="segmenting"):
            try:
                segment(model, path, args)
            except Exception as error:  # one bad image never ends the run, whatever is wrong with it
                failed += 1
                console.complain("predict", console.sentence(error, path))
    print(f"{len(images) - failed} of {len(images)} images written to {args.output}")
    return 2 if failed else 0


def check_outputs(args: argparse.Namespace, images: Sequence[Path], ends: Sequence[str]) -> None:
    """Raise before the work if a result would replace an image, or somebody else's file."""
    outputs = Outputs(args.overwrite, (*images, Path(args.model)))
    there = {path.name for path in args.output.iterdir()} if args.output.is_dir() else set()
    for name in (path.stem + end for path in images for end in ends):
        if name in there:
            outputs.check_content(args.output / name)


def check_paths(paths: Sequence[Path]) -> None:
    """FileNotFoundError, before a model is read, if one of the paths is missing."""
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")


def find_images(paths: Sequence[Path]) -> list[Path]:
    """All images named or inside the named folders.

    Raises:
        FileNotFoundError: a folder has no images.
        ValueError: two images have one name, so that results would overwrite one another.
    """
    from ..data.listing import list_pictures

    found = [image for path in paths for image in (list_pictures(path).pictures if path.is_dir() else [path])]
    first: dict[str, Path] = {}
    for path in found:
        if (other := first.setdefault(path.stem, path)) is not path:
            raise ValueError(
                f"several images are called {path.stem!r}: results of {other} and {path} would overwrite one another; "
                "run them apart"
            )
    return found


def segment(model: nn.Module, path: Path, args: argparse.Namespace) -> None:
    """One image to NAME.json and the pictures of its task, such as NAME_overlay.png (and NAME_tokens.png)."""
    from ..data.decode import read_image
    from ..data.writing import write_array, write_json, write_png
    from ..inference import predict
    from .pictures import RESULTS

    image = read_image(path)
    prediction = predict(model, image, window_batch=args.window_batch)
    result = RESULTS[prediction.task](image, prediction, args.min_score)
    drawn = {"tokens": tokens(model, image)} if args.tokens else {}
    for kind, picture in {**result.pictures, **drawn}.items():
        write_png(args.output / f"{path.stem}_{kind}.png", picture)
    for kind, array in result.arrays.items():
        if kind != "features" or args.save_features:
            write_array(args.output / f"{path.stem}_{kind}.npy", array)
    height, width = image.shape[:2]
    summary = {"image": path.name, "height": height, "width": width, "model": args.model,
               "method": args.method or "dense", "task": prediction.task, **result.facts}  # fmt: skip
    write_json(args.output / f"{path.stem}.json", summary, indent=2)


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
