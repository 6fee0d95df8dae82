"""Panoptic, instance and video data in a folder or archive: which, how much, and the first thing that is wrong."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from pathlib import Path

from .ade20k import find_ade20k
from .coco import annotation_files, image_folders
from .inspect import SAMPLES, Report, SplitReport
from .object_data import BY_TASK, INSTANCE, PANOPTIC, ObjectData
from .samples import InstanceSample, VideoClip
from .storage import Tree
from .youtubevis import find_youtubevis, open_youtubevis

SPLITS = ("train", "val")


def inspect_objects(path: Path, samples: int = SAMPLES) -> list[Report]:
    """One report for each panoptic, instance or video data set whose annotation files and images are there.

    Args:
        path: a folder or archive, as the builders in ``BY_TASK`` take it.
        samples: images per split that are decoded with their ground truth, evenly spread; 0 checks all. Of a clip it
            is the first frame.

    Raises:
        FileNotFoundError, ValueError: ``path`` is not there, or neither a folder nor an archive that can be read.
    """
    tree, reports = Tree(path), []
    for name in (*PANOPTIC, *INSTANCE):
        family, task = name.split("-")
        present = _coco_splits(tree, task) if family == "coco" else _ade20k_splits(tree, task)
        if present:
            splits = tuple(_split(BY_TASK[task][name], tree.root, split, samples) for split in present)
            reports.append(Report(tree.root, name, splits, ()))
    if clips := find_youtubevis(tree):
        splits = tuple(_split(open_youtubevis, tree.root, split, samples) for split in clips)
        reports.append(Report(tree.root, "youtubevis", splits, (), unit="clips"))
    return reports


def _coco_splits(tree: Tree, task: str) -> list[str]:
    """Splits with annotations and images: the annotations of all come in one archive, the images do not."""
    return [
        split
        for split in SPLITS
        if any(tree.exists(file) for file in annotation_files(task, f"{split}2017"))
        and any(tree.has(folder) for folder in image_folders(f"{split}2017"))
    ]


def _ade20k_splits(tree: Tree, task: str) -> list[str]:
    """Splits that ``expedit prepare`` has made."""
    base = find_ade20k(tree)
    if base is None:
        return []
    return [split for split in SPLITS if tree.exists(posixpath.join(base, f"ade20k_{task}_{split}.json"))]


def _split(build: Callable[[Path, str], ObjectData], root: Path, split: str, samples: int) -> SplitReport:
    images = checked = 0
    try:
        data = build(root, split)
        images = len(data)
        for index in range(0, images, max(1, -(-images // samples)) if samples else 1):
            checked += 1
            sample = data[index]
            if isinstance(sample, InstanceSample):
                sample.masks()
            elif isinstance(sample, VideoClip):
                sample.frames[0]
    except (FileNotFoundError, ValueError) as error:
        return SplitReport(split, images, images, checked, str(error))
    return SplitReport(split, images, images, checked, None)
