"""ADE20K's semantic and instance labels made into the COCO files that panoptic and instance evaluation read.

From ``annotations`` (0 = other, 1..150) and ``annotations_instance`` (red = one of 100 categories, green = instance)::

    ADEChallengeData2016/
      images/{training,validation}/*.jpg
      annotations/{training,validation}/*.png
      annotations_instance/{training,validation}/*.png
      ade20k_panoptic_{train,val}.json, ade20k_panoptic_{train,val}/*.png    <- prepare_panoptic
      ade20k_instance_{train,val}.json                                       <- prepare_instance

Finished images are noted in a journal beside the result, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from .ade20k import SPLITS, ade20k_base
from .ade20k_panoptic import THINGS, instance_categories, panoptic_categories
from .annotations import Categories, Json
from .decode import decode_indices, decode_rgb, image_size
from .pairs import check_size
from .png_ids import ids_to_png
from .rle import area, box_of, encode
from .storage import Tree
from .writing import is_ours, whole, write_json, write_png

Split = Literal["train", "val"]
Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""
Layer = tuple[int, np.ndarray]
"""A class index and the ``(H, W)`` bool mask of one stretch of it."""


class Source:
    """One split of ADE20K, read through a tree, written beside it.

    Raises:
        FileNotFoundError: ``root`` is no folder, or holds no ADE20K with images of that split.
    """

    def __init__(self, root: Path, split: Split) -> None:
        if not root.is_dir():
            raise FileNotFoundError(f"{root}: expected the folder ADEChallengeData2016; results are written into it")
        self.tree = Tree(root)
        self.base = ade20k_base(self.tree)
        self.folder = SPLITS[split]
        self.target = root / self.base
        below = posixpath.join(self.base, "images", self.folder)
        self.images = [name for name in self.tree.files(below) if name.lower().endswith(".jpg")]
        if not self.images:
            raise FileNotFoundError(f"{self.tree.where(below)}: expected images (*.jpg), got none")

    def semantic(self, image: str) -> np.ndarray:
        """``(H, W)`` uint8, 0 = other, else class index + 1."""
        name, content, size = self._label("annotations", image)
        label = decode_indices(content, name)
        check_size(name, label.shape, size)
        if label.max(initial=0) > 150:
            raise ValueError(f"{name}: expected label values 0..150, got up to {label.max()}")
        return label

    def objects(self, image: str) -> tuple[tuple[int, int], list[Layer]]:
        """(H, W), and class index and mask of every object."""
        name, content, size = self._label("annotations_instance", image)
        pixels = decode_rgb(content, name)
        check_size(name, pixels.shape[:2], size)
        categories, numbers = (np.ascontiguousarray(pixels[..., channel]) for channel in (0, 1))
        pairs = [divmod(int(pair), 256) for pair in np.unique(numbers.astype(np.int32) * 256 + categories)]
        layers = []
        for number in sorted({number for number, _ in pairs if number}):
            places = [place for other, place in pairs if other == number]
            if len(places) != 1 or not 1 <= places[0] <= len(THINGS):
                raise ValueError(
                    f"{name}: expected one category 1..{len(THINGS)} (red) for object {number} (green), got {places}"
                )
            layers.append((THINGS[places[0] - 1], numbers == number))
        return size, layers

    def _label(self, kind: str, image: str) -> tuple[str, bytes, tuple[int, int]]:
        """Name for messages and content of a label file, and (H, W) of its image."""
        path = posixpath.join(self.base, kind, self.folder, f"{stem(image)}.png")
        size = image_size(self.tree.read(image), self.tree.where(image))
        return self.tree.where(path), self.tree.read(path), size


def prepare_panoptic(root: Path, split: Split, progress: Progress | None = None) -> Path:
    """Write ``ade20k_panoptic_<split>.json`` and its folder of PNGs; returns the path of the JSON.

    As in the benchmark's own files, things are laid over stuff, and a stuff segment states the area it had before: it
    can state more pixels than it shows. A result that is there already is left as it is.

    Raises:
        FileNotFoundError: a folder or a label file is missing.
        ValueError: a label file is damaged, of another size than its image, or holds an unknown category; or a PNG is
            there that another program wrote.
    """
    source = Source(root, split)
    target = source.target / f"ade20k_panoptic_{split}.json"
    folder = target.with_suffix("")

    def work(image: str) -> Json:
        ids, segments = panoptic_segments(source.semantic(image), source.objects(image)[1])
        write_png(folder / f"{stem(image)}.png", ids_to_png(ids))
        return {"size": ids.shape, "items": segments}

    if not target.is_file():
        _check_ours(folder / f"{stem(image)}.png" for image in source.images)
        entries = _journalled(
            target, source.images, work, lambda image: (folder / f"{stem(image)}.png").is_file(), progress
        )
        annotations = [
            {"image_id": stem(image), "file_name": f"{stem(image)}.png", "segments_info": entry["items"]}
            for image, entry in entries.items()
        ]
        _finish(target, entries, annotations, panoptic_categories())
    return target


def prepare_instance(root: Path, split: Split, progress: Progress | None = None) -> Path:
    """Write ``ade20k_instance_<split>.json``; returns its path. Errors and resuming as in ``prepare_panoptic``."""
    source = Source(root, split)
    target = source.target / f"ade20k_instance_{split}.json"

    def work(image: str) -> Json:
        size, objects = source.objects(image)
        return {"size": size, "items": instance_annotations(objects)}

    if not target.is_file():
        entries = _journalled(target, source.images, work, lambda image: True, progress)
        flat = [{"image_id": stem(image), **item} for image, entry in entries.items() for item in entry["items"]]
        _finish(target, entries, [{"id": n + 1, **item} for n, item in enumerate(flat)], instance_categories())
    return target


def panoptic_segments(semantic: np.ndarray, objects: Sequence[Layer]) -> tuple[np.ndarray, list[Json]]:
    """One image's labels, as ``Source`` reads them, to segment ids ``(H, W)`` int32 and what they are."""
    present = [int(value) - 1 for value in np.unique(semantic) if value]
    layers = [(index, semantic == index + 1) for index in present if index not in THINGS]
    layers += objects
    ids, segments = np.zeros(semantic.shape, dtype=np.int32), []
    for number, (category, mask) in enumerate(layers, start=1):
        ids[mask] = number
        pixels, box = int(np.count_nonzero(mask)), box_of(mask)
        segments.append({"id": number, "category_id": category, "area": pixels, "bbox": box, "iscrowd": 0})
    return ids, segments


def instance_annotations(objects: Sequence[Layer]) -> list[Json]:
    """COCO annotations, still without ids, of one image."""
    annotations = []
    for category, mask in objects:
        [rle] = encode(mask[None])
        annotations.append(
            {
                "iscrowd": 0,
                "category_id": category,
                "bbox": box_of(mask),
                "segmentation": rle,
                "area": int(area(rle)),
            }
        )
    return annotations


def stem(path: str) -> str:
    """File name without folder and ending."""
    return posixpath.splitext(posixpath.basename(path))[0]


def _check_ours(pictures: Iterable[Path]) -> None:
    for path in pictures:
        if path.is_file() and not is_ours(path):
            raise ValueError(
                f"{path}: exists already, and expedit did not write it; put the JSON that belongs to it beside "
                f"{path.parent.name}, or rename that folder"
            )


def _journalled(
    target: Path,
    images: list[str],
    work: Callable[[str], Json],
    finished: Callable[[str], bool],
    progress: Progress | None,
) -> dict[str, Json]:
    """``work`` of every image, in their order; what an earlier run noted in the journal is not done again."""
    journal = target.with_name(target.name + ".journal")
    noted = {image: entry for image, entry in _noted(journal).items() if finished(image)}
    entries: dict[str, Json] = {}
    # A line that was cut short must not stand before the next one.
    with whole(journal) as clean:
        clean.write_text("".join(json.dumps([image, entry]) + "\n" for image, entry in noted.items()), encoding="utf-8")
    with journal.open("a", encoding="utf-8") as file:
        for count, image in enumerate(images):
            if image not in noted:
                noted[image] = work(image)
                file.write(json.dumps([image, noted[image]]) + "\n")
                file.flush()
            entries[image] = noted[image]
            if progress:
                progress(count + 1, len(images))
    return entries


def _noted(journal: Path) -> dict[str, Json]:
    """Image to its entry, as far as the journal is whole."""
    noted: dict[str, Json] = {}
    if journal.is_file():
        for line in journal.read_text(encoding="utf-8").splitlines():
            try:
                image, entry = json.loads(line)
                noted[image] = {"size": entry["size"], "items": entry["items"]}
            except (ValueError, TypeError, KeyError):
                break
    return noted


def _finish(target: Path, entries: dict[str, Json], annotations: list[Json], categories: Categories) -> None:
    """Write the JSON and drop the journal."""
    images = [
        {
            "id": stem(image),
            "file_name": posixpath.basename(image),
            "height": entry["size"][0],
            "width": entry["size"][1],
        }
        for image, entry in entries.items()
    ]
    described = [
        {"id": id_, "name": name, "isthing": int(index in categories.things), "color": color}
        for index, (id_, name, color) in enumerate(
            zip(categories.ids, categories.names, categories.palette, strict=True)
        )
    ]
    write_json(target, {"images": images, "annotations": annotations, "categories": described})
    target.with_name(target.name + ".journal").unlink()
