"""ADE20K panoptic (100 things and 50 kinds of stuff) and instance segmentation, as ``expedit prepare`` makes them.

::

    ADEChallengeData2016/
      ade20k_panoptic_{train,val}.json, ade20k_panoptic_{train,val}/*.png
      ade20k_instance_{train,val}.json
      images/{training,validation}/*.jpg
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path

from .ade20k import SPLITS, ade20k_base, find_ade20k
from .annotations import Categories
from .class_list import shipped_class_list
from .coco_files import InstanceFiles, PanopticFiles, open_instance, open_panoptic
from .pairs import split_name
from .storage import Tree

SHORT = {"training": "train", "validation": "val"}

# fmt: off
THINGS = (
    7, 8, 10, 12, 14, 15, 18, 19, 20, 22, 23, 24, 27, 30, 31, 32, 33, 35, 36, 37, 38, 39, 41, 42, 43, 44, 45, 47,
    49, 50, 53, 55, 56, 57, 58, 62, 64, 65, 66, 67, 69, 70, 71, 72, 73, 74, 75, 76, 78, 80, 81, 82, 83, 85, 86, 87,
    88, 89, 90, 92, 93, 95, 97, 98, 102, 103, 104, 107, 108, 110, 111, 112, 115, 116, 118, 119, 120, 121, 123, 124,
    125, 126, 127, 129, 130, 132, 133, 134, 135, 136, 137, 138, 139, 142, 143, 144, 146, 147, 148, 149,
)
"""Class index, among the 150, of the 100 instance categories: category n (1-based) is class ``THINGS[n - 1]``."""
# fmt: on


def panoptic_categories() -> Categories:
    """The 150 classes; a category id is the class index."""
    names, palette = shipped_class_list("ade20k")
    return Categories(names, palette, tuple(range(len(names))), THINGS)


def instance_categories() -> Categories:
    """The 100 things; category ids are those of the 150 classes."""
    names, palette = shipped_class_list("ade20k")
    chosen = tuple(range(len(THINGS)))
    return Categories(tuple(names[i] for i in THINGS), tuple(palette[i] for i in THINGS), THINGS, chosen)


def open_ade20k_panoptic(root: Path, split: str = "val") -> PanopticFiles:
    """ADE20K panoptic; the validation split has 2,000 pictures.

    Args:
        root: the folder ``ADEChallengeData2016`` or one that holds it.
        split: "train" or "val".

    Raises:
        FileNotFoundError: the images, or what ``expedit prepare ade20k-panoptic`` writes, are not there.
        ValueError: an unknown split, or an annotation file that is none.
    """
    base, images, short = _places(root, split)
    target = _prepared(root, _annotation_file(base, "panoptic", short), "ade20k-panoptic")
    return open_panoptic(root, panoptic_categories(), [target], [posixpath.splitext(target)[0]], images)


def open_ade20k_instance(root: Path, split: str = "val") -> InstanceFiles:
    """ADE20K instances; arguments and errors as for ``open_ade20k_panoptic``."""
    base, images, short = _places(root, split)
    target = _prepared(root, _annotation_file(base, "instance", short), "ade20k-instance")
    return open_instance(root, instance_categories(), [target], images)


def find_prepared(tree: Tree, task: str) -> list[str]:
    """The splits of which ``expedit prepare`` has made the annotations of that task."""
    return [split for split in find_ade20k(tree) if tree.exists(_annotation_file(ade20k_base(tree), task, split))]


def _places(root: Path, split: str) -> tuple[str, Sequence[str], str]:
    """Base folder, folder of the images, and "train" or "val"."""
    folder = split_name(split, SPLITS)
    base = ade20k_base(Tree(root))
    return base, [posixpath.join(base, "images", folder)], SHORT[folder]


def _annotation_file(base: str, task: str, split: str) -> str:
    return posixpath.join(base, f"ade20k_{task}_{split}.json")


def _prepared(root: Path, target: str, command: str) -> str:
    tree = Tree(root)
    if not tree.exists(target):
        raise FileNotFoundError(f"{tree.where(target)}: no such file; make it with: expedit prepare {command} {root}")
    return target
