"""The command line: one file per verb, loaded only when its verb is called. Only this package prints and exits."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module

from .console import complain, is_out_of_memory, sentence, steady_streams
from .interrupts import interruptible
from .options import remark

VERBS: dict[str, str] = {
    "compare": "compare methods on a data set: table, CSV, JSON and an HTML report",
    "predict": "segment images and videos; write masks, overlays, label files and tracks",
    "evaluate": "mIoU and speed of a model on a data set, on one process or many",
    "convert": "turn an official checkpoint into one safetensors file",
    "export": "write a model as a program for ONNX Runtime, OpenVINO or torch, checked against the model",
    "benchmark": "count MACs and time a model against its accelerated self",
    "tune": "find method and settings for photographs, within a budget or with a promise",
    "prepare": "make the annotation files that a data set's panoptic and instance tasks need",
    "list": "models, methods and their settings, data sets, recipes",
    "doctor": "check the installation: versions, devices, what is missing for what",
    "explore": "a page in the browser: pictures, methods and sliders for their settings",
    "completion": "a script that completes verbs, options, methods and models in a shell",
}
"""Verb and one line of help. Module ``expedit.cli.<verb>`` has ``add_arguments(parser)`` and ``run(args) -> int``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Exit status: 0 done, 2 the input or the machine does not allow it, 130 or 143 ended by Ctrl-C or by SIGTERM.
    """
    argv = [*(sys.argv[1:] if argv is None else argv)]  # the verb "list" hides the built-in here
    with steady_streams() as out:
        status = _main(argv)
        out.flush()
        if out.error is None or isinstance(out.error, BrokenPipeError):  # its reader has seen enough, as of ``| head``
            return status
        complain(argv[0] if argv else "", f"standard output: {sentence(out.error)}")
    return 2


def _main(argv: Sequence[str]) -> int:
    parser = parser_of(*argv[:1])
    args = parser.parse_args(argv)
    if args.version:
        from .. import __version__

        print(__version__)
        return 0
    if args.verb is None:
        parser.print_help()
        return 2
    args.given = _given(args.verb, argv[1:])
    return _interruptible(args)


def parser_of(*verbs: str) -> argparse.ArgumentParser:
    """The parser, with the arguments of these verbs only, so that no other verb's module is imported."""
    parser = argparse.ArgumentParser(prog="expedit", description="Fast dense prediction without any training.")
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parsers = parser.add_subparsers(dest="verb", metavar="VERB")
    for name, text in VERBS.items():
        verb_parser = parsers.add_parser(name, help=text, description=text)
        if name in verbs:
            import_module(f".{name}", __name__).add_arguments(verb_parser)
    return parser


def _interruptible(args: argparse.Namespace) -> int:
    """The verb, which ends soon after a signal."""

    def interrupted() -> None:
        complain(args.verb, "interrupted")
        sys.stderr.flush()

    with interruptible(interrupted) as signalled:
        status = None
        with suppress(KeyboardInterrupt):
            status = _run(args)
        if signalled() or status is None:
            interrupted()
        return signalled() or (130 if status is None else status)


def _given(verb: str, argv: Sequence[str]) -> frozenset[str]:
    """Names of the arguments that are written on the command line; those left to their defaults are not in it."""
    parser = argparse.ArgumentParser()
    import_module(f".{verb}", __name__).add_arguments(parser)
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    return frozenset(vars(parser.parse_args(argv)))


@contextmanager
def _pixels(most: int | None) -> Iterator[None]:
    """Pictures of up to ``most`` pixels are read inside, and as many as before after that."""
    if most is None:
        yield
        return
    from PIL import Image

    from ..data.decode import bound_pixels

    before = Image.MAX_IMAGE_PIXELS
    bound_pixels(most)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _run(args: argparse.Namespace) -> int:
    """The verb; everything that a user can cause becomes one sentence instead of a traceback."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # torch's profiler reports its stages below that
    if known := remark(args):
        complain(args.verb, known)
    try:
        with warnings.catch_warnings(), _pixels(getattr(args, "max_pixels", None)):
            warnings.showwarning = lambda message, *where: complain(args.verb, str(message))
            status: int = import_module(f".{args.verb}", __name__).run(args)
            return status
    except (ValueError, OSError, ImportError) as error:
        complain(args.verb, sentence(error))
        return 2
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        complain(args.verb, sentence(error))
        return 2
