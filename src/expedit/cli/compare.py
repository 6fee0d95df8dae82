"""``expedit compare``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import console
from .options import add_machine, check_device, dtype_of

if TYPE_CHECKING:
    from ..measure.rows import Row


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("recipe", nargs="?", default="toy", help="a recipe, by name or file (default: toy)")
    parser.add_argument("-o", "--output", type=Path, default=Path("expedit-report"), metavar="DIR")
    parser.add_argument("--limit", type=int, metavar="N", help="images (default: the recipe's)")
    parser.add_argument("--examples", type=int, default=4, metavar="N", help="images shown in the report (default: 4)")
    add_machine(parser)
