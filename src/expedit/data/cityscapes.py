"""Cityscapes, fine annotations, 19 classes.

Labels are ``labelTrainIds`` pictures where these were prepared, else ``labelIds``, mapped when they are read.
"""

from __future__ import annotations

import posixpath
from pathlib import Path

import numpy as np

from .class_list import Color
from .pairs import LabelFile, Pair, Pairs, Side, lookup, match, sample_names, split_name
from .samples import IGNORE
from .storage import Tree

SPLITS = {"train": "train", "val": "val"}
BASES = ("", "cityscapes", "Cityscapes")
IMAGE_ENDING = "_leftImg8bit.png"
TRAIN_IDS, LABEL_IDS = "_gtFine_labelTrainIds.png", "_gtFine_labelIds.png"

CLASSES: tuple[tuple[int, str, Color], ...] = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
"""Label id, name and colour of every class that counts, in the order of the train ids."""


def open_cityscapes(root: Path, split: str = "val") -> Pairs:
    """The 2,975 training or 500 validation pictures, 2048 x 1024 pixels.

    Args:
        root: a folder with ``leftImg8bit`` and ``gtFine``, or with ``leftImg8bit_trainvaltest.zip`` and
            ``gtFine_trainvaltest.zip``.
        split: "train" or "val"; labels of the test split are not public.

    Raises:
        FileNotFoundError: the tree is not there, has no images of that split, or an image or label has no partner.
        ValueError: an unknown split, or a damaged archive.
    """
    split_name(split, SPLITS)
    tree = Tree(root)
    base = _base_of(tree, "")
    if base is None:
        raise FileNotFoundError(f"{tree.where(f'leftImg8bit/{split}')}: expected this folder of Cityscapes")
    images, labels = (posixpath.join(base, kind, split) for kind in ("leftImg8bit", "gtFine"))
    sides = Side(images, (IMAGE_ENDING,)), Side(labels, (LABEL_IDS, TRAIN_IDS), later_wins=True)
    tables = {LABEL_IDS: label_id_table(), TRAIN_IDS: lookup(len(CLASSES))}
    found = match(tree, *sides)
    names = sample_names([key for key, _, _ in found])
    pairs = [
        Pair(name, image, LabelFile(label, tables[TRAIN_IDS if label.endswith(TRAIN_IDS) else LABEL_IDS]))
        for name, (_, image, label) in zip(names, found, strict=True)
    ]
    return Pairs(tree, tuple(name for _, name, _ in CLASSES), tuple(color for _, _, color in CLASSES), tuple(pairs))


def find_cityscapes(tree: Tree) -> list[str]:
    """The splits whose images are there."""
    return [split for split in SPLITS if _base_of(tree, split) is not None]


def label_id_table() -> np.ndarray:
    """``(256,)`` int16: train id of label ids 0 .. 33 (and of 255, the licence plate's -1); see `pairs.lookup`."""
    table = np.full(256, -1, dtype=np.int16)
    table[:34] = IGNORE
    table[IGNORE] = IGNORE
    for train_id, (label_id, _, _) in enumerate(CLASSES):
        table[label_id] = train_id
    return table


def _base_of(tree: Tree, split: str) -> str | None:
    return next((base for base in BASES if tree.has(posixpath.join(base, "leftImg8bit", split).rstrip("/"))), None)
