"""Rows on their way into shards. Those that wait for one are on disk, too, so that a kill loses none."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.writing import MARK, whole
from .journal import ROWS, Lines, Settings, part_of, read_lines
from .parquet import Row, needed, write_shard, written

if TYPE_CHECKING:
    import pyarrow as pa

BINARY = ("labels", "values")
"""Columns that are bytes, which JSON does not have."""


@dataclass
class Shards:
    """A table that grows by files of ``rows`` rows; for one thread at a time.

    Attributes:
        folder: of the shards; rows that wait are in its parent.
        schema: of the table.
        rows: of a shard, but of the last.
        settings: of the run.
        part: which of several processes this is.
        world: how many there are; rows that others left behind are shared out among them.
        kept: paths of the images whose rows a killed run left waiting, once it is open.
    """

    folder: Path
    schema: pa.Schema
    rows: int
    settings: Settings
    part: int = 0
    world: int = 1
    kept: list[str] = field(default_factory=list)
    _waiting: list[Row] = field(default_factory=list)

    def add(self, path: str, row: Row) -> None:
        """The row of an image is on disk when this returns; OSError if it cannot be written."""
        self._lines.add(_packed(path, row))
        self._waiting.append(row)
        if len(self._waiting) >= self.rows:
            self._write()

    @contextmanager
    def opened(self) -> Iterator[Shards]:
        """Rows of a killed run come first; at the end, or if it is interrupted, those left over become a file."""
        self._take_over()
        self._lines = Lines(self._state, afresh=False)
        try:
            yield self
        except OSError:
            self._lines.close()
            raise
        except BaseException:
            self._close()
            raise
        self._close()

    @property
    def _state(self) -> Path:
        return self.folder.parent / f"{ROWS}{f'-{self.part}' if self.part else ''}.jsonl"

    def _close(self) -> None:
        try:
            if self._waiting:
                self._write()
            self._state.unlink()
        finally:
            self._lines.close()

    def _write(self) -> None:
        names = (self.folder / f"part-{self.part:03}-{number:05}.parquet" for number in range(10**9))
        table = needed().Table.from_pylist(self._waiting, schema=self.schema)
        write_shard(next(path for path in names if not path.exists()), table)
        self._lines.clear()
        self._lines.add(self._head)
        self._waiting.clear()

    @property
    def _head(self) -> dict[str, Any]:
        return {"origin": MARK, "settings": dict(self.settings)}

    def _take_over(self) -> None:
        """What waits in this process's file, and in those of processes that are no more."""
        left = [path for path in _files(self.folder.parent) if part_of(path) % self.world == self.part]
        done = written(self.folder, self.settings) if left else set()
        lines = [self._head]
        for path in left:
            for image, row in _rows(path):
                if row["path"] not in done:  # killed between the shard and the end of its rows' file
                    done.add(row["path"])
                    self.kept.append(image)
                    self._waiting.append(row)
                    lines.append(_packed(image, row))
        with whole(self._state) as partial:
            partial.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        for path in left:
            if path != self._state:
                path.unlink()


def waiting(folder: Path) -> set[str]:
    """Paths of the images whose rows, of any process, wait for a shard beside the results in ``folder``.

    Raises:
        ValueError: a file of them is damaged.
    """
    return {image for path in _files(folder) for image, _ in _rows(path)}


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{ROWS}*.jsonl"))


def _packed(path: str, row: Row) -> dict[str, Any]:
    coded = {name: None if row[name] is None else b64encode(row[name]).decode() for name in BINARY}
    return {"image": path, "row": {**row, **coded}}


def _rows(path: Path) -> Iterator[tuple[str, Row]]:
    for line in read_lines(path):
        if "row" in line:
            coded = {name: None if line["row"][name] is None else b64decode(line["row"][name]) for name in BINARY}
            yield line["image"], {**line["row"], **coded}
