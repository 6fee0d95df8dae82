"""``expedit predict MODEL PATH…``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .options import add_machine, check_device, dtype_of

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from ..prediction import Prediction


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("model", help="a model or a checkpoint (see: expedit list)")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="images, or folders of images")
    parser.add_argument("-m", "--method", metavar="SPEC", help="accelerate with it, as in 'expedit(alpha=6)'")
    parser.add_argument("-o", "--output", type=Path, default=Path("predictions"), metavar="DIR", help="(predictions)")
    parser.add_argument("--tokens", action="store_true", help="draw the token clusters over the image, too")
    parser.add_argument("--window-batch", type=int, default=1, metavar="N", help="sliding windows per run (default: 1)")
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    """Segment every image; a broken one is reported and does not stop the others."""
    from rich.console import Console
    from rich.progress import Progress

    from ..measure.speed import threads
    from ..models.zoo import load
    from ..surgery import accelerate

    images = find_images(args.paths)
    writable(args.output)
    model = load(args.model)
    if args.method:
        model = accelerate(model, args.method)
    model = model.to(check_device(args.device), dtype_of(args))
    console, failed = Console(stderr=True), 0
    with threads(args.threads), Progress(console=console, transient=True) as progress:
        for path in progress.track(images, description="segmenting"):
            try:
                segment(model, path, args)
            except (ValueError, FileNotFoundError) as error:
                failed += 1
                print(f"expedit predict: {error}", file=sys.stderr)
    print(f"{len(images) - failed} of {len(images)} images written to {args.output}")
    return 2 if failed else 0


def find_images(paths: Sequence[Path]) -> list[Path]:
    """All images named or inside the named folders; FileNotFoundError if a path is missing or a folder has none."""
    from ..data.decode import IMAGE_ENDINGS

    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_ENDINGS)
            if not inside:
                raise FileNotFoundError(f"{path}: no images in this folder; looked for {' '.join(IMAGE_ENDINGS)}")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise FileNotFoundError(f"{path}: no such file or folder")
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
    """One image to NAME_labels.png, NAME_mask.png, NAME_overlay.png, NAME_legend.png, NAME.json (NAME_tokens.png)."""
    import numpy as np
    from PIL import Image

    from .. import draw
    from ..data.decode import read_image
    from ..inference import predict

    image = read_image(path)
    prediction = predict(model, image, window_batch=args.window_batch)
    assert prediction.labels is not None
    pictures = {
        "labels": prediction.labels.astype("uint8" if len(prediction.classes) <= 256 else "uint16"),
        "mask": draw.colorize(prediction.labels, prediction.palette, ignore=None),
        "overlay": draw.overlay(image, prediction.labels, prediction.palette, ignore=None),
        "legend": draw.legend(prediction.classes, prediction.palette, set(np.unique(prediction.labels).tolist())),
    }
    if args.tokens:
        pictures["tokens"] = tokens(model, image)
    for kind, picture in pictures.items():
        Image.fromarray(picture).save(args.output / f"{path.stem}_{kind}.png")
    summary = describe(path, prediction, args)
    (args.output / f"{path.stem}.json").write_text(json.dumps(summary, indent=2) + "\n")


def tokens(model: nn.Module, image: np.ndarray) -> np.ndarray:
    """The clusters of the image's tokens over the image, the whole image as one window."""
    import numpy as np

    from .. import draw
    from ..inference import prepared
    from ..measure.trace import token_clusters

    pixels = prepared(image, model.card)[0].to(next(model.parameters()))  # type: ignore[arg-type]
    owner = token_clusters(model, pixels)  # type: ignore[arg-type]
    if owner is None:
        raise ValueError("--tokens: a dense model clusters nothing; give a method with -m")
    return draw.clusters(image, np.asarray(owner))


def describe(path: Path, prediction: Prediction, args: argparse.Namespace) -> dict[str, object]:
    """What the JSON beside the pictures says: size, method, classes by area."""
    import numpy as np

    assert prediction.labels is not None
    index, pixels = np.unique(prediction.labels, return_counts=True)
    classes = [
        {"id": int(i), "name": prediction.classes[i], "color": list(prediction.palette[i]), "pixels": int(n)}
        for i, n in sorted(zip(index, pixels, strict=True), key=lambda item: -item[1])
    ]
    height, width = prediction.labels.shape
    method = args.method or "dense"
    return {"image": path.name, "height": height, "width": width, "model": args.model, "method": method,
            "task": prediction.task, "classes": classes}  # fmt: skip
