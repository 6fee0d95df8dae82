"""``expedit explore MODEL [IMAGE…]``."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .options import add_library, add_machine, check_device, dtype_of, library_of

if TYPE_CHECKING:
    import numpy as np

HOST = "127.0.0.1"
"""Only this machine sees the page."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, pictures, and where the page is."""
    parser.description = (
        "A page in the browser: choose a picture, a method and its settings; see what changes, how long it takes and "
        f"the code that does it. Only this machine sees it ({HOST}). Needs: pip install 'expedit[app]'"
    )
    parser.add_argument("model", nargs="?", default="segmenter-mini", help="as for predict (default: segmenter-mini)")
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="images or folders of images (default: drawn pictures)"
    )
    parser.add_argument("--port", type=int, metavar="N", help="of the page (default: a free one from 7860 on)")
    add_machine(parser)
    add_library(parser)


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    from ..checkpoints.zoo import load
    from ..comparison.explorer import Explorer
    from ..cost.speed import threads

    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # nothing leaves the machine
    try:
        from .explore_page import page, serve
    except ImportError as error:
        raise ImportError(f"the page needs gradio ({error}): pip install 'expedit[app]'") from None
    pictures = pictures_of(args.paths)
    model = load(args.model, **library_of(args)).to(check_device(args.device), dtype_of(args))
    with threads(args.threads):
        app = page(Explorer(model, args.model), pictures)
        try:
            print(f"open {serve(app, HOST, args.port)}  (Ctrl-C ends it)", flush=True)
            while True:
                time.sleep(1)
        finally:
            app.close(verbose=False)


def pictures_of(paths: list[Path]) -> list[tuple[str, np.ndarray]]:
    """Name and ``(H, W, 3)`` uint8 RGB of every picture; those of the toy data set where none is given."""
    from ..data import open_dataset
    from ..predicting.reading import Reader
    from ..predicting.sources import check_words, find

    if paths:
        words, read = [str(path) for path in paths], Reader()
        check_words(words)
        return [(os.path.basename(source.path), read(source)) for source in find(words).sources]
    toy = open_dataset("toy", "val", length=4)
    return [(f"drawn {index + 1}", toy[index].image) for index in range(len(toy))]
