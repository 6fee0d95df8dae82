"""``expedit predict MODEL PATH…`` for models whose task is of images."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import console
from .options import default_workers
from .outputs import Outputs
from .writes import chosen, existing

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from ..evaluation.processes import Processes
    from ..models.card import Card
    from ..predicting.journal import Journal
    from ..predicting.run import Output, Tally, Work
    from ..predicting.shards import Shards
    from ..predicting.sources import Failure, Found, Source

SPOKEN = 20
"""Failures that are printed; all are in ``failed.jsonl``."""

KEPT = ("revision", "task", "pixels", "dtype", "compile", "min_score")
"""Arguments that results depend on: a run with others must not be continued."""


def run(args: argparse.Namespace, model: nn.Module, card: Card, found: Found, processes: Processes) -> int:
    """All images, in batches; the first process says how many."""
    import numpy as np

    job = Job(args, model, card, processes, found, chosen(args, card, len(found.sources)))
    start, work = time.perf_counter(), job.begin()
    tally = job.segment(work)
    written, broken = processes.total(np.array([tally.done, tally.failed])).tolist()
    if processes.rank == 0:
        report(args, len(found.sources), job.before, written, broken, time.perf_counter() - start)
    return 2 if broken else 0


def report(args: argparse.Namespace, images: int, before: int, written: int, broken: int, seconds: float) -> None:
    """What was done, in one line."""
    pace = f", {written / seconds:.1f} a second" if written > 1 else ""
    earlier = f", {before} of them by earlier runs" if before else ""
    print(f"{written + before} of {images} images written to {args.output}{earlier}{pace}")
    if broken > SPOKEN:
        console.complain("predict", f"{broken} failures in all; failed.jsonl in {args.output} has the reasons")


def settings_of(args: argparse.Namespace, asked: Sequence[str]) -> dict[str, Any]:
    """What results depend on beside the images: weights, method and arguments, as plain values."""
    from ..checkpoints.convert import fingerprint
    from ..spec import parse

    return {
        "model": fingerprint(args.model),
        "method": repr(parse(args.method)) if args.method else "dense",
        "options": sorted(set(args.option)),
        **{name: getattr(args, name) for name in KEPT},
        "write": sorted(asked),
    }


@dataclass(frozen=True)
class Job:
    """One process of a run.

    Attributes:
        args: of the verb.
        model, card: what predicts.
        processes: those that share the images.
        found: the images.
        asked: names of what is written of them.
    """

    args: argparse.Namespace
    model: nn.Module
    card: Card
    processes: Processes
    found: Found
    asked: tuple[str, ...]

    @cached_property
    def journal(self) -> Journal:
        """The state on disk."""
        from ..predicting.journal import Journal

        return Journal(self.args.output, settings_of(self.args, self.asked), self.processes.rank)

    @property
    def keeps(self) -> bool:
        """Whether there is a state: of one image there is none, unless it goes to a table."""
        return len(self.found.sources) > 1 or bool(self.args.resume) or self.table is not None

    @property
    def table(self) -> Path | None:
        """Folder of the shards, if there are any."""
        from ..predicting.parquet import FOLDER

        return self.args.output / FOLDER if "parquet" in self.asked else None

    @cached_property
    def done(self) -> set[str]:
        """Paths of the images that earlier runs have finished, if this one goes on with them."""
        from ..predicting.parquet import written
        from ..predicting.shards import waiting

        if not self.args.resume:
            return set()
        done = self.journal.finished()
        return done | written(self.table, self.journal.settings) | waiting(self.args.output) if self.table else done

    @property
    def before(self) -> int:
        """How many images earlier runs have finished."""
        return sum(source.path in self.done for source in self.found.sources)

    def begin(self) -> Work:
        """Look at what is there, raise if it must not be replaced, clear it away, and say what is left to do."""
        from ..predicting.run import work_left

        failed = self.journal.failed() if self.args.resume else set()
        self._check([source for source in self.found.sources if source.path not in self.done])
        self.processes.barrier()  # nobody writes before all have read
        if self.processes.rank == 0:
            self._clear()
        self.processes.barrier()
        places = [Path(word) for word in self.args.paths if Path(word).exists()]
        part = self.processes.rank, self.processes.world
        return work_left(self.found.sources, self.args.batch, self.done, failed, part, places)

    def _check(self, sources: Sequence[Source]) -> None:
        """Raise before the work if a result would replace an image, or somebody else's file."""
        from ..predicting.parquet import check_shards
        from ..predicting.pictures import KINDS

        ends = [KINDS[self.card.task][kind].end for kind in self.asked if kind != "parquet"]
        state = self.journal.files() if self.keeps else []
        if targets := [*state, *existing(self.args.output, sources, ends)]:
            read = [*(source.place for source in self.found.sources), self.args.model]
            outputs = Outputs(self.args.overwrite, tuple(map(Path, read)))
            for target in targets:
                outputs.check_content(target)
        if self.table and not self.args.resume:
            check_shards(self.table, self.args.overwrite)

    def _clear(self) -> None:
        """Remove the unfinished files of a killed run, or all of its state if this one does not go on with it."""
        from ..predicting.journal import sweep
        from ..predicting.parquet import shards

        if self.args.resume:
            sweep(self.args.output)
            return
        for path in (*(self.journal.files() if self.keeps else ()), *(shards(self.table) if self.table else ())):
            path.unlink()

    def segment(self, work: Work) -> Tally:
        """The images that are left to do."""
        from ..predicting.run import Tally, predict_all
        from .progress import image_progress

        args = self.args
        with ExitStack() as opened:
            show = opened.enter_context(image_progress(len(work.todo), quiet=self.processes.rank > 0))
            journal = opened.enter_context(self.journal.opened(not args.resume)) if self.keeps else None
            tally = Tally(show, partial(failing, journal))
            for failure in self.found.failures if self.processes.rank == 0 else ():
                tally.count(failure)
            predict_all(
                self.model,
                work,
                self._output(),
                tally,
                journal=journal,
                workers=args.workers or default_workers(),
                window_batch=args.window_batch if "window_batch" in args.given else None,
                reason=lambda error, path: console.sentence(error, Path(path)),
            )
        return tally

    def _output(self) -> Output:
        from ..predicting.pictures import KINDS
        from ..predicting.run import Output

        args = self.args
        files = [KINDS[self.card.task][kind] for kind in self.asked if kind != "parquet"]
        drawn = partial(tokens, self.model) if "tokens" in self.asked else None
        names = {"model": args.model, "method": args.method or "dense"}
        return Output(args.output, files, names, self.journal.settings, args.min_score, self.shards(), drawn)

    def shards(self) -> Shards | None:
        """What takes rows, if a table is written."""
        from ..predicting.parquet import schema
        from ..predicting.shards import Shards

        if self.table is None:
            return None
        settings, (rank, world) = self.journal.settings, (self.processes.rank, self.processes.world)
        return Shards(self.table, schema(self.card, settings), self.args.rows_per_shard, settings, rank, world)


def failing(journal: Journal | None, failure: Failure, number: int) -> None:
    """An image of which there is nothing: a line on the screen for the first ones, and in the state for all."""
    if number <= SPOKEN:
        console.complain("predict", failure.reason)
    if journal is not None:
        journal.add_failure(failure)


def tokens(model: nn.Module, image: np.ndarray) -> np.ndarray:
    """The clusters of the image's tokens over what the model sees of the image, as one window."""
    from .. import draw
    from ..cost.trace import image_clusters
    from ..models.card import card_of
    from ..prepare import seen

    pixels, picture = seen(model, image)
    owner = image_clusters(model, pixels.to(next(model.parameters())), card_of(model).multiple)
    assert owner is not None, "only a method clusters tokens, and that there is one was checked"
    return draw.clusters(picture, owner)
