"""What lies in a folder or archive: which data set, how many pictures per split, and the first thing that is wrong."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .ade20k import ade20k_sides, find_ade20k, open_ade20k
from .cityscapes import cityscapes_sides, find_cityscapes, open_cityscapes
from .folder import CLASS_FILE, Sides, folder_base, folder_sides, folder_splits, open_folder
from .pairs import Pairs, spans
from .pascal_context import find_pascal_context, open_pascal_context
from .storage import Tree

SAMPLES = 20
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class SplitReport:
    """One split: how many image and label files, how many pairs were decoded, the first thing wrong if any."""

    name: str
    images: int
    labels: int
    checked: int
    problem: str | None


@dataclass(frozen=True)
class Report:
    """What `inspect` found.

    Attributes:
        kind: name of a data set or None.
        missing: what is expected where.
        unit: what is counted.
    """

    path: Path
    kind: str | None
    splits: tuple[SplitReport, ...]
    missing: tuple[str, ...]
    unit: str = "images"

    @property
    def ok(self) -> bool:
        """Whether at least one split can be used and nothing is wrong."""
        return bool(self.splits) and not self.missing and all(split.problem is None for split in self.splits)

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.kind or 'the layout of no data set that expedit knows'}"]
        for split in self.splits:
            lines.append(
                f"  {split.name}: {split.images} {self.unit}, {split.labels} labels, {split.checked} pairs read"
            )
            lines.append(f"    {split.problem or 'nothing wrong'}")
        if self.missing:
            lines += ["  expected:", *(f"    {place}" for place in self.missing)]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Layout:
    """How to open a split, and where its files should lie where that is by split."""

    opened: Callable[[str], Pairs]
    sides: Callable[[str], Sides | None]
    splits: Sequence[str] = ("train", "val")


def guess(path: Path) -> str | None:
    """The key of ``DATASETS`` whose layout ``path`` has; a class list beside the data makes it "folder".

    Raises:
        FileNotFoundError, ValueError: ``path`` is not there, or neither a folder nor an archive that can be read.
    """
    tree = Tree(path)
    if any(tree.exists(posixpath.join(base, CLASS_FILE)) for base in ("", folder_base(tree))):
        return "folder"
    if find_ade20k(tree) is not None:
        return "ade20k"
    if find_cityscapes(tree) is not None:
        return "cityscapes"
    if find_pascal_context(tree) is not None:
        return "pascal-context"
    return "folder" if folder_splits(tree, folder_base(tree)) else None


def inspect(path: Path, *, samples: int = SAMPLES, classes: str | Path | Sequence[str] | None = None) -> Report:
    """Look at a data set.

    Args:
        path: a folder or archive, as the builders in ``DATASETS`` take it.
        samples: pairs per split that are decoded and checked, evenly spread; 0 checks all.
        classes: class list file or names, for data of one's own that has none beside it.

    Raises:
        FileNotFoundError, ValueError: as `guess`.
    """
    tree = Tree(path)
    kind = guess(path)
    if kind is None:
        return Report(tree.root, None, (), expectations(tree))
    listless = kind == "folder" and classes is None and not tree.exists(_class_file(tree))
    layout = _layout(tree, kind, [str(value) for value in range(255)] if listless else classes)
    splits: list[SplitReport] = []
    missing: list[str] = []
    values: set[int] = set()
    for split in layout.splits:
        found, seen = _split(tree, layout, split, samples)
        values |= seen
        if found.images or found.labels or kind == "pascal-context":
            splits.append(found)
        else:
            missing.append(str(found.problem))
    if listless:
        seen_values = f"; the labels that were read hold {spans(sorted(values))}" if values else ""
        return Report(
            tree.root, kind, tuple(splits), (f"{tree.where(_class_file(tree))}: one class name per line{seen_values}",)
        )
    return Report(tree.root, kind, tuple(splits), () if splits else tuple(missing))


def expectations(tree: Tree) -> tuple[str, ...]:
    """What each known data set would look like here."""
    return (
        f"ade20k: {tree.where('ADEChallengeData2016/images/validation')} and annotations/validation, or its zip",
        f"cityscapes: {tree.where('leftImg8bit/val')} and gtFine/val, or the two zips",
        f"pascal-context: {tree.where('VOCdevkit/VOC2010/JPEGImages')} and SegmentationClassContext, or the "
        "annotation file trainval_merged.json",
        f"coco-panoptic: {tree.where('annotations/panoptic_val2017.json')}, val2017 and panoptic_val2017",
        f"coco-instance: {tree.where('annotations/instances_val2017.json')} and val2017",
        f"youtubevis: {tree.where('valid.json')} or valid/instances.json, and valid/JPEGImages",
        f"folder: {tree.where('images/val')}, {tree.where('labels/val')} and {tree.where(CLASS_FILE)}",
    )


def _layout(tree: Tree, kind: str, classes: str | Path | Sequence[str] | None) -> _Layout:
    root = tree.root
    if kind == "ade20k":
        base = find_ade20k(tree) or ""
        folders = {"train": "training", "val": "validation"}
        return _Layout(lambda split: open_ade20k(root, split), lambda split: ade20k_sides(base, folders[split]))
    if kind == "cityscapes":
        base = find_cityscapes(tree) or ""
        return _Layout(lambda split: open_cityscapes(root, split), lambda split: cityscapes_sides(base, split))
    if kind == "pascal-context":
        return _Layout(lambda split: open_pascal_context(root, split), lambda split: None)
    base = folder_base(tree)
    splits = folder_splits(tree, base) or ["val"]
    return _Layout(
        lambda split: open_folder(root, split, classes=classes), lambda split: folder_sides(tree, base, split), splits
    )


def _split(tree: Tree, layout: _Layout, split: str, samples: int) -> tuple[SplitReport, set[int]]:
    """The report of one split, and the label values (as mapped) of the pairs that were decoded."""
    try:
        data = layout.opened(split)
    except (FileNotFoundError, ValueError) as error:
        return SplitReport(split, *_counts(tree, layout, split), 0, str(error)), set()
    step = max(1, -(-len(data) // samples)) if samples else 1
    values: set[int] = set()
    for checked, index in enumerate(range(0, len(data), step)):
        try:
            label = data[index].label
        except (FileNotFoundError, ValueError) as error:
            return SplitReport(split, len(data), len(data), checked + 1, str(error)), values
        values |= {int(value) for value in np.unique(label)} if label is not None else set()
    return SplitReport(split, len(data), len(data), len(range(0, len(data), step)), None), values


def _counts(tree: Tree, layout: _Layout, split: str) -> tuple[int, int]:
    """Files on either side of a split that could not be opened."""
    try:
        sides = layout.sides(split)
        images, labels = (len(side.files(tree)) if side is not None else 0 for side in sides or (None, None))
    except (FileNotFoundError, ValueError):
        return 0, 0
    return images, labels


def _class_file(tree: Tree) -> str:
    return posixpath.join(folder_base(tree), CLASS_FILE)
