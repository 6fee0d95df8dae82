"""Pascal Context on the images of VOC2010, in the two protocols of the literature.

60 classes: background is class 0 and counts, as in the published tables of Segmenter. 59 classes: background becomes
`IGNORE` and k becomes class k-1. Masks are the pictures of ``SegmentationClassContext`` (values 0..59, classes in
alphabetical order), or are drawn from the annotations of PASCAL in Detail where that folder is missing.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .class_list import shipped_class_list
from .detail_json import FILE, read_detail
from .pairs import Label, LabelFile, Pair, Pairs, lookup, sample_names, split_name
from .storage import Tree

SPLITS = {"train": "train", "val": "val"}
BASES = ("", "VOC2010", "VOCdevkit/VOC2010")
IMAGES, MASKS, LISTS = "JPEGImages", "SegmentationClassContext", "ImageSets/SegmentationContext"


def open_pascal_context(root: Path, split: str = "val") -> Pairs:
    """The 4,998 training or 5,105 validation pictures with 60 classes, background among them.

    Args:
        root: the folder ``VOC2010``, one that holds it (or ``VOCdevkit``), or one with ``VOCtrainval_03-May-2010.tar``;
            ``trainval_merged.json`` lies in ``VOC2010`` or directly in ``root``.
        split: "train" or "val": ``ImageSets/SegmentationContext/<split>.txt``, or the phases of the annotation file.

    Raises:
        FileNotFoundError: the tree is not there, or an image, a mask or the annotations are missing.
        ValueError: an unknown split, an empty or damaged list, damaged annotations.
    """
    return _open(root, split, reduce_zero_label=False)


def open_pascal_context_59(root: Path, split: str = "val") -> Pairs:
    """The same pictures with 59 classes: background is not counted. Arguments and errors as `open_pascal_context`."""
    return _open(root, split, reduce_zero_label=True)


def find_pascal_context(tree: Tree) -> list[str]:
    """Both splits where there is anything of Pascal Context: only the annotations say which."""
    return [] if _base_of(tree) is None else [*SPLITS]


def _base_of(tree: Tree) -> str | None:
    """Where in the tree VOC2010 with anything of Pascal Context lies."""
    for base in BASES:
        ours = any(tree.has(posixpath.join(base, folder)) for folder in (MASKS, LISTS))
        if tree.has(posixpath.join(base, IMAGES)) and (ours or annotation_file(tree, base)):
            return base
    return None


def annotation_file(tree: Tree, base: str) -> str | None:
    """The path of ``trainval_merged.json``, if it is there."""
    return next((path for path in (posixpath.join(base, FILE), FILE) if tree.exists(path)), None)


def _open(root: Path, split: str, reduce_zero_label: bool) -> Pairs:
    split_name(split, SPLITS)
    tree = Tree(root)
    base = _base_of(tree)
    if base is None:
        raise FileNotFoundError(
            f"{tree.where(BASES[-1])}: expected {IMAGES} of VOC2010, and beside it {MASKS} or {FILE} of Pascal Context"
        )
    names, palette = shipped_class_list("pascal_context")
    first = int(reduce_zero_label)
    table = lookup(len(names) - first, reduce_zero_label=reduce_zero_label)
    stems, labels = _ground_truth(tree, base, split, table)
    pairs = []
    for name, stem in zip(sample_names(stems), stems, strict=True):
        image = posixpath.join(base, IMAGES, f"{stem}.jpg")
        if not tree.exists(image):
            raise FileNotFoundError(f"{tree.where(image)}: no such image, though {split} lists it")
        pairs.append(Pair(name, image, labels[stem]))
    return Pairs(tree, names[first:], palette[first:], tuple(pairs))


def _ground_truth(tree: Tree, base: str, split: str, table: np.ndarray) -> tuple[Sequence[str], Mapping[str, Label]]:
    """File stems of the split, and where their masks come from."""
    list_file = posixpath.join(base, LISTS, f"{split}.txt")
    masks = posixpath.join(base, MASKS)
    stems = tree.lines(list_file) if tree.exists(list_file) else None
    if stems is not None and tree.has(masks):
        return stems, _mask_files(tree, masks, stems, table)
    path = annotation_file(tree, base)
    if path is None:
        missing = list_file if stems is None else masks
        raise FileNotFoundError(f"{tree.where(missing)}: expected this, or {FILE} in {tree.where(base)}")
    drawn = {posixpath.splitext(name)[0]: label for name, label in read_detail(tree, path, split, table).items()}
    if stems is None:
        stems = list(drawn)
    if not stems:
        raise ValueError(f"{tree.where(path)}: expected images of phase {split}, got none")
    if tree.has(masks):
        return stems, _mask_files(tree, masks, stems, table)
    if unknown := [stem for stem in stems if stem not in drawn]:
        raise ValueError(f"{tree.where(path)}: has no annotations of {unknown[0]}, though {list_file} lists it")
    return stems, drawn


def _mask_files(tree: Tree, folder: str, stems: Sequence[str], table: np.ndarray) -> dict[str, Label]:
    labels: dict[str, Label] = {}
    for stem in stems:
        path = posixpath.join(folder, f"{stem}.png")
        if not tree.exists(path):
            raise FileNotFoundError(f"{tree.where(path)}: the image {stem} has no mask there")
        labels[stem] = LabelFile(path, table)
    return labels
