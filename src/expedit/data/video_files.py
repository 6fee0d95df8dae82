"""Videos as streams of frames, from video files and from folders of pictures."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeVar

import numpy as np

from .decode import read_image, too_many_pixels
from .listing import list_pictures

VIDEO_ENDINGS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ogv", ".wmv")

PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD")
"""Beginnings of files that make a video library open other files or addresses."""

SLACK = 2
"""Frames by which the number that a video file states may be too high."""

COUNTED = (".mp4", ".m4v", ".mov", ".avi")
"""Files that hold the number of their frames. For others, such as .webm and .mkv, it is length times rate: an estimate,
too high where the sound goes on after the last frame or the rate varies."""

CERTAIN = 0.95
"""Share of an estimated number before which no film ends; a frame that is lost there is still told from the end."""

FOLDER_RATE = 24.0
"""Frames per second where nothing tells."""

T = TypeVar("T")
Frames = Generator[tuple[str, np.ndarray | ValueError], None, None]
"""Name of every frame, and the frame or what is wrong with it."""

Broken = Literal["refuse", "repeat"]
"""What to do with a frame that cannot be decoded: refuse the video, or show the frame before it once more."""


@dataclass(frozen=True)
class VideoFile:
    """A video file; every iteration decodes it anew, ``(H, W, 3)`` uint8 RGB frame by frame.

    Attributes:
        path: of the file.
        rate: frames per second.
        stated: number of frames that the file states, ``None`` if it does not; often not quite true.
        broken: what to do with frames that cannot be decoded.
    """

    path: Path
    rate: float
    stated: int | None
    broken: Broken = "refuse"

    def __iter__(self) -> Iterator[np.ndarray]:
        return _mended(self._decoded(), self.broken)

    def _decoded(self) -> Frames:
        import cv2

        capture, index, stated = _opened(self.path), 0, self.stated or 0
        certain = stated if self.path.suffix.lower() in COUNTED else CERTAIN * stated
        held: list[tuple[str, np.ndarray | ValueError]] = []  # broken frames, or the end: the next good one tells
        try:
            while True:
                good, frame = capture.read()
                if not good and index >= stated - SLACK:
                    return
                name = f"{self.path}, frame {index}"
                broken = ValueError(f"{name}: cannot be decoded; the file states {self.stated} frames")
                held.append((name, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if good else broken))
                if good or index < certain:
                    yield from held
                    held.clear()
                index += 1
        finally:
            capture.release()


@dataclass(frozen=True)
class FrameFolder:
    """A folder of pictures as a video, in natural order (frame 2 before frame 10); fields as for ``VideoFile``."""

    path: Path
    files: tuple[Path, ...]
    rate: float = FOLDER_RATE
    broken: Broken = "refuse"

    @property
    def stated(self) -> int:
        """Number of frames."""
        return len(self.files)

    def __iter__(self) -> Iterator[np.ndarray]:
        return _mended(((str(file), _picture(file)) for file in self.files), self.broken)


def open_video(path: Path, broken: Broken = "refuse") -> VideoFile | FrameFolder:
    """A video file or a folder of frames. Nothing but the file's header is read yet.

    While frames are read, ValueError names the one that cannot be decoded or has another size than the first.

    Raises:
        FileNotFoundError: no such file, or a folder without pictures.
        ValueError: not a video, or a folder with two pictures of one name.
    """
    if path.is_dir():
        return FrameFolder(path, tuple(list_pictures(path).pictures), broken=broken)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such video file or folder of frames")
    import cv2

    capture = _opened(path)
    rate, stated = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    capture.release()
    if not 0 < rate < 1000:  # then the number of frames, which may be made from it, tells nothing either
        rate, stated = FOLDER_RATE, 0
    return VideoFile(path, rate, int(stated) if stated > 0 else None, broken)


def _opened(path: Path) -> Any:
    """The video library at the first frame of a file."""
    import cv2

    with path.open("rb") as file:
        if file.read(64).lstrip().startswith(PLAYLISTS):
            raise ValueError(f"{path}: expected a video, got a list of other files")
    with decodable(path) as name:
        capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG)
    if not capture.isOpened():
        capture.release()
        raise ValueError(f"{path}: expected a video file ({' '.join(VIDEO_ENDINGS)}), but it cannot be opened as one")
    width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    if problem := too_many_pixels(int(width * height)):
        capture.release()
        raise ValueError(f"{path}: {problem}")
    return capture


def _picture(path: Path) -> np.ndarray | ValueError:
    try:
        return read_image(path)
    except ValueError as error:
        return error
    except OSError as error:
        return ValueError(f"{path}: {error.strerror or error}")


def _mended(frames: Frames, broken: Broken) -> Iterator[np.ndarray]:
    """Frames of one size; those that came as errors are raised or replaced by the frame before."""

    def whole() -> Generator[tuple[str, np.ndarray], None, None]:
        last: np.ndarray | None = None
        with closing(frames):
            for name, frame in frames:
                if isinstance(frame, ValueError):
                    if broken == "refuse" or last is None:
                        raise frame
                    frame = last
                last = frame
                yield name, frame

    return of_one_size(whole())


def of_one_size(frames: Generator[tuple[str, np.ndarray], None, None]) -> Generator[np.ndarray, None, None]:
    """The frames, as long as they have the size of the first; ValueError names the one that has not.

    ``frames`` is closed with what is returned, or before an error leaves here.
    """
    first: tuple[str, tuple[int, ...]] | None = None
    with closing(frames):
        for name, frame in frames:
            first = first or (name, frame.shape[:2])
            if frame.shape[:2] != first[1]:
                raise ValueError(
                    f"{name}: expected {first[1]} pixels (height, width) like {first[0]}, got {frame.shape[:2]}; all "
                    "frames of a video must have one size"
                )
            yield frame


@contextmanager
def reading(frames: Iterable[T]) -> Iterator[Iterator[T]]:
    """An iterator over ``frames``, closed at the end of the block if it was opened here, as those of videos are."""
    iterator = iter(frames)
    try:
        yield iterator
    finally:
        if iterator is not frames and isinstance(iterator, Generator):
            iterator.close()


@contextmanager
def decodable(path: Path) -> Iterator[str]:
    """A name of a file, there or yet to come, that a video library can take.

    Libraries in C++ crash on names that are not UTF-8, and take ``concat:a.mp4`` for an instruction to them.
    """
    name = str(path.absolute())
    try:
        name.encode()
    except UnicodeEncodeError:
        with TemporaryDirectory() as folder:
            link = Path(folder, "video" + path.suffix)
            link.symlink_to(name)
            yield str(link)
    else:
        yield name
