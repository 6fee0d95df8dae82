"""What lies in a folder or archive: which data sets, how much of each, and the first thing that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np

from .coco_files import CocoFiles
from .decode import is_turned, most_bytes
from .depth import DepthFiles
from .folder import CLASS_FILE, has_class_list
from .layouts import LAYOUTS, Layout, guess
from .pairs import Pairs, spans
from .storage import Tree

SAMPLES = 20

NUMBERS = tuple(str(value) for value in range(255))
"""Names for the label values of data that has no class list."""

PHOTOGRAPHS = (Pairs, CocoFiles, DepthFiles)
"""Data sets whose images are files that an EXIF tag may turn."""

READ: Mapping[str, Callable[[Any, int], Any]] = {
    "instance": lambda data, index: data[index].masks(),
    "video": lambda data, index: data[index].frames[0],
}
"""By task, where it is more than ``data[index]``: what makes a damaged sample show."""


@dataclass(frozen=True)
class SplitReport:
    """One split of one data set.

    Attributes:
        name: of the data set.
        split: as `find` of its layout names it.
        count: images or clips.
        checked: how many were read with their ground truth.
        problem: the first thing that is wrong, if anything is.
        remarks: what a user may want to know.
    """

    name: str
    split: str
    count: int
    checked: int
    problem: str | None
    remarks: tuple[str, ...] = ()


def inspect(path: Path, samples: int = SAMPLES) -> list[SplitReport]:
    """Open every data set that lies there and read some of it.

    Args:
        path: a folder or archive.
        samples: images or clips per split that are read, evenly spread; 0 reads all.

    Raises:
        FileNotFoundError, ValueError: ``path`` is not there, or neither a folder nor an archive that can be read.
    """
    tree = Tree(path)
    found = [layout for layout in LAYOUTS.values() if layout.task != "semantic" and _splits(layout, tree)]
    semantic = guess(tree, "semantic")
    # The annotations of object data look like the labels of a folder without a class list.
    if semantic is not None and (semantic.name != "folder" or has_class_list(tree) or not found):
        found.insert(0, semantic)
    return [_report(layout, tree, split, samples) for layout in found for split in _splits(layout, tree)]


def _splits(layout: Layout, tree: Tree) -> list[str]:
    return [] if layout.find is None else layout.find(tree)


def _report(layout: Layout, tree: Tree, split: str, samples: int) -> SplitReport:
    count = checked = 0
    remarks: tuple[str, ...] = ()
    unnamed = layout.name == "folder" and not has_class_list(tree)
    values: set[int] = set()
    turned: list[str] = []
    try:
        data = layout.open(tree.root, split, **({"classes": NUMBERS} if unnamed else {}))
        count, remarks = len(data), data.remarks
        for index in range(0, count, max(1, -(-count // samples)) if samples else 1):
            checked += 1
            sample = READ.get(layout.task, getitem)(data, index)
            if isinstance(data, PHOTOGRAPHS):
                path = data.photograph(index)
                turned += [path] if is_turned(data.tree.read(path, most_bytes()), path) else []
            if unnamed:
                values.update(np.unique(sample.label).tolist())
    except (OSError, ValueError) as error:
        return SplitReport(layout.name, split, count, checked, str(error), remarks)
    if turned:
        remarks += (
            f"{len(turned)} of {checked} photographs that were read are turned as their EXIF tag says, such as "
            f"{tree.where(turned[0])}: labels must belong to the turned pictures",
        )
    missing = (
        f"{tree.where(CLASS_FILE)}: expected the class names here, one per line in the order of the label values; the "
        f"labels that were read hold {spans(sorted(values))}"
    )
    return SplitReport(layout.name, split, count, checked, missing if unnamed else None, remarks)
