"""Interleaved timing: every round runs every model once, so that a slow minute of the machine hits them all."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

T = TypeVar("T")

ENTRY = 0.1
"""Seconds of runs back to back that a GPU is timed by: a single one is over before clock rate and queue are settled."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one model, or ratios of such, round by round.

    Attributes:
        seconds: one entry per round, in the order of the rounds.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """Lower and upper quartile."""
        if len(self.seconds) < 2:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high

    def ratios_to(self, base: Timing) -> Timing:
        """How many times faster than ``base`` it was in each round."""
        return Timing(tuple(b / a for a, b in zip(self.seconds, base.seconds, strict=True)))

    def speedup_over(self, base: Timing) -> float:
        """How many times faster than ``base``: the median of the ratios within each round."""
        return self.ratios_to(base).median


def interleave(
    runs: Mapping[str, Callable[[], object]],
    rounds: int,
    warmup: int = 1,
    device: str = "cpu",
    progress: Callable[[], object] = lambda: None,
) -> dict[str, Timing]:
    """Time all runs in turn; the one that starts a round changes from round to round.

    Args:
        runs: what to run, by name.
        rounds: timed rounds.
        warmup: rounds before them that do not count.
        device: anything but "cpu" is waited for before the clock is read, and runs several times between two readings.
        progress: called once per run and round.
    """
    names = list(runs)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    repeats = dict.fromkeys(names, 1)
    for number in range(-warmup, rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            _, taken = timed(partial(_often, runs[name], repeats[name]), device)
            if number >= 0:
                seconds[name].append(taken / repeats[name])
            elif device != "cpu":
                repeats[name] = max(round(ENTRY * repeats[name] / taken), 1)
            progress()
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def _often(run: Callable[[], object], times: int) -> None:
    for _ in range(times):
        run()


def timed(run: Callable[[], T], device: str = "cpu") -> tuple[T, float]:
    """What one run returns and its seconds, the device's queue empty before and after."""
    start = now(device)
    result = run()
    return result, now(device) - start


def now(device: str = "cpu") -> float:
    """Seconds on a clock that is read when the device's queue is empty."""
    if device != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def peak_tensors(run: Callable[[], object], device: str = "cpu") -> int:
    """Bytes of tensors that one run holds at its peak beyond what was there before, whatever the allocator does."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        run()
    results: Any = watched.profiler
    changes = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    held = accumulate(event.nbytes() for event in sorted(changes, key=lambda event: event.start_ns()))
    return max(held, default=0)


@contextmanager
def threads(number: int | None) -> Iterator[int]:
    """Use ``number`` CPU threads inside the block (``None``: as many as now) and say how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def environment(device: str = "cpu", dtype: torch.dtype = torch.float32) -> dict[str, str]:
    """What belongs beside a measured figure: device, threads, dtype, versions."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else _processor()
    cuda = {
        "cuda": str(torch.version.cuda),
        "fp32 products": torch.get_float32_matmul_precision(),
        "fp32 convolutions": "tf32" if torch.backends.cudnn.allow_tf32 else "fp32",
    }
    return {
        "device": name,
        "threads": str(torch.get_num_threads()),
        "dtype": str(dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        **(cuda if device.startswith("cuda") else {}),
    }


def _processor() -> str:
    """Model name of the CPU where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} cores)" if names else platform.machine()
