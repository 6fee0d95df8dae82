"""Evaluations that survive a kill: one line of JSON per image and contestant, on disk as soon as it is known.

Every process of every run writes a part of its own, so that a run may be continued by any number of processes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Key = tuple[int, str]
"""An image's index in its data set, and the name of a contestant."""


@dataclass(frozen=True)
class Journal:
    """The state of an evaluation on disk. A part is a line of settings, then ``[image, contestant, record]`` lines.

    Attributes:
        folder: where the parts are; made when the first is written.
        settings: everything that the records depend on beside image and contestant, as plain values.
    """

    folder: Path
    settings: Mapping[str, Any]

    def read(self) -> dict[Key, Any]:
        """The records so far; a last line that was cut short is not among them.

        Raises:
            ValueError: the parts are of other settings, damaged, or not of one evaluation.
        """
        records: dict[Key, Any] = {}
        for path in self._parts():
            try:
                head, *lines = path.read_text(encoding="utf-8").split("\n")[:-1] or ["{}"]
                settings, found = dict(json.loads(head)), [json.loads(line) for line in lines]
                part = {(int(image), str(contestant)): record for image, contestant, record in found}
            except (ValueError, TypeError, RecursionError) as error:
                raise ValueError(f"{path}: damaged ({error}); delete it to evaluate its images again") from None
            if found or settings:
                self._check_settings(path, settings)
            if records.keys() & part.keys() or len(part) != len(found):
                raise ValueError(f"{path}: holds images of another part too; delete {self.folder} to start anew")
            records |= part
        return records

    def next_run(self) -> int:
        """A number that no part has yet."""
        return 1 + max((int(path.stem.split("-")[1]) for path in self._parts()), default=0)

    @contextmanager
    def writer(self, run: int, rank: int) -> Iterator[Callable[[int, str, Any], None]]:
        """A function that adds a record to the part of process ``rank`` in run ``run``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"part-{run}-{rank}.jsonl").open("x", encoding="utf-8") as file:

            def add(image: int, contestant: str, record: Any) -> None:
                line = json.dumps([image, contestant, record], separators=(",", ":"), allow_nan=False)
                file.write(line + "\n")
                file.flush()

            file.write(json.dumps(dict(self.settings)) + "\n")
            yield add

    def _parts(self) -> list[Path]:
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder}: expected a folder for the state of an evaluation, but this is a file")
        paths = sorted(self.folder.glob("part-*.jsonl"))
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
