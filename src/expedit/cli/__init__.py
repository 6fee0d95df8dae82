"""The command line: one file per verb, loaded only when its verb is called. Only this package prints and exits."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

from .interrupts import interruptible
from .options import remark

VERBS: dict[str, str] = {
    "compare": "compare methods on a data set: table, CSV, JSON and an HTML report",
    "predict": "segment images and videos; write masks, overlays, label files and tracks",
    "evaluate": "mIoU and speed of a model on a data set, on one process or many",
    "convert": "turn an official checkpoint into one safetensors file",
    "benchmark": "count MACs and time a model against its accelerated self",
    "prepare": "make the annotation files that a data set's panoptic and instance tasks need",
    "list": "models, methods and their settings, data sets, recipes",
    "doctor": "check the installation: versions, devices, what is missing for what",
}
"""Verb and one line of help. Module ``expedit.cli.<verb>`` has ``add_arguments(parser)`` and ``run(args) -> int``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Exit status: 0 done, 2 the input or the machine does not allow it, 130 or 143 ended by Ctrl-C or by SIGTERM.
    """
    argv = [*(sys.argv[1:] if argv is None else argv)]  # the verb "list" hides the built-in here
    verb = argv[0] if argv and argv[0] in VERBS else None
    parser = argparse.ArgumentParser(prog="expedit", description="Fast dense prediction without any training.")
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    for name, text in VERBS.items():
        verb_parser = verbs.add_parser(name, help=text, description=text)
        if name == verb:
            import_module(f".{name}", __name__).add_arguments(verb_parser)
    args = parser.parse_args(argv)
    if args.version:
        from .. import __version__

        print(__version__)
        return 0
    if args.verb is None:
        parser.print_help()
        return 2
    return _interruptible(args)


def _interruptible(args: argparse.Namespace) -> int:
    """The verb, which ends soon after a signal."""

    def complain() -> None:
        print(f"expedit {args.verb}: interrupted", file=sys.stderr, flush=True)

    with interruptible(complain) as signalled:
        status = None
        with suppress(KeyboardInterrupt):
            status = _run(args)
        if signalled() or status is None:
            complain()
        return signalled() or (130 if status is None else status)


def _run(args: argparse.Namespace) -> int:
    """The verb, with everything a user can cause told in one sentence instead of a traceback."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # torch's profiler tells of its stages below that
    if told := remark(args):
        print(f"expedit {args.verb}: {told}", file=sys.stderr)
    try:
        status: int = import_module(f".{args.verb}", __name__).run(args)
        return status
    except (ValueError, OSError, ImportError) as error:
        print(f"expedit {args.verb}: {_sentence(error)}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if not any(word in str(error) for word in ("out of memory", "can't allocate memory")):
            raise
        told = str(error).splitlines()[0]
        print(f"expedit {args.verb}: out of memory; try a smaller batch or image ({told})", file=sys.stderr)
        return 2


def _sentence(error: Exception) -> str:
    """What happened; the system's own errors name their file."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
