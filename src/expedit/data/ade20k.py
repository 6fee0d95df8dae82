"""ADE20K as the scene parsing benchmark ships it (SceneParsing, 150 classes): ``ADEChallengeData2016``.

Label value 0 is "other" and becomes `IGNORE`; k becomes class k-1 when a label is read (``reduce_zero_label``).
"""

from __future__ import annotations

import posixpath
from pathlib import Path

from .class_list import shipped_class_list
from .decode import IMAGE_ENDINGS
from .pairs import LabelFile, Pair, Pairs, Side, lookup, match, sample_names, split_name
from .storage import Tree

SPLITS = {"train": "training", "val": "validation", "training": "training", "validation": "validation"}
BASES = ("", "ADEChallengeData2016", "ade/ADEChallengeData2016")


def open_ade20k(root: Path, split: str = "val") -> Pairs:
    """The 20,210 training or 2,000 validation pictures.

    Args:
        root: the folder ``ADEChallengeData2016``, one that holds it, or ``ADEChallengeData2016.zip``.
        split: "train" or "val" ("training" and "validation" mean the same).

    Raises:
        FileNotFoundError: the tree is not there, has no images of that split, or an image or label has no partner.
        ValueError: an unknown split, or a damaged archive.
    """
    folder = split_name(split, SPLITS)
    tree = Tree(root)
    base = ade20k_base(tree)
    classes, palette = shipped_class_list("ade20k")
    table = lookup(len(classes), reduce_zero_label=True)
    images, labels = (posixpath.join(base, kind, folder) for kind in ("images", "annotations"))
    found = match(tree, Side(images, IMAGE_ENDINGS), Side(labels, (".png",)))
    names = sample_names([key for key, _, _ in found])
    pairs = (Pair(name, image, LabelFile(label, table)) for name, (_, image, label) in zip(names, found, strict=True))
    return Pairs(tree, classes, palette, tuple(pairs))


def find_ade20k(tree: Tree) -> list[str]:
    """The splits whose images are there."""
    return [split for split in ("train", "val") if _base_of(tree, SPLITS[split]) is not None]


def ade20k_base(tree: Tree) -> str:
    """Where in the tree the images lie; FileNotFoundError where they do not."""
    for folder in ("training", "validation"):
        if (base := _base_of(tree, folder)) is not None:
            return base
    raise FileNotFoundError(f"{tree.where('ADEChallengeData2016/images')}: expected this folder of ADE20K")


def _base_of(tree: Tree, folder: str) -> str | None:
    return next((base for base in BASES if tree.has(posixpath.join(base, "images", folder))), None)
