"""The processes of a torchrun, or the only one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
from torch import distributed

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""How long a process waits for the others: with long clips one can be hours ahead."""


@dataclass(frozen=True)
class Processes:
    """One process among all that work on the same thing.

    Attributes:
        rank: which one.
        world: how many there are.
        local: which one on its machine: the number of its GPU.
    """

    rank: int = 0
    world: int = 1
    local: int = 0

    def barrier(self) -> None:
        """Wait for all."""
        if self.world > 1:
            distributed.barrier()

    def total(self, values: np.ndarray) -> np.ndarray:
        """Sum of an int64 or float64 array over all processes, in every process."""
        if self.world == 1:
            return values
        tensor = torch.from_numpy(values.copy())
        distributed.all_reduce(tensor)
        return tensor.numpy()

    def gathered(self, value: T) -> list[T]:
        """The values of all processes by rank, in the first process; nothing in the others."""
        if self.world == 1:
            return [value]
        values: list[Any] | None = [None] * self.world if self.rank == 0 else None
        distributed.gather_object(value, values)
        return values or []


@contextmanager
def launched() -> Iterator[Processes]:
    """What torchrun says in the environment; its processes talk over gloo, so counts stay exact integers."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes()
        return
    distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        processes = Processes(int(os.environ["RANK"]), world, int(os.environ.get("LOCAL_RANK", "0")))
        yield processes
        processes.barrier()  # nobody leaves while another still talks
    finally:
        distributed.destroy_process_group()
