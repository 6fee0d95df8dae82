"""How far a run over many images is: a bar on a terminal, a line every minute elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from . import console

if TYPE_CHECKING:
    from ..predicting.run import Tally

EVERY = 60.0
"""Seconds between two lines where there is no terminal."""


@contextmanager
def image_progress(total: int, quiet: bool = False) -> Iterator[Callable[[Tally], None]]:
    """A function that shows images done, images per second, time left and failures of ``total`` images."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    notes = console.notes()
    notes.quiet = quiet
    columns = TextColumn("segmenting"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}")
    with Progress(*columns, TimeRemainingColumn(), console=notes, transient=True) as progress:
        task, start = progress.add_task("segmenting", total=total, pace=""), time.perf_counter()
        said = start

        def show(tally: Tally) -> None:
            nonlocal said
            now, done = time.perf_counter(), tally.done + tally.failed
            pace = done / (now - start)
            failures = f", {tally.failed} failed" if tally.failed else ""
            progress.update(task, completed=done, pace=f"{pace:.1f} images/s{failures}")
            if not notes.is_terminal and now - said >= EVERY:
                said, left = now, timedelta(seconds=round((total - done) / pace))
                notes.print(f"{done} of {total} images, {pace:.1f} images/s, {left} left{failures}")

        yield show
