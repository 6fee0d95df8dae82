"""A run over many images: read ahead, predicted in batches, written after that, and kept in a journal.

Data flows one way. ``sources`` names the images and ``work_left`` cuts them into batches. Threads decode and prepare
them (``reading``, ``batches``), the calling thread runs the model, and further threads make and write the files of an
image (``pictures``). Then, in the order of the images, its row goes to the table (``shards``) and its line to the
journal, so that a kill loses what is between the two ends and nothing else. Both sides are bounded: memory does not
grow with the number of images.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from torch import nn

from ..data.writing import write_array, write_json, write_png
from ..evaluation.pipeline import afterwards
from ..prediction import Prediction
from . import SURE
from .batches import Prepared, predictions
from .journal import Journal, Settings
from .parquet import Row, row
from .pictures import Kind, Shown
from .reading import Reader
from .shards import Shards
from .sources import Failure, Source

WRITERS: dict[str, Callable[[Path, Any], None]] = {
    ".png": write_png,
    ".npy": write_array,
    ".json": lambda path, content: write_json(path, content, indent=2),
}
"""By the ending of a file."""

ENDS_THE_RUN = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ENODEV})
"""What goes wrong while a result is written and would go wrong with the next one, too."""


@dataclass(frozen=True)
class Output:
    """What is written of every image.

    Attributes:
        folder: of the files.
        kinds: the files.
        names: what the JSON says of the run: model and method as the user calls them.
        settings: everything that results depend on.
        min_score: of instances that are drawn.
        shards: takes rows, if a table is written.
        tokens: image to the picture of its token clusters, if that is written.
    """

    folder: Path
    kinds: Sequence[Kind]
    names: Mapping[str, str]
    settings: Settings
    min_score: float = SURE
    shards: Shards | None = None
    tokens: Callable[[np.ndarray], np.ndarray] | None = None

    def write(self, source: Source, seen: Prepared, found: Prediction, tokens: np.ndarray | None) -> Row | None:
        """All files of an image; its row, if a table is written."""
        height, width = seen.size
        facts = {"image": Path(source.path).name, "height": height, "width": width, **self.names}
        shown = Shown(seen.image, found, self.min_score, facts, tokens)
        for kind in self.kinds:
            path = self.folder / f"{source.name}{kind.end}"
            WRITERS[path.suffix](path, kind.make(shown))
        return None if self.shards is None else row(source.path, source.name, found, seen.size, self.settings)


@dataclass
class Tally:
    """Images done, and those that failed; for all threads.

    Attributes:
        report: called after every image.
        fail: called with what failed and why, and with the number of failures so far.
    """

    report: Callable[[Tally], object] = lambda tally: None
    fail: Callable[[Failure, int], object] = lambda failure, number: None
    done: int = 0
    failed: int = 0
    _lock: Lock = field(default_factory=Lock)

    def count(self, failure: Failure | None = None) -> None:
        """One image more."""
        with self._lock:
            self.done += failure is None
            self.failed += failure is not None
            if failure is not None:
                self.fail(failure, self.failed)
            self.report(self)


class InTurn:
    """Has what threads finish take effect in the order of its numbers: tables and journals never depend on threads."""

    def __init__(self) -> None:
        self._lock, self._next, self._early = Lock(), 0, dict[int, Callable[[], None]]()

    def __call__(self, number: int, effect: Callable[[], None]) -> None:
        """Of all numbers from 0 on; an error of the effect of this or an earlier one, after which there are no more."""
        with self._lock:
            self._early[number] = effect
            while self._next in self._early:
                self._early[self._next]()
                del self._early[self._next]
                self._next += 1


@dataclass(frozen=True)
class Work:
    """Batches that never change, and which images of them are left to do.

    Attributes:
        batches: those with something to do, whole: what an image's batch is made of does not depend on what is done.
        todo: paths of the images whose results are written.
        places: folders and archives without which nothing is left to read.
    """

    batches: Sequence[Sequence[Source]]
    todo: frozenset[str]
    places: Sequence[Path] = ()

    def check_places(self) -> None:
        """FileNotFoundError if one of them has vanished."""
        for place in self.places:
            if not place.exists():
                raise FileNotFoundError(
                    f"{place}: vanished in the middle of the run; go on with --resume when it is back"
                )


def work_left(
    sources: Sequence[Source],
    batch: int,
    done: set[str],
    failed: set[str],
    part: tuple[int, int] = (0, 1),
    places: Sequence[Path] = (),
) -> Work:
    """What is left of the images; a batch of which only failures are left is made of these alone.

    Args:
        sources: all images.
        batch: how many run together.
        done, failed: paths of those that are finished, and of those that failed in an earlier run.
        part: which of how many processes this is; of so many batches each takes one.
        places: folders and archives that the images are in.
    """
    rank, world = part
    batches = []
    for first in range(rank * batch, len(sources), world * batch):
        whole = sources[first : first + batch]
        left = [source for source in whole if source.path not in done]
        if left:
            batches.append(left if all(source.path in failed for source in left) else whole)
    todo = frozenset(source.path for taken in batches for source in taken if source.path not in done)
    return Work(batches, todo, places)


@dataclass
class _Results:
    """What becomes of the images, from any thread, taking effect in the order of their numbers."""

    output: Output
    tally: Tally
    journal: Journal | None
    reason: Callable[[BaseException, str], str]
    _in_turn: InTurn = field(default_factory=InTurn)

    def write(self, number: int, source: Source, seen: Prepared, found: Prediction, tokens: np.ndarray | None) -> None:
        """The files of an image, then its row and its line; OSError if no further image can be written either."""
        try:
            made = self.output.write(source, seen, found, tokens)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in ENDS_THE_RUN:
                raise
            self.fail(number, source, error)
        else:
            self._in_turn(number, lambda: self._finish(source, made))

    def fail(self, number: int, source: Source, error: BaseException) -> None:
        """There is nothing of this image."""
        failure = Failure(source.path, self.reason(error, source.path))
        self._in_turn(number, lambda: self.tally.count(failure))

    def _finish(self, source: Source, made: Row | None) -> None:
        if self.output.shards is not None and made is not None:
            self.output.shards.add(source.path, made)
        if self.journal is not None:
            self.journal.add(source.path)
        self.tally.count()


def predict_all(
    model: nn.Module,
    work: Work,
    output: Output,
    tally: Tally,
    *,
    journal: Journal | None = None,
    workers: int = 2,
    window_batch: int | None = None,
    reason: Callable[[BaseException, str], str] = lambda error, path: str(error),
) -> None:
    """Every image of ``work`` to its files.

    Args:
        model: with a card that is not of video.
        work: the images.
        output: what is written of them.
        tally: counts them.
        journal: open; takes every image that is finished.
        workers: threads that read, and as many that write.
        window_batch: sliding windows that run together; ``None``: as many as there are images in a batch.
        reason: what to say of an error with an image.

    Raises:
        OSError: results cannot be written any more, as no space is left for example, or the images have vanished.
    """
    results, numbers = _Results(output, tally, journal, reason), count()
    with ExitStack() as opened:
        if output.shards is not None:
            opened.enter_context(output.shards.opened())
            if journal is not None:
                journal.complete(output.shards.kept)
        later = opened.enter_context(afterwards(workers, waiting=2 * workers))
        seen = opened.enter_context(predictions(model, work.batches, Reader(), workers, window_batch))
        for one in seen:
            if one.item.path not in work.todo:  # it was only there to complete a batch
                continue
            number = next(numbers)
            try:
                prepared, prediction = one.found
                tokens = None if output.tokens is None else output.tokens(prepared.image)
            except Exception as error:
                if isinstance(error, FileNotFoundError):
                    work.check_places()
                results.fail(number, one.item, error)
            else:
                later(results.write, number, one.item, prepared, prediction, tokens)
