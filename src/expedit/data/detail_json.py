"""The annotation file of PASCAL in Detail, ``trainval_merged.json``, from which Pascal Context masks are drawn.

What is read of it::

    {"images": [{"image_id", "file_name", "height", "width", "phase": "train" | "val" | "test"}, ...],
     "annos_segmentation": [{"image_id", "category_id", "segmentation": run lengths or polygons as COCO's}, ...]}

Regions are painted in the order of the file, later ones on top.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from .pairs import check_size
from .rle import decode, to_rle, usable
from .storage import Tree

FILE = "trainval_merged.json"
FILE_LIMIT = 1 << 31

# fmt: off
CATEGORY_IDS = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98,
    104, 105, 113, 115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308,
    324, 326, 347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458,
)
# fmt: on
"""Category id (of 459) of classes 1 .. 59; background is 0."""

# fmt: off
_KEPT = {
    "images", "image_id", "file_name", "height", "width", "phase",
    "annos_segmentation", "category_id", "segmentation", "size", "counts",
}
# fmt: on


@dataclass(frozen=True, eq=False)
class DrawnLabel:
    """Regions of one picture, (class 0..59, COCO segmentation), painted over background when read.

    ``table`` maps classes to label values, see `pairs.lookup`; ``source`` names file and picture in messages.
    """

    source: str
    size: tuple[int, int]
    regions: tuple[tuple[int, Any], ...]
    table: np.ndarray

    def read(self, tree: Tree, size: tuple[int, int]) -> np.ndarray:
        """Paint and map.

        Raises:
            ValueError: the image is of another size.
        """
        check_size(self.source, self.size, size)
        label = np.zeros(size, dtype=np.uint8)
        for klass, segmentation in self.regions:
            label[decode(to_rle(segmentation, *size))] = klass
        return self.table[label].astype(np.uint8)


def read_detail(tree: Tree, path: str, phase: str, table: np.ndarray) -> dict[str, DrawnLabel]:
    """Ground truth of every image of a split, by image file name, in the order of the file.

    Raises:
        ValueError: not the structure above, a category that is none of the 59, or a damaged region.
    """
    name = tree.where(path)
    content = _parsed(tree, path)
    classes = {category: index for index, category in enumerate(CATEGORY_IDS, 1)}
    regions: dict[Any, list[tuple[int, Any]]] = {}
    images = {}
    for image in content["images"]:
        identity, file_name, _, _, its_phase = _fields(
            name, image, image_id=(int, str), file_name=str, height=int, width=int, phase=str
        )
        if "/" in file_name or "\\" in file_name:
            raise ValueError(f"{name}: expected plain file names in images, got {file_name!r}")
        if its_phase == phase:
            images[identity], regions[identity] = image, []
    for region in content["annos_segmentation"]:
        identity, category, segmentation = _fields(
            name, region, image_id=(int, str), category_id=int, segmentation=(dict, list)
        )
        if identity not in regions:
            continue
        if category not in classes:
            raise ValueError(
                f"{name}: expected regions of {images[identity]['file_name']} to have one of the {len(classes)} "
                f"category ids of Pascal Context, got {category}"
            )
        image = images[identity]
        try:
            region = usable(segmentation, image["height"], image["width"])
        except ValueError as error:
            raise ValueError(f"{name}: {image['file_name']}: {error}") from None
        if region is not None:
            regions[identity].append((classes[category], region))
    return {
        image["file_name"]: DrawnLabel(
            f"{name}: {image['file_name']}", (image["height"], image["width"]), tuple(regions[identity]), table
        )
        for identity, image in images.items()
    }


def _parsed(tree: Tree, path: str) -> dict[str, Any]:
    name = tree.where(path)
    try:
        # Everything that is not needed is dropped while parsing: the file also holds parts, boxes and boundaries.
        content = json.loads(
            tree.read(path, FILE_LIMIT), object_hook=lambda d: {key: d[key] for key in d.keys() & _KEPT}
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{name}: expected JSON, but it is damaged or cut short ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{name}: expected an object with images and annos_segmentation, got {type(content).__name__}")
    _fields(name, content, images=list, annos_segmentation=list)
    return content


def _fields(name: str, entry: Any, **kinds: type | tuple[type, ...]) -> list[Any]:
    """The values of the keys, each of its kind."""
    for key, kind in kinds.items():
        value = entry.get(key) if isinstance(entry, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            words = "/".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
            raise ValueError(
                f"{name}: expected the annotations of PASCAL in Detail, entries with {', '.join(kinds)}; {key} should "
                f"be {words}, got {value!r:.60}"
            )
    return [entry[key] for key in kinds]
