"""COCO 2017: panoptic (80 things and 53 kinds of stuff) and instance (the 80 things) segmentation.

::

    coco/
      annotations/panoptic_{train,val}2017.json, annotations/instances_{train,val}2017.json
      panoptic_{train,val}2017/*.png     or annotations/panoptic_{train,val}2017/*.png
      {train,val}2017/*.jpg              or images/{train,val}2017/*.jpg
"""

from __future__ import annotations

from pathlib import Path

from .annotations import Categories
from .class_list import shipped_class_list
from .coco_files import InstanceFiles, PanopticFiles, open_instance, open_panoptic
from .pairs import split_name
from .storage import Tree

SPLITS = {"train": "train2017", "val": "val2017", "train2017": "train2017", "val2017": "val2017"}

# fmt: off
THING_IDS = (
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 27, 28, 31, 32, 33, 34,
    35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63,
    64, 65, 67, 70, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 84, 85, 86, 87, 88, 89, 90,
)
STUFF_IDS = (
    92, 93, 95, 100, 107, 109, 112, 118, 119, 122, 125, 128, 130, 133, 138, 141, 144, 145, 147, 148, 149, 151, 154,
    155, 156, 159, 161, 166, 168, 171, 175, 176, 177, 178, 180, 181, 184, 185, 186, 187, 188, 189, 190, 191, 192,
    193, 194, 195, 196, 197, 198, 199, 200,
)
# fmt: on


def panoptic_categories() -> Categories:
    """133 classes: things first, then stuff, each in the order of the category ids."""
    names, palette = shipped_class_list("coco_panoptic")
    return Categories(names, palette, THING_IDS + STUFF_IDS, tuple(range(len(THING_IDS))))


def instance_categories() -> Categories:
    """The 80 things."""
    names, palette = shipped_class_list("coco_panoptic")
    count = len(THING_IDS)
    return Categories(names[:count], palette[:count], THING_IDS, tuple(range(count)))


def find_coco(tree: Tree, task: str) -> list[str]:
    """Splits with annotations and images: the annotations of all come in one archive, the images do not."""
    return [
        split
        for split in ("train", "val")
        if any(tree.exists(file) for file in annotation_files(task, SPLITS[split]))
        and any(tree.has(folder) for folder in image_folders(SPLITS[split]))
    ]


def annotation_files(task: str, folder: str) -> list[str]:
    """Where the annotation file of a split may lie."""
    name = f"{'instances' if task == 'instance' else task}_{folder}.json"
    return [f"annotations/{name}", name]


def image_folders(folder: str) -> list[str]:
    """Where the images of a split may lie."""
    return [folder, f"images/{folder}"]


def open_coco_panoptic(root: Path, split: str = "val") -> PanopticFiles:
    """COCO panoptic; the validation split has 5,000 pictures.

    Args:
        root: the folder ``coco`` of the layout above; its parts may be zip archives in it.
        split: "train" or "val".

    Raises:
        FileNotFoundError: the annotation file or the PNGs are not there.
        ValueError: an unknown split, or an annotation file that is none.
    """
    folder = split_name(split, SPLITS)
    return open_panoptic(
        root,
        panoptic_categories(),
        annotation_files("panoptic", folder),
        [f"panoptic_{folder}", f"annotations/panoptic_{folder}"],
        image_folders(folder),
    )


def open_coco_instance(root: Path, split: str = "val") -> InstanceFiles:
    """COCO instances; arguments and errors as for ``open_coco_panoptic``."""
    folder = split_name(split, SPLITS)
    return open_instance(
        root,
        instance_categories(),
        annotation_files("instance", folder),
        image_folders(folder),
    )
