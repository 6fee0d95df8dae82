"""Images and their labels: matched by name when a data set is opened, decoded and checked one by one when asked for."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from .class_list import Color
from .decode import decode_image, decode_indices, most_bytes
from .listing import by_key, results_among
from .samples import IGNORE, Sample
from .storage import Tree
from .writing import NEAR

TURNED = "; an EXIF tag may turn the image, and labels belong to the turned one"


class Label(Protocol):
    """Where a ground truth comes from."""

    def read(self, tree: Tree, size: tuple[int, int]) -> np.ndarray:
        """``(H, W)`` uint8 class indices, `IGNORE` where there is none; ``size`` is the image's (H, W)."""


@dataclass(frozen=True, eq=False)
class LabelFile:
    """A picture of numbers, and the class index of every number (see `lookup`)."""

    path: str
    table: np.ndarray

    def read(self, tree: Tree, size: tuple[int, int]) -> np.ndarray:
        """Decode, check size and values, map.

        Raises:
            FileNotFoundError, ValueError: with the file's name, what was expected and what came.
        """
        name = tree.where(self.path)
        values = decode_indices(tree.read(self.path), name)
        check_size(name, values.shape, size)
        codes = self.table.take(values, mode="clip")
        wrong = (codes < 0) | (values != values.astype(np.uint8))
        if wrong.any():
            allowed, others = np.flatnonzero(self.table >= 0).tolist(), np.unique(values[wrong]).tolist()
            raise ValueError(
                f"{name}: expected label values {spans(allowed)}, got {spans(others)} too "
                f"({np.count_nonzero(wrong)} of {values.size} pixels)"
            )
        return codes.astype(np.uint8)


class Pair(NamedTuple):
    """One picture: its name, the image file's path in the tree, and its ground truth if it has one."""

    name: str
    image: str
    label: Label | None


class PictureFiles:
    """What data sets of images and their ground truths share. ``pairs``: name, image and ground truth by place."""

    tree: Tree
    pairs: tuple[tuple[str, str, Any], ...]

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was left out."""
        return self.tree.remarks

    def photograph(self, index: int) -> str:
        """Path of image ``index`` in the tree."""
        return self.pairs[index][1]

    def image(self, index: int) -> np.ndarray:
        """Image ``index``, ``(H, W, 3)`` uint8; an error names the file."""
        path = self.photograph(index)
        return decode_image(self.tree.read(path, most_bytes()), self.tree.where(path))


@dataclass(frozen=True, eq=False)
class Pairs(PictureFiles):
    """A semantic data set of files. ``data[i]`` reads, checks and maps one picture; nothing is kept in memory."""

    tree: Tree
    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    pairs: tuple[Pair, ...]

    def __getitem__(self, index: int) -> Sample:
        """Decode picture ``index``.

        Raises:
            IndexError: past the end.
            FileNotFoundError, ValueError: a file is missing, damaged, of another size than its partner, or holds label
                values that the data set does not have; the message names the file.
        """
        name, _, label = self.pairs[index]
        image = self.image(index)
        height, width, _ = image.shape
        return Sample(name, image, None if label is None else label.read(self.tree, (height, width)))


@dataclass(frozen=True)
class Side:
    """The images or the labels of one split: all files below ``folder`` whose names end in one of ``endings``.

    Two files that differ only in the ending are an error, unless ``later_wins``: then the later ending is taken.
    """

    folder: str
    endings: tuple[str, ...]
    later_wins: bool = False

    def files(self, tree: Tree) -> dict[str, str]:
        """Path of every file by its key: the name below ``folder`` without the ending (see `listing`).

        Raises:
            ValueError: two files have the same key.
        """
        below = len(self.folder) + 1 if self.folder else 0
        paths = [path[below:] for path in tree.files(self.folder)]
        results = results_among(paths, lambda path: _head(tree, posixpath.join(self.folder, path)))
        paths = [path for path in paths if path not in results]
        found = by_key(paths, self.endings, lambda path: tree.where(posixpath.join(self.folder, path)), self.later_wins)
        return {key: posixpath.join(self.folder, path) for key, path in found.items()}

    def expected(self, tree: Tree, key: str) -> str:
        """Where the file of that key should lie."""
        return tree.where(posixpath.join(self.folder, key + self.endings[0]))


def _head(tree: Tree, path: str) -> bytes:
    try:
        return tree.read(path)[:NEAR]
    except (OSError, ValueError):
        return b""


def match(tree: Tree, images: Side, labels: Side) -> list[tuple[str, str, str]]:
    """(key, image path, label path) of every picture, in natural order.

    Raises:
        FileNotFoundError: no images, an image without a label, or a label without an image.
    """
    pictures, truths = images.files(tree), labels.files(tree)
    if not pictures:
        raise FileNotFoundError(
            f"{tree.where(images.folder)}: expected images (*{', *'.join(images.endings)}), got none"
        )
    for have, want, side, what in ((pictures, truths, labels, "label"), (truths, pictures, images, "image")):
        missing = [key for key in have if key not in want]
        if missing:
            raise FileNotFoundError(
                f"{tree.where(have[missing[0]])}: has no {what}, expected {side.expected(tree, missing[0])} "
                f"({len(missing)} of {len(have)} lack one)"
            )
    return [(key, pictures[key], truths[key]) for key in pictures]


def lookup(classes: int, *, reduce_zero_label: bool = False, ignore: Iterable[int] = ()) -> np.ndarray:
    """``(256,)`` int16: class index of every label value, `IGNORE`, or -1 for values that must not occur.

    Args:
        classes: label values 0 .. classes-1 are the classes, and 255 is ignored.
        reduce_zero_label: 0 is ignored and k is class k-1.
        ignore: further values to ignore.
    """
    first = int(reduce_zero_label)
    if not 0 < classes <= IGNORE - first:
        raise ValueError(f"expected 1 to {IGNORE - first} classes, got {classes}")
    table = np.full(256, -1, dtype=np.int16)
    table[first : first + classes] = np.arange(classes)
    for value in (IGNORE, *ignore, *range(first)):
        if not 0 <= value <= 255:
            raise ValueError(f"expected label values to ignore between 0 and 255, got {value}")
        table[value] = IGNORE
    return table


def check_size(name: str, label: Sequence[int], image: tuple[int, int]) -> None:
    """Both are (H, W).

    Raises:
        ValueError: they differ.
    """
    if tuple(label) != image:
        raise ValueError(
            f"{name}: expected a label as large as its image, {image[1]} x {image[0]} pixels (width x height), "
            f"got {label[1]} x {label[0]}{TURNED if tuple(label) == image[::-1] else ''}"
        )


def spans(values: Sequence[int]) -> str:
    """Sorted integers in words: "0..18, 255"."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    words = [str(first) if first == last else f"{first}..{last}" for first, last in runs]
    return ", ".join(words if len(words) <= 8 else [*words[:8], "..."])


def sample_names(keys: Sequence[str]) -> list[str]:
    """A unique, file-name safe name for every key: its last part where these are unique, else the path in one word."""
    last = [posixpath.basename(key) for key in keys]
    words = last if len({word.casefold() for word in last}) == len(keys) else keys
    safe = [re.sub(r"[^\w.-]", "_", word).lstrip(".-") or "_" for word in words]
    count = Counter(word.casefold() for word in safe)
    return [f"{word}-{i}" if count[word.casefold()] > 1 else word for i, word in enumerate(safe)]


def split_name(split: str, names: Mapping[str, str]) -> str:
    """The data set's own name of a split.

    Raises:
        ValueError: it has no such split.
    """
    if split not in names:
        raise ValueError(f"split: expected one of {', '.join(names)}, got {split!r}")
    return names[split]
