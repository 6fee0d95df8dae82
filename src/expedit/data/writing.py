"""Files that appear whole or not at all, and that say who wrote them, so that nobody else's are ever replaced."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

MARK = "written by expedit"
"""Stands near the beginning or the end of every file of ours that has room for it."""

BLANKS = " \t\t \t \n"
"""Ends a JSON list of ours, which has no room for the mark: blanks that mean nothing and that nobody else writes."""

NEAR = 256
"""Bytes at both ends of a file in which the mark is looked for."""

OPENED = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")
"""Names of files that are open already: a new file of that name would not be what the shell reads."""

PARTIAL = ".expedit-*.partial*"
"""Temporary neighbours of a file that is not finished; only a killed process leaves one behind."""


def is_ours(path: Path) -> bool:
    """Whether this program wrote the regular file ``path``; a CSV of ours looks like any other."""
    with path.open("rb") as file:
        head = file.read(NEAR)
        file.seek(max(os.fstat(file.fileno()).st_size - NEAR, 0))
        tail = file.read(NEAR)
    return is_marked(head) or is_marked(tail) or tail.endswith(BLANKS.encode())


def is_marked(content: bytes) -> bool:
    """Whether the first or the last ``NEAR`` bytes of a file have the mark in them."""
    return MARK.encode() in content


def is_stream(path: Path) -> bool:
    """Whether ``path`` is there and is written into rather than replaced: a device, a pipe, what the shell opened.

    Raises:
        OSError: links that lead in a circle, or a folder that may not be searched.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    opened = str(path.absolute()).startswith(OPENED)
    return opened or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@contextmanager
def whole(path: Path, ending: str = "") -> Iterator[Path]:
    """A temporary neighbour of ``path``, this call's own; its content goes to ``path`` when the block ends well.

    It is hidden, and has the ``ending`` that a library may choose the format by.

    A link stays one: what it points to is replaced. What ``is_stream`` is never replaced: it gets the content at once.

    Raises:
        OSError: ``path``, by its name, cannot be written.
    """
    try:
        if is_stream(path):
            with TemporaryDirectory() as folder:
                partial = Path(folder, "partial" + ending)
                yield partial
                with partial.open("rb") as content, path.open("ab") as stream:
                    copyfileobj(content, stream)
            return
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_of(target, ending)
        try:
            yield partial
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise _about(error, path) from error


def partial_of(path: Path, ending: str = "") -> Path:
    """A hidden neighbour that no other call uses."""
    return path.with_name(f".expedit-{uuid4().hex}.partial{ending}")


def remove_partials(folder: Path) -> None:
    """Remove what calls that were killed left directly in ``folder``; nobody may be writing there."""
    for partial in folder.glob(".expedit-*.partial*"):
        partial.unlink(missing_ok=True)


def _about(error: OSError, path: Path) -> OSError:
    """The error with the name that the user knows, unless it is about some other file."""
    named = error.filename
    if named is not None and ".partial" not in str(named) and Path(named) != Path(os.path.realpath(path)):
        return error
    if error.errno is None:
        return OSError(f"{path}: {error}")
    return OSError(error.errno, error.strerror, str(path))


def write_text(path: Path, content: str) -> None:
    """UTF-8, line ends as they are."""
    with whole(path) as partial:
        partial.write_text(content, encoding="utf-8", newline="")


def write_json(path: Path, content: Mapping[str, Any] | Sequence[Any], indent: int | None = None) -> None:
    """JSON with the mark, UTF-8; compact without ``indent``. ValueError for numbers that are not finite."""
    marked, end = ({"origin": MARK, **content}, "\n") if isinstance(content, Mapping) else (list(content), BLANKS)
    separators = (",", ":") if indent is None else None
    write_text(path, json.dumps(marked, indent=indent, separators=separators, allow_nan=False) + end)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """``(H, W)`` uint8 or uint16, or ``(H, W, 3)`` uint8, with the mark."""
    text = PngInfo()
    text.add_text("Comment", MARK)
    with whole(path) as partial:
        Image.fromarray(pixels).save(partial, format="PNG", pnginfo=text)


def write_array(path: Path, array: np.ndarray) -> None:
    """A ``.npy`` file, with the mark after the array, where readers do not look."""
    with whole(path) as partial, partial.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        file.write(MARK.encode())
