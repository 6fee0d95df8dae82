"""Videos out: a film, or a folder of numbered pictures, that appears whole or not at all."""

from __future__ import annotations

import errno
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from .video_files import decodable
from .writing import MARK, is_ours, partial_of, whole, write_png

FILM = ".mp4"
NUMBERED = re.compile(r"\d{5,}\.png")


@contextmanager
def video_writer(path: Path, rate: float) -> Iterator[Callable[[np.ndarray], Path]]:
    """A function that takes ``(H, W, 3)`` uint8 RGB frames of one size, one by one, and says where they go.

    Args:
        path: a video file that ends in .mp4, or a folder for numbered PNGs. Where no encoder works the frames of a
            video file go to the folder ``NAME_frames``. Encoders want even sides: odd ones get one more pixel at the
            right or the bottom.
        rate: frames per second.

    Raises:
        OSError: frames cannot be written, to a full disk for example; nothing stays then but what was there before.
    """
    with ExitStack() as stack:
        sink: Callable[[np.ndarray], None] | None = None
        target = path

        def add(frame: np.ndarray) -> Path:
            nonlocal sink, target
            if sink is None:
                if path.suffix == FILM and not _encodes(rate, frame):
                    target = path.with_name(f"{path.stem}_frames")
                kind = _film if target.suffix == FILM else _pictures
                sink = stack.enter_context(kind(target, rate, frame))
            sink(frame)
            return target

        yield add


@contextmanager
def _film(path: Path, rate: float, first: np.ndarray) -> Iterator[Callable[[np.ndarray], None]]:
    count = 0
    with whole(path, FILM) as partial:
        with _encoder(partial, rate, first) as encoder:
            if not encoder.isOpened():
                raise OSError(errno.EIO, "the encoder cannot write there", str(path))

            def add(frame: np.ndarray) -> None:
                nonlocal count
                encoder.write(np.ascontiguousarray(_even(frame)[..., ::-1]))
                count += 1

            yield add
        _finish(partial, count)


def _finish(path: Path, frames: int) -> None:
    """Add the mark to a film, and make sure that all frames are in it: the encoder reports no errors."""
    import cv2

    with path.open("ab") as file:
        file.write(struct.pack(">I4s", 8 + len(MARK), b"free") + MARK.encode())  # a box that players skip
    with decodable(path) as name:
        capture, found = cv2.VideoCapture(name, cv2.CAP_FFMPEG), 0
    try:
        while capture.grab():
            found += 1
    finally:
        capture.release()
    if found != frames:
        raise OSError(errno.EIO, f"only {found} of {frames} frames could be written; is the disk full?", str(path))


@contextmanager
def _pictures(folder: Path, rate: float, first: np.ndarray) -> Iterator[Callable[[np.ndarray], None]]:
    partial, count = partial_of(folder), 0

    def add(frame: np.ndarray) -> None:
        nonlocal count
        name = f"{count:05d}.png"
        try:
            write_png(partial / name, frame)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(folder / name)) from None
        count += 1

    try:
        yield add
        if folder.exists():
            _replace(folder, partial)
        else:
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replace(folder: Path, partial: Path) -> None:
    """Put the new pictures into a folder; those of an earlier, longer video go, and nothing else."""
    for old in folder.iterdir():
        if NUMBERED.fullmatch(old.name) and not (partial / old.name).exists() and is_ours(old):
            old.unlink()
    for new in partial.iterdir():
        new.replace(folder / new.name)


def _even(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _encodes(rate: float, frame: np.ndarray) -> bool:
    """Whether there is an encoder for such frames."""
    with TemporaryDirectory() as folder, _encoder(Path(folder, "trial" + FILM), rate, frame) as encoder:
        return bool(encoder.isOpened())


@contextmanager
def _encoder(path: Path, rate: float, frame: np.ndarray) -> Iterator[Any]:
    """An MPEG-4 encoder, open if there is one for frames of that size and the file can be made."""
    import cv2

    height, width = _even(frame).shape[:2]
    with decodable(path) as name:
        encoder = cv2.VideoWriter(name, cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
    try:
        yield encoder
    finally:
        encoder.release()
