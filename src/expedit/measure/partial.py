"""Counts that survive a kill: parts on disk, each written whole or not at all.

A folder holds parts that are disjoint in their images and add up. Every process of every run writes a part of its own
and rewrites it as it goes on, so a run may be continued by any number of processes.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PATTERN = "part-*.npz"


@dataclass(frozen=True)
class Partial:
    """The state of an evaluation on disk.

    Attributes:
        folder: where the parts are; made when the first is written.
        settings: everything the counts depend on, as plain values.
    """

    folder: Path
    settings: Mapping[str, Any]

    def read(self, shape: tuple[int, ...]) -> tuple[set[int], np.ndarray]:
        """Images that are done, and the sum of their int64 counts of that shape.

        Raises:
            ValueError: the parts are of other settings, damaged, or not of one evaluation.
        """
        done: set[int] = set()
        total = np.zeros(shape, np.int64)
        for path in self._parts():
            indices, counts = self._read_part(path, shape)
            if len(indices | done) != len(indices) + len(done):
                raise ValueError(f"{path}: holds images of another part too; delete {self.folder} to start anew")
            done |= indices
            total += counts
        return done, total

    def next_run(self) -> int:
        """A number that no part has yet."""
        return 1 + max((int(path.stem.split("-")[1]) for path in self._parts()), default=0)

    def write(self, run: int, rank: int, done: Sequence[int], counts: np.ndarray) -> None:
        """Replace the part of process ``rank`` in run ``run``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"part-{run}-{rank}.npz"
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, settings=np.array(json.dumps(self.settings)), done=np.array(done, np.int64), counts=counts)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def _parts(self) -> list[Path]:
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder}: expected a folder for the partial state, but this is a file")
        parts = sorted(self.folder.glob(PATTERN))
        for path in parts:
            if not path.stem.split("-")[1].isdecimal():
                raise ValueError(f"{path}: expected only parts of an evaluation in {self.folder}")
        return parts

    def _read_part(self, path: Path, shape: tuple[int, ...]) -> tuple[set[int], np.ndarray]:
        try:
            with np.load(path, allow_pickle=False) as part:
                settings, done, counts = json.loads(str(part["settings"])), part["done"], part["counts"]
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: damaged ({error}); delete it to evaluate its images again") from None
        if settings != self.settings:
            other = {name: settings.get(name) for name in self.settings if settings.get(name) != self.settings[name]}
            raise ValueError(
                f"{path}: belongs to an evaluation with other settings, {other}; give another folder for the state"
            )
        if counts.shape != shape or counts.dtype != np.int64 or done.dtype != np.int64:
            raise ValueError(f"{path}: expected int64 counts of shape {shape}, got {counts.dtype} {counts.shape}")
        return set(done.tolist()), counts
