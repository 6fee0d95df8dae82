"""Threads around a model: items are read ahead of it, results are scored or written after it.

Both are context managers, so that whoever opens one also closes it, whatever happens in between. No thread is left to
the garbage collector: it may run while another thread starts, and joining a thread then waits for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
T = TypeVar("T")


@contextmanager
def ahead(
    load: Callable[[Item], T], items: Iterable[Item], workers: int, lead: int | None = None
) -> Iterator[Iterator[T]]:
    """``load(item)`` for every item, in order, made by ``workers`` threads up to ``lead`` items ahead.

    Without ``lead`` it is twice as many as there are threads.

    At the end of the block items in work are finished and no further one is begun.
    """
    pool = ThreadPoolExecutor(workers)
    try:
        yield _in_order(pool, load, items, lead or 2 * workers)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(pool: ThreadPoolExecutor, load: Callable[[Item], T], items: Iterable[Item], lead: int) -> Iterator[T]:
    coming: deque[Future[T]] = deque()
    for item in items:
        coming.append(pool.submit(load, item))
        if len(coming) > lead:
            yield coming.popleft().result()
    while coming:
        yield coming.popleft().result()


@contextmanager
def afterwards(workers: int, waiting: int) -> Iterator[Callable[..., None]]:
    """A function that has ``call(*args)`` run by ``workers`` threads; with one of them, in the order of the calls.

    At most ``waiting`` calls are unfinished when it returns, so that memory does not grow where the calls are slower
    than the model. An error in one of them is raised by a later call, or at the end of the block. All calls are
    finished then, even if the block ends with an error.
    """
    pool = ThreadPoolExecutor(workers)
    unfinished: deque[Future[None]] = deque()

    def later(call: Callable[..., None], *args: object) -> None:
        unfinished.append(pool.submit(call, *args))
        if len(unfinished) > waiting:
            unfinished.popleft().result()

    try:
        yield later
        while unfinished:
            unfinished.popleft().result()
    finally:
        pool.shutdown()
