"""``expedit completion SHELL``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

SHELLS = ("bash", "zsh")

BASH = """{function}() {{
  compgen -W '{names}' -- "$1"
  {files}
}}"""

ZSH = """{function}() {{
  compadd -- {names}
  {files}
}}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which shell."""
    parser.description = (
        "Print a script that completes verbs, options, methods, models, data sets and recipes. For bash: "
        'eval "$(expedit completion bash)"; for zsh: expedit completion zsh > a file _expedit in a folder of $fpath'
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell that reads the script")


def run(args: argparse.Namespace) -> int:
    """Print the script; names are those of this installation."""
    import shtab

    print(shtab.complete(_complete_parser(), args.shell))
    return 0


def _complete_parser() -> argparse.ArgumentParser:
    """The parser with the arguments of every verb, which know what completes them."""
    from . import VERBS, parser_of

    parser = parser_of(*VERBS)
    completers = _completers()
    for verb in _verbs(parser):
        for action in verb._actions:
            if action.dest in (*completers, "paths") or action.type is Path:
                action.complete = completers.get(action.dest, completers["weights"])  # type: ignore[attr-defined]
    return parser


def _verbs(parser: argparse.ArgumentParser) -> Iterable[argparse.ArgumentParser]:
    return next(a.choices.values() for a in parser._actions if isinstance(a, argparse._SubParsersAction))


def _completers() -> dict[str, dict[str, object]]:
    """By name of an argument: its values."""
    from .. import recipes
    from ..checkpoints.zoo import ARCHITECTURES, SHIPPED
    from ..data import LAYOUTS
    from ..methods import METHODS, PRESETS

    names: dict[str, list[str]] = {
        "model": [*SHIPPED, *ARCHITECTURES],
        "data": [name if name == "toy" else f"{name}:" for name in LAYOUTS],
        "recipe": [*recipes.names(), *SHIPPED],
        "weights": [],
    }
    return {
        "method": _completer("method", (*METHODS, *PRESETS), files=False),
        **{n: _completer(n, v) for n, v in names.items()},
    }


def _completer(kind: str, names: Iterable[str], files: bool = True) -> dict[str, object]:
    """In the words of shtab: a function for each shell, and the text that defines it."""
    function, words = f"_expedit_{kind}s", " ".join(names)
    return {
        "bash": function,
        "zsh": function,
        "preamble": {
            "bash": BASH.format(function=function, names=words, files='compgen -f -- "$1"' if files else ""),
            "zsh": ZSH.format(function=function, names=words, files="_files" if files else ""),
        },
    }
