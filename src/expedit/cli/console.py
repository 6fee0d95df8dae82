"""Where tables, progress and remarks go, and streams that never end the work."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 140
"""Columns of a table that is written to a file or a pipe."""


def output() -> Console:
    """Standard output: as wide as the terminal, or wide enough for a table where there is none."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDE, markup=False, emoji=False)


def notes() -> Console:
    """Standard error, for progress and remarks."""
    from rich.console import Console

    return Console(stderr=True, markup=False, emoji=False)


def complain(verb: str, text: str) -> None:
    """One line about something that went wrong; in colour on a terminal, unless ``NO_COLOR`` is set."""
    if not sys.stderr.isatty():
        print(f"expedit {verb}: {text}", file=sys.stderr)
        return
    from rich.text import Text

    notes().print(Text.assemble((f"expedit {verb}:", "bold red"), f" {text}"), soft_wrap=True)


def sentence(error: BaseException, about: Path | None = None) -> str:
    """What happened, with the name of what it is ``about``; the system's own errors name their file."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename else error.strerror
    elif is_out_of_memory(error):
        text = " ".join(("out of memory; try a smaller batch or image", *str(error).splitlines()[:1]))
    elif isinstance(error, (ValueError, OSError, ImportError)):
        text = str(error) or type(error).__name__
    else:
        text = f"unexpected {type(error).__name__}: {error}"
    return text if about is None or str(about) in text else f"{about}: {text}"


def is_out_of_memory(error: BaseException) -> bool:
    """Torch has no type of its own for it."""
    words = ("out of memory", "can't allocate memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in words))


class Steady:
    """A text stream that never ends the work: after its first error nothing more is written."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """All of it, or nothing once something went wrong."""
        if self.error is None:
            try:
                self.stream.write(text)
            except OSError as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """As far as something can still be written."""
        if self.error is None:
            try:
                self.stream.flush()
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.error = error
        with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self.stream.fileno())  # or what is left in the buffer fails when the program ends

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def steady_streams() -> Iterator[Steady]:
    """Standard streams that take every sign and may be closed, full or absent; yields standard output.

    Signs that an encoding does not have become question marks, on standard error escapes.
    """
    with ExitStack() as opened:
        out, err = (
            Steady(stream or opened.enter_context(open(os.devnull, "w", encoding="utf-8")))
            for stream in (sys.stdout, sys.stderr)
        )
        for steady, errors in ((out, "replace"), (err, "backslashreplace")):
            if isinstance(steady.stream, io.TextIOWrapper):
                opened.callback(steady.stream.reconfigure, errors=steady.stream.errors)
                steady.stream.reconfigure(errors=errors)
            opened.callback(steady.flush)
        with redirect_stdout(out), redirect_stderr(err):
            yield out
