"""Panoptic, instance and video data sets by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from .ade20k import find_ade20k
from .ade20k_panoptic import open_ade20k_instance, open_ade20k_panoptic
from .coco import find_coco, open_coco_instance, open_coco_panoptic
from .coco_files import InstanceFiles, PanopticFiles
from .storage import Tree
from .youtubevis import VideoFiles, find_youtubevis, open_youtubevis

PANOPTIC: dict[str, Callable[[Path, str], PanopticFiles]] = {
    "coco-panoptic": open_coco_panoptic,
    "ade20k-panoptic": open_ade20k_panoptic,
}
INSTANCE: dict[str, Callable[[Path, str], InstanceFiles]] = {
    "coco-instance": open_coco_instance,
    "ade20k-instance": open_ade20k_instance,
}
VIDEO: dict[str, Callable[[Path, str], VideoFiles]] = {
    "youtubevis-2019": open_youtubevis,
    "youtubevis-2021": open_youtubevis,
}
"""Every builder takes ``root`` and ``split``. The two years have one layout and bring their classes along."""

ObjectData = PanopticFiles | InstanceFiles | VideoFiles

BY_TASK: dict[str, Mapping[str, Callable[[Path, str], ObjectData]]] = {
    "panoptic": PANOPTIC,
    "instance": INSTANCE,
    "video": VIDEO,
}


def open_objects(data: str | Path, task: str, split: str = "val") -> ObjectData:
    """A data set for a task from what a user types.

    Args:
        data: ``NAME:PATH`` with a name in ``BY_TASK[task]``, or a path, whose layout tells which data set it is.
        task: "panoptic", "instance" or "video".
        split: "train" or "val"; "valid" of videos.

    Raises:
        FileNotFoundError: the path is not there, or files of the split are missing.
        ValueError: a name that is not for this task, a layout that is none of the known ones, or damaged files.
    """
    known = BY_TASK[task]
    name, colon, place = str(data).partition(":")
    if name in known and colon and place:
        return known[name](Path(place), split)
    path = Path(data)
    if not path.exists():
        raise FileNotFoundError(f"{data}: expected a path, or NAME:PATH with a name for {task}: {', '.join(known)}")
    kind = guess_objects(path, task)
    if kind is None:
        raise ValueError(f"{data}: expected the layout of one of {', '.join(known)}, or say NAME:PATH")
    return known[kind](path, split)


def guess_objects(path: Path, task: str) -> str | None:
    """The key of ``BY_TASK[task]`` whose layout ``path`` has; ``None`` where the layout does not tell."""
    tree = Tree(path)
    if task in ("panoptic", "instance"):
        if find_coco(tree, task):
            return f"coco-{task}"
        if find_ade20k(tree) is not None:
            return f"ade20k-{task}"
    if task == "video" and find_youtubevis(tree):
        return next(iter(VIDEO))  # the two years have one layout
    return None
