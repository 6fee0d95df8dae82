"""Evaluations that survive a kill: parts on disk, counts written whole or not at all, or records line by line.

A folder holds parts that are disjoint in their images and add up. Every process of every run writes a part of its own,
so a run may be continued by any number of processes.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..data.writing import whole


@dataclass(frozen=True)
class Parts:
    """The state of an evaluation on disk.

    Attributes:
        folder: where the parts are; made when the first is written.
        settings: everything the state depends on, as plain values.
    """

    folder: Path
    settings: Mapping[str, Any]
    ending: ClassVar[str]

    def next_run(self) -> int:
        """A number that no part has yet."""
        return 1 + max((int(path.stem.split("-")[1]) for path in self._paths()), default=0)

    def _path(self, run: int, rank: int) -> Path:
        return self.folder / f"part-{run}-{rank}{self.ending}"

    def _paths(self) -> list[Path]:
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder}: expected a folder for the partial state, but this is a file")
        paths = sorted(self.folder.glob(f"part-*{self.ending}"))
        for path in paths:
            if not path.stem.split("-")[1].isdecimal():
                raise ValueError(f"{path}: expected only parts of an evaluation in {self.folder}")
        return paths

    def _check_settings(self, path: Path, settings: Mapping[str, Any]) -> None:
        if settings != self.settings:
            other = {name: settings.get(name) for name in self.settings if settings.get(name) != self.settings[name]}
            raise ValueError(
                f"{path}: belongs to an evaluation with other settings, {other}; give another folder for the state"
            )

    def _twice(self, path: Path) -> ValueError:
        return ValueError(f"{path}: holds images of another part too; delete {self.folder} to start anew")

    def _damaged(self, path: Path, error: object) -> ValueError:
        return ValueError(f"{path}: damaged ({error}); delete it to evaluate its images again")


class Partial(Parts):
    """Counts that add up. A part is rewritten as a run goes on."""

    ending = ".npz"

    def read(self, shape: tuple[int, ...]) -> tuple[set[int], np.ndarray]:
        """Images that are done, and the sum of their int64 counts of that shape.

        Raises:
            ValueError: the parts are of other settings, damaged, or not of one evaluation.
        """
        done: set[int] = set()
        total = np.zeros(shape, np.int64)
        for path in self._paths():
            indices, counts = self._read_part(path, shape)
            if len(indices | done) != len(indices) + len(done):
                raise self._twice(path)
            done |= indices
            total += counts
        return done, total

    def write(self, run: int, rank: int, done: Sequence[int], counts: np.ndarray) -> None:
        """Replace the part of process ``rank`` in run ``run``."""
        with whole(self._path(run, rank)) as partial, partial.open("wb") as file:
            np.savez(file, settings=np.array(json.dumps(self.settings)), done=np.array(done, np.int64), counts=counts)
            file.flush()
            os.fsync(file.fileno())

    def _read_part(self, path: Path, shape: tuple[int, ...]) -> tuple[set[int], np.ndarray]:
        try:
            with np.load(path, allow_pickle=False) as part:
                settings, done, counts = json.loads(str(part["settings"])), part["done"], part["counts"]
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise self._damaged(path, error) from None
        self._check_settings(path, settings)
        if counts.shape != shape or counts.dtype != np.int64 or done.dtype != np.int64:
            raise ValueError(f"{path}: expected int64 counts of shape {shape}, got {counts.dtype} {counts.shape}")
        return set(done.tolist()), counts


class Journal(Parts):
    """One JSON value per image. A part is a line with the settings, then ``[image, value]`` lines as they come."""

    ending = ".jsonl"

    def read(self) -> dict[int, Any]:
        """Value of every image that is done; a last line that was cut short is not there.

        Raises:
            ValueError: the parts are of other settings, damaged, or not of one evaluation.
        """
        values: dict[int, Any] = {}
        for path in self._paths():
            try:
                head, *lines = path.read_text(encoding="utf-8").split("\n")[:-1] or ["{}"]
                settings, found = dict(json.loads(head)), [json.loads(line) for line in lines]
                part = {int(index): value for index, value in found}
            except (ValueError, TypeError, RecursionError) as error:
                raise self._damaged(path, error) from None
            if found or settings:
                self._check_settings(path, settings)
            if values.keys() & part.keys() or len(part) != len(found):
                raise self._twice(path)
            values |= part
        return values

    @contextmanager
    def writer(self, run: int, rank: int) -> Iterator[Callable[[int, Any], None]]:
        """A function that adds the value of an image to the part of process ``rank`` in run ``run``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._path(run, rank).open("x", encoding="utf-8") as file:

            def add(*entry: Any) -> None:
                file.write(json.dumps(entry, separators=(",", ":"), allow_nan=False) + "\n")
                file.flush()

            file.write(json.dumps(dict(self.settings)) + "\n")
            yield add
