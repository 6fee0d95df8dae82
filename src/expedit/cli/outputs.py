"""Where results go: places are checked before the work, and nobody else's file is replaced."""

from __future__ import annotations

import argparse
import os
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ADVICE = "give another place, or --overwrite to replace it"


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """``--overwrite``."""
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that expedit did not write, too; what this run reads is never replaced",
    )


@dataclass(frozen=True)
class Outputs:
    """Which files may be written.

    Attributes:
        overwrite: files that this program did not write may be replaced.
        inputs: what the run reads, which is never replaced: files, and folders with everything inside them.
    """

    overwrite: bool = False
    inputs: tuple[Path, ...] = ()

    def check_file(self, path: Path, beginning: bytes | None = None) -> None:
        """Raise if the file cannot, or must not, be written.

        Args:
            path: may be a device or a pipe, which is written into.
            beginning: of a file without room for the mark, by which one of ours is known.

        Raises:
            OSError: there is no way to write it, by permission for example.
            ValueError: it is there and is an input of this run, or nobody knows that it is ours.
        """
        from ..data.writing import is_stream

        if is_stream(path):
            if not os.access(path, os.W_OK):
                raise PermissionError(f"{path}: not writable; give another place")
            return
        if not path.is_dir():
            check_folder(Path(os.path.realpath(path)).parent)
        self.check_content(path, beginning)

    def check_content(self, path: Path, beginning: bytes | None = None) -> None:
        """The part of ``check_file`` that costs next to nothing where there is no file; errors as there."""
        from ..data.writing import is_ours, is_stream

        if not path.exists() or is_stream(path):
            return
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(f"{path}: expected a file to write, but this is a folder")
        ours = not found.st_size or (is_ours(path) if beginning is None else _begins(path, beginning))
        inside = any(Path(os.path.realpath(path)).is_relative_to(folder) for folder in self._folders)
        if (found.st_dev, found.st_ino) in self._files or (inside and not ours):
            raise ValueError(f"{path}: this run reads it, so it is not replaced; give another place")
        if not (ours or self.overwrite):
            raise ValueError(f"{path}: exists already, and expedit did not write it; {ADVICE}")

    def check_inside(self, folder: Path) -> None:
        """``check_content`` of everything in a folder that results are to fill; a folder that is not there is fine."""
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                self.check_content(path)

    @cached_property
    def _files(self) -> frozenset[tuple[int, int]]:
        """Device and number of every file that is read, whatever it is called."""
        found = (path.stat() for path in self.inputs if path.is_file())
        return frozenset((one.st_dev, one.st_ino) for one in found)

    @cached_property
    def _folders(self) -> tuple[str, ...]:
        return tuple(os.path.realpath(path) for path in self.inputs if path.is_dir())


def check_folder(folder: Path) -> None:
    """OSError if nothing can be written in ``folder``, which is made later if it is not there."""
    from ..data.writing import partial_of

    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: expected a folder, but this is a file; give another place")
    trial = partial_of(folder / "trial")
    try:
        trial.touch()
    except OSError as error:
        raise type(error)(error.errno, f"not writable ({error.strerror}); give another place", str(folder)) from None
    trial.unlink()


def _begins(path: Path, beginning: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(beginning)) == beginning
