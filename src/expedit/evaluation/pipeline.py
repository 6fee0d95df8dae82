"""What every evaluation shares: images read ahead of the model, results scored behind its back, and the pace of it."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..models.card import Card
from .processes import Processes

T = TypeVar("T")
R = TypeVar("R")

UNSCORED = 4
"""Most results that wait to be scored, so that memory does not grow when scoring is slower than the model."""

NUMBERED = re.compile(r"class \d+")
"""What classes without a name are called."""


@dataclass(frozen=True)
class Pace:
    """How much was done and how long it took, the same in every process.

    Attributes:
        images: all images counted, earlier runs included.
        fresh: images of this run.
        seconds: of this run, by the slowest process.
        waiting: seconds of them in which no image was ready for the model.
    """

    images: int
    fresh: int
    seconds: float
    waiting: float

    @property
    def images_per_second(self) -> float:
        """Of this run; nan if there was nothing left to do."""
        return self.fresh / self.seconds if self.fresh else float("nan")

    def as_json(self) -> dict[str, float | None]:
        """Plain values, None where there is no figure."""
        return {
            "images": self.images,
            "images_this_run": self.fresh,
            "images_per_second": self.images_per_second if self.fresh else None,
            "seconds": self.seconds,
            "seconds_waiting_for_images": self.waiting,
        }


def work(
    load: Callable[[int], T],
    predict: Callable[[T], R],
    score: Callable[[T, R], None],
    indices: Sequence[int],
    workers: int,
    progress: Callable[[int, int], None],
) -> tuple[float, float]:
    """``score(item, predict(item))`` for ``item = load(index)`` of every index.

    Args:
        load: runs in ``workers`` threads, ahead of the model.
        predict: runs in this thread.
        score: runs in one other thread, in the order of the indices.
        progress: called with images done and images to do.

    Returns:
        Seconds in all, and seconds in which the model had to wait for an item.
    """
    start, waiting = time.perf_counter(), 0.0
    unscored: deque[Future[None]] = deque()
    ready = ahead(load, indices, workers)
    with ThreadPoolExecutor(1) as scorer:
        for finished in range(1, len(indices) + 1):
            asked = time.perf_counter()
            item = next(ready)
            waiting += time.perf_counter() - asked
            unscored.append(scorer.submit(score, item, predict(item)))
            if len(unscored) > UNSCORED:
                unscored.popleft().result()
            progress(finished, len(indices))
        for future in unscored:
            future.result()
    return time.perf_counter() - start, waiting


def ahead(load: Callable[[int], T], indices: Sequence[int], workers: int) -> Iterator[T]:
    """``load(i)`` for every index, in order, prepared by ``workers`` threads up to twice as many items ahead."""
    pool = ThreadPoolExecutor(workers)
    coming: deque[Future[T]] = deque()
    try:
        for index in indices:
            coming.append(pool.submit(load, index))
            if len(coming) > 2 * workers:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def pace(processes: Processes, images: int, fresh: int, seconds: float, waiting: float) -> Pace:
    """The pace of all processes together from that of each: ``fresh`` images in ``seconds``."""
    times = np.zeros((processes.world, 2))
    times[processes.rank] = seconds, waiting
    slowest, waited = processes.total(times).max(0)
    return Pace(images, int(processes.total(np.array([fresh]))[0]), float(slowest), float(waited))


def number_of_images(available: int, limit: int | None) -> int:
    """How many to evaluate; ValueError for a limit that is none, or an empty split."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit: expected at least 1 image, got {limit}")
    if not available:
        raise ValueError("the split is empty: expected at least one image")
    return available if limit is None else min(limit, available)


def check_classes(card: Card, classes: Sequence[str]) -> None:
    """ValueError where a data set's classes are not the model's; a side without names need only be as many."""
    if not classes:
        return
    if len(classes) != len(card.classes):
        raise ValueError(f"expected a data set with the model's {len(card.classes)} classes, got {len(classes)}")
    if any(all(NUMBERED.fullmatch(name) for name in side) for side in (classes, card.classes)):
        return
    for index, (theirs, ours) in enumerate(zip(classes, card.classes, strict=True)):
        if theirs.casefold() != ours.casefold():
            raise ValueError(
                f"class {index} of the data set is {theirs!r}, of the model {ours!r}: expected the same classes in the "
                "same order; evaluate on the data that the model was made for, or correct the data set's class list"
            )
