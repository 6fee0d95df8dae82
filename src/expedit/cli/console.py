"""Where tables and progress go."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 140
"""Columns of a table that is written to a file or a pipe."""


def output() -> Console:
    """Standard output: as wide as the terminal, or wide enough for a table where there is none."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDE)


def notes() -> Console:
    """Standard error, for progress and remarks."""
    from rich.console import Console

    return Console(stderr=True)
