"""A run over many images: read ahead, predicted in batches, written after that, and kept in a journal."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from torch import nn

from ..data.writing import write_array, write_json, write_png
from ..evaluation.pipeline import afterwards
from ..prediction import Prediction
from . import SURE
from .batches import Prepared, Seen, predictions
from .journal import Journal, Settings
from .parquet import Shards, row
from .pictures import Kind, Shown
from .reading import Reader
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

    def write(
        self, source: Source, seen: Prepared, found: Prediction, tokens: np.ndarray | None, done: Callable[[], None]
    ) -> None:
        """All files of an image; ``done()`` is called when they, and its row, are on disk."""
        height, width = seen.size
        facts = {"image": Path(source.path).name, "height": height, "width": width, **self.names}
        shown = Shown(seen.image, found, self.min_score, facts, tokens)
        for kind in self.kinds:
            path = self.folder / f"{source.name}{kind.end}"
            WRITERS[path.suffix](path, kind.make(shown))
        if self.shards is None:
            done()
        else:
            self.shards.add(row(source.path, source.name, found, seen.size, self.settings), done)


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

    def fail(source: Source, error: BaseException) -> None:
        tally.count(Failure(source.path, reason(error, source.path)))

    def finish(source: Source) -> None:
        if journal is not None:
            journal.add(source.path)
        tally.count()

    def write(source: Source, seen: Prepared, found: Prediction, tokens: np.ndarray | None) -> None:
        try:
            output.write(source, seen, found, tokens, lambda: finish(source))
        except Exception as error:
            if isinstance(error, OSError) and error.errno in ENDS_THE_RUN:
                raise
            fail(source, error)

    with ExitStack() as opened:
        if output.shards is not None:
            opened.enter_context(output.shards.opened())
        later = opened.enter_context(afterwards(workers, waiting=2 * workers))
        seen = opened.enter_context(predictions(model, work.batches, Reader(), workers, window_batch))
        for one in seen:
            _take(one, work, output, later, write, fail)


def _take(
    one: Seen,
    work: Work,
    output: Output,
    later: Callable[..., None],
    write: Callable[..., None],
    fail: Callable[..., None],
) -> None:
    """Have an image written, unless it was only there to complete a batch."""
    if one.item.path not in work.todo:
        return
    try:
        prepared, prediction = one.found
        tokens = None if output.tokens is None else output.tokens(prepared.image)
    except Exception as error:
        if isinstance(error, FileNotFoundError):
            work.check_places()
        fail(one.item, error)
        return
    later(write, one.item, prepared, prediction, tokens)
