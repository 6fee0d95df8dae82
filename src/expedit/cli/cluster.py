"""``expedit predict MODEL PATH… --ray``: on a cluster."""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .images import Job, failing, report
from .options import default_workers, library_of, options_of

if TYPE_CHECKING:
    from torch import nn

    from ..models.card import Card
    from ..predicting.run import Tally, Work
    from ..predicting.sources import Found


def run(args: argparse.Namespace, model: nn.Module, card: Card, found: Found) -> int:
    """All images, as a data set of Ray."""
    from ..evaluation.processes import Processes

    job = Job(args, model, card, Processes(), found, ("parquet",))
    with cluster(args):
        start, work = time.perf_counter(), job.begin()
        tally = segment(job, work)
    report(args, len(found.sources), job.before, tally.done, tally.failed, time.perf_counter() - start)
    return 2 if tally.failed else 0


@contextmanager
def cluster(args: argparse.Namespace) -> Iterator[None]:
    """The cluster at the address, or one of this machine that ends with the block."""
    try:
        import ray
    except ImportError as error:
        raise ImportError(f"--ray needs Ray: pip install 'expedit[ray]' ({error})") from None
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if args.ray == "local":
        room = max(os.cpu_count() or 1, args.actors + 1)  # the actors, and one that writes
        ray.init(address="local", num_cpus=room, include_dashboard=False, **quiet)
    else:
        ray.init(address=args.ray, **quiet)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield
    finally:
        ray.shutdown()


def predictor_of(job: Job) -> dict[str, Any]:
    """Keywords of ``expedit.ray.Predict``."""
    args = job.args
    return {
        "model": str(Path(args.model).resolve()) if Path(args.model).exists() else args.model,
        "method": args.method,
        "batch": args.batch,
        "window_batch": args.window_batch if "window_batch" in args.given else None,
        "workers": args.workers or default_workers(),
        "dtype": args.dtype,
        "compile": args.compile,
        "library": library_of(args),
        "options": options_of(args),
        "settings": job.journal.settings,
    }


def segment(job: Job, work: Work) -> Tally:
    """The images that are left to do."""
    from ..predicting.run import Tally
    from ..predicting.sources import Failure
    from ..ray import dataset_of, predict_dataset
    from .progress import image_progress

    left = job.shards()
    assert left is not None, "what a cluster writes is a table"
    with image_progress(len(work.todo)) as show, job.journal.opened(not job.args.resume) as journal:
        tally = Tally(show, partial(failing, journal))
        for failure in job.found.failures:
            tally.count(failure)
        with left.opened():  # rows that a killed run of one machine has left become a shard
            pass
        if not work.batches:
            return tally
        shards = predict_dataset(
            dataset_of(work, job.args.actors),
            left.folder.resolve(),
            job.card,
            predictor_of(job),
            actors=job.args.actors,
            gpus_per_actor=job.args.gpus_per_actor,
            rows=job.args.rows_per_shard,
        )
        for result in chain.from_iterable(shards):
            if not isinstance(result, Failure):
                journal.add(result)
            tally.count(result if isinstance(result, Failure) else None)
    return tally
