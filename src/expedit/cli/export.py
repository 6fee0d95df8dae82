"""``expedit export MODEL [-m SPEC] -o FILE``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

from .options import add_network, add_options, options_of, positive
from .outputs import Outputs, add_overwrite
from .unused import refuse_unused, without_method


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("model", help="a model, a checkpoint, or an architecture (see: expedit list)")
    parser.add_argument("-m", "--method", metavar="SPEC", help="accelerated with it, as in 'expedit(alpha=6)'")
    add_options(parser)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="file to write: .onnx, .pt2 or .xml"
    )
    parser.add_argument(
        "--format",
        choices=("onnx", "torch", "openvino", "aoti"),
        help="of the file (default: as its ending says; .pt2 is torch unless aoti is asked for)",
    )
    parser.add_argument(
        "--size",
        type=positive,
        nargs=2,
        metavar=("H", "W"),
        help="image in pixels (default: as the card or the processor says)",
    )
    parser.add_argument(
        "--batch", type=_batch, default=1, metavar="N", help="images per run, or dynamic for any number (default: 1)"
    )
    add_network(parser)
    add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    """Write, run what was written, compare."""
    from ..checkpoints.zoo import build
    from ..exporting.program import export
    from .progress import waiting

    refuse_unused(args, without_method(args))
    outputs = Outputs(args.overwrite, (Path(args.model),))
    outputs.check_file(args.output)
    if not args.output.exists():  # weights beside a file of ours are ours, others somebody else's
        outputs.check_content(args.output.with_suffix(".bin" if args.output.suffix == ".xml" else ".onnx.data"))
    with waiting("writing, and running what was written"):
        done = export(
            build(args.model, revision=args.revision, task=args.task),
            args.output,
            args.method,
            size=args.size and tuple(args.size),
            batch=args.batch,
            format=args.format,
            **options_of(args),
        )
    shape = " x ".join(map(str, done.shape))
    print(f"{done.path}: {done.method}, pixels {shape}; run and compared: relative difference {done.difference:.1g}")
    return 0


def _batch(text: str) -> int | Literal["dynamic"]:
    return "dynamic" if text == "dynamic" else positive(text)
