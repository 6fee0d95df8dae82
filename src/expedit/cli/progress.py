"""How far a long run is: bars on a terminal; elsewhere nothing, or a line every minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from . import console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn

    from ..predicting.run import Tally

EVERY = 60.0
"""Seconds between two lines where there is no terminal."""

REDRAWN = 0.1
"""Seconds between two drawings of a bar."""


class Bar(Progress):
    """Bars drawn while they move: the thread that Rich would draw with lives on after its bar."""

    def __init__(self, *columns: ProgressColumn, to: Console) -> None:
        name = TextColumn("{task.description}", markup=False)
        columns = (name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), *columns)
        disable = not to.is_terminal or to.quiet
        super().__init__(*columns, console=to, transient=True, auto_refresh=False, disable=disable)
        self._drawn = 0.0

    def update(self, task_id: TaskID, *, refresh: bool = False, **changes: Any) -> None:
        """As of Rich; drawn at once with ``refresh``, else at most ten times a second."""
        now = time.monotonic()
        if refresh := refresh or now - self._drawn >= REDRAWN:
            self._drawn = now
        super().update(task_id, refresh=refresh, **changes)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """As of Rich."""
        self.update(task_id, advance=advance)


@contextmanager
def waiting(text: str) -> Iterator[Callable[[str], None]]:
    """A line that says what is done, until that has ended; a function that says what is done next."""
    with Bar(to=console.notes()) as bar:
        task = bar.add_task(text, total=None)

        def show(text: str) -> None:
            bar.update(task, description=text, refresh=True)

        yield show


@contextmanager
def image_progress(total: int, quiet: bool = False) -> Iterator[Callable[[Tally], None]]:
    """A function that shows images done, images per second, time left and failures of ``total`` images."""
    notes = console.notes()
    notes.quiet = quiet
    with Bar(TextColumn("{task.fields[pace]}"), to=notes) as bar:
        task, start = bar.add_task("segmenting", total=total, pace=""), time.perf_counter()
        said = start

        def show(tally: Tally) -> None:
            nonlocal said
            now, done = time.perf_counter(), tally.done + tally.failed
            pace = done / (now - start)
            failures = f", {tally.failed} failed" if tally.failed else ""
            bar.update(task, completed=done, pace=f"{pace:.1f} images/s{failures}")
            if not notes.is_terminal and now - said >= EVERY:
                said, left = now, timedelta(seconds=round((total - done) / pace))
                notes.print(f"{done} of {total} images, {pace:.1f} images/s, {left} left{failures}")

        yield show
