"""What is finished and what failed, one line an image, so that a run goes on after a kill.

Every process of a run writes files of its own, so that it may be continued by any number of processes.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from ..data.writing import MARK, PARTIAL
from .sources import Failure

DONE, FAILED, ROWS = "expedit-journal", "failed", "expedit-rows"
"""How the files of a run's state begin; the last has rows that wait for a shard."""

Settings = Mapping[str, Any]
"""Everything that results depend on beside the image, as plain values."""


class Lines:
    """A file that grows by whole lines of JSON, each on its way to the disk when ``add`` returns; for all threads."""

    def __init__(self, path: Path, afresh: bool) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | (os.O_TRUNC if afresh else 0), 0o666)
        self._lock = Lock()
        self._cut(_whole_lines(path))

    def add(self, content: Mapping[str, Any]) -> None:
        """OSError, with nothing of the line in the file, if it cannot be written."""
        line = (json.dumps(content) + "\n").encode()
        with self._lock:
            end = os.lseek(self._file, 0, os.SEEK_END)
            try:
                if os.write(self._file, line) == len(line):
                    return
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                self._cut(end)
                raise OSError(error.errno, error.strerror, str(self.path)) from None

    def clear(self) -> None:
        """Remove all lines."""
        self._cut(0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _cut(self, end: int) -> None:
        """A line that was cut short by a kill goes, or the next one would be damaged, too."""
        os.ftruncate(self._file, end)


def _whole_lines(path: Path) -> int:
    return path.read_bytes().rfind(b"\n") + 1


class Journal:
    """The state of a run beside its results: ``expedit-journal.jsonl`` and, if there are failures, ``failed.jsonl``.

    The first line of the journal has the settings of the run.

    Args:
        folder: of the results.
        settings: of this run.
        part: which of several processes this is.
    """

    def __init__(self, folder: Path, settings: Settings, part: int = 0) -> None:
        self.folder, self.settings, end = folder, settings, f"-{part}.jsonl" if part else ".jsonl"
        self._done, self._failed = folder / f"{DONE}{end}", folder / f"{FAILED}{end}"
        self._lines: Lines | None = None
        self._failures: Lines | None = None
        self._lock = Lock()

    def files(self) -> list[Path]:
        """The files of this state, those of all processes."""
        return [path for kind in (DONE, FAILED, ROWS) for path in sorted(self.folder.glob(f"{kind}*.jsonl"))]

    def finished(self) -> set[str]:
        """Paths of the images that are finished.

        Raises:
            ValueError: the journal is damaged, or of a run with other settings.
        """
        done: set[str] = set()
        for path in sorted(self.folder.glob(f"{DONE}*.jsonl")):
            head, *lines = list(read_lines(path)) or [{"settings": self.settings}]
            check_settings(path, head.get("settings", {}), self.settings)
            done.update(str(line["image"]) for line in lines)
        return done

    def failed(self) -> set[str]:
        """Paths of the images that failed."""
        return {
            str(line["image"]) for path in sorted(self.folder.glob(f"{FAILED}*.jsonl")) for line in read_lines(path)
        }

    @contextmanager
    def opened(self, afresh: bool) -> Iterator[Journal]:
        """Inside, lines are added; what failed before is forgotten, as it is tried again."""
        self._failed.unlink(missing_ok=True)
        self._lines = Lines(self._done, afresh)
        try:
            if not self._done.stat().st_size:
                self._lines.add({"origin": MARK, "settings": dict(self.settings)})
            yield self
        finally:
            self._lines.close()
            if self._failures is not None:
                self._failures.close()

    def add(self, path: str) -> None:
        """Everything of this image is written."""
        assert self._lines is not None, "the journal is open"
        self._lines.add({"image": path})

    def complete(self, paths: Iterable[str]) -> None:
        """Lines of the images that have none: a kill came between their rows and their lines."""
        done = self.finished()
        for path in paths:
            if path not in done:
                self.add(path)

    def add_failure(self, failure: Failure) -> None:
        """There is nothing of this image."""
        with self._lock:
            self._failures = self._failures or Lines(self._failed, afresh=True)
        self._failures.add({"origin": MARK, "image": failure.path, "reason": failure.reason})


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file; ValueError, with its name, if one is damaged."""
    content = path.read_bytes()
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            found = json.loads(line)
            if not (isinstance(found, dict) and ("settings" in found or "image" in found)):
                raise ValueError("neither settings nor an image")
        except ValueError as error:
            raise ValueError(f"{path}: line {number} is damaged ({error}); leave out --resume to start anew") from None
        yield found


def part_of(path: Path) -> int:
    """Which process a file of the state is of."""
    number = path.stem.rpartition("-")[2]
    return int(number) if number.isdigit() else 0


def check_settings(path: Path, before: Settings, now: Settings) -> None:
    """ValueError, saying what changed, if results of the two settings do not belong together."""
    changed = [f"{name} {before.get(name)!r}, now {now.get(name)!r}" for name in now if before.get(name) != now[name]]
    if changed:
        raise ValueError(
            f"{path}: belongs to a run with other settings: {'; '.join(changed)}. Give another --output, or leave out "
            "--resume to start anew"
        )


def sweep(folder: Path) -> None:
    """Remove the unfinished files that a killed run has left behind."""
    for path in folder.rglob(PARTIAL):
        path.unlink(missing_ok=True)
