"""Data sets in the COCO file formats: an annotation JSON, images, and for panoptic labels a folder of PNGs."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .annotations import (
    Categories,
    Id,
    Json,
    by_id,
    categories_of,
    check_sizes,
    checked_object,
    first_of,
    grouped,
    id_of,
    missing_files,
    read_json,
)
from .class_list import Color
from .decode import decode_image, decode_rgb, most_bytes
from .pairs import check_size, sample_names
from .png_ids import MAX_ID, ids_from_png
from .samples import InstanceSample, PanopticSample, TrueInstance, TrueSegment
from .storage import Tree


@dataclass(frozen=True)
class Record:
    """One image: its names, its file, its entry in the JSON, and what the JSON says lies in it."""

    name: str
    image: str
    entry: Json
    annotations: tuple[Json, ...]


@dataclass(frozen=True, eq=False)
class CocoFiles:
    """What panoptic and instance data share.

    Attributes:
        tree: where everything lies.
        categories: what the classes are.
        file: the annotation file, for messages.
        truth: its content as evaluation takes it, without what cannot be used.
        records: its images, in the order of the file.
        remarks: what was left out.
    """

    tree: Tree
    categories: Categories
    file: str
    truth: Json
    records: tuple[Record, ...]
    remarks: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by index."""
        return self.categories.names

    @property
    def palette(self) -> tuple[Color, ...]:
        """RGB, 0..255, by class index."""
        return self.categories.palette

    def photograph(self, index: int) -> str:
        """Path of image ``index`` in the tree."""
        return self.records[index].image

    def image(self, index: int) -> np.ndarray:
        """Image ``index`` as ``(H, W, 3)`` uint8 RGB, of the size that the annotation file states."""
        record = self.records[index]
        name = self.tree.where(record.image)
        image = decode_image(self.tree.read(record.image, most_bytes()), name)
        height, width = image.shape[:2]
        stated = (record.entry.get("height", height), record.entry.get("width", width))
        if image.shape[:2] != stated:
            raise ValueError(
                f"{name}: {self.file} states {stated} pixels (height, width), the image has {image.shape[:2]}"
            )
        return image


@dataclass(frozen=True, eq=False)
class PanopticFiles(CocoFiles):
    """A panoptic data set; ``folder`` holds the PNGs of segment ids."""

    folder: str = ""

    def __getitem__(self, index: int) -> PanopticSample:
        """Decode picture ``index``.

        Raises:
            IndexError: past the end.
            FileNotFoundError, ValueError: a file is missing, damaged, or of another size than its partner; the message
                names the file.
        """
        record = self.records[index]
        image = self.image(index)
        [annotation] = record.annotations
        path = posixpath.join(self.folder, annotation["file_name"])
        name = self.tree.where(path)
        ids = ids_from_png(decode_rgb(self.tree.read(path), name))
        check_size(name, ids.shape, (image.shape[0], image.shape[1]))
        return PanopticSample(record.name, record.entry["id"], image, ids, segments_of(annotation, self.categories))


@dataclass(frozen=True, eq=False)
class InstanceFiles(CocoFiles):
    """An instance data set."""

    def __getitem__(self, index: int) -> InstanceSample:
        """Decode picture ``index``; the masks stay run lengths. Errors as for panoptic data."""
        record, places = self.records[index], self.categories.places
        instances = tuple(
            TrueInstance(places[item["category_id"]], item["segmentation"], bool(item.get("iscrowd", 0)))
            for item in record.annotations
        )
        return InstanceSample(record.name, record.entry["id"], self.image(index), instances)


def open_panoptic(
    root: Path, official: Categories, jsons: Sequence[str], pngs: Sequence[str], images: Sequence[str]
) -> PanopticFiles:
    """A panoptic data set under ``root``; of the places for the JSON, the PNGs and the images the first that exist.

    Its classes are the ``official`` ones, or those of the file where it has others.

    Raises:
        FileNotFoundError: the annotation file, the PNGs or the images are not there.
        ValueError: an annotation file that is none, or contradicts itself.
    """
    tree = Tree(root)
    file = first_of(tree, jsons)
    truth, where = read_json(tree, file, ("images", "annotations", "categories")), tree.where(file)
    categories = categories_of(truth["categories"], where, official)
    owners = by_id(truth["images"], where, "images")
    check_sizes({id_: image for id_, image in owners.items() if image.keys() & {"height", "width"}}, where)
    listed, remarks = grouped(
        truth["annotations"], "image_id", owners, where, partial(_checked_segments, categories=categories)
    )
    for id_, several in listed.items():
        if len(several) > 1:
            raise ValueError(f"{where}: expected one annotation for image {id_!r}, got {len(several)}")
    labelled = {id_: owners[id_] for id_ in owners if id_ in listed}
    records, missing = _records(tree, where, labelled, listed, images)
    if not records:
        raise ValueError(f"{where}: expected images with annotations, got none")
    folder = _png_folder(tree, pngs, records[0].annotations[0]["file_name"])
    missing += missing_files(tree, [posixpath.join(folder, record.annotations[0]["file_name"]) for record in records])
    truth |= {"annotations": [record.annotations[0] for record in records]}
    return PanopticFiles(tree, categories, where, truth, records, (*tree.remarks, *remarks, *missing), folder)


def open_instance(root: Path, official: Categories, jsons: Sequence[str], images: Sequence[str]) -> InstanceFiles:
    """An instance data set under ``root``; places, classes and errors as for `open_panoptic`."""
    tree = Tree(root)
    file = first_of(tree, jsons)
    truth, where = read_json(tree, file, ("images", "annotations", "categories")), tree.where(file)
    categories = categories_of(truth["categories"], where, official)
    owners = by_id(truth["images"], where, "images")
    check_sizes(owners, where)
    check = partial(checked_object, places=categories.places)
    listed, remarks = grouped(truth["annotations"], "image_id", owners, where, check)
    records, missing = _records(tree, where, owners, listed, images)
    described = [{"id": id_, "name": name} for id_, name in zip(categories.ids, categories.names, strict=True)]
    truth |= {"annotations": [item for one in listed.values() for item in one], "categories": described}
    return InstanceFiles(tree, categories, where, truth, records, (*tree.remarks, *remarks, *missing))


def segments_of(annotation: Json, categories: Categories) -> tuple[TrueSegment, ...]:
    """The segments of one image; ValueError where one is not as it should be."""
    segments = []
    for info in annotation["segments_info"]:
        try:
            category, id_, area = info["category_id"], int(info["id"]), int(info["area"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"a segment needs id, category_id and area ({error})") from None
        if not 1 <= id_ <= MAX_ID or area < 1:
            raise ValueError(
                f"expected segments with an id in 1..{MAX_ID} and an area of at least 1 pixel, got id {id_} and area "
                f"{area}"
            )
        if id_of(category) not in categories.places:
            raise ValueError(f"the category {category!r:.60} of segment {id_} is none that the file lists")
        segments.append(TrueSegment(id_, categories.places[id_of(category)], area, bool(info.get("iscrowd", 0))))
    if len({segment.id for segment in segments}) != len(segments):
        raise ValueError("expected segments with an id of their own, got one twice")
    return tuple(segments)


def _checked_segments(annotation: Json, owner: Json, categories: Categories) -> Json:
    if not isinstance(annotation.get("segments_info"), list) or not isinstance(annotation.get("file_name"), str):
        raise ValueError("expected a file_name and segments_info")
    segments_of(annotation, categories)
    return annotation


def _records(
    tree: Tree, where: str, owners: Mapping[Id, Json], listed: Mapping[Id, Sequence[Json]], folders: Sequence[str]
) -> tuple[tuple[Record, ...], tuple[str, ...]]:
    """The images in the order of the file, and a remark on those whose files are not there."""
    for id_, entry in owners.items():
        if not isinstance(entry.get("file_name"), str) or not entry["file_name"]:
            raise ValueError(f"{where}: image {id_!r}: expected a file_name, got {entry.get('file_name')!r:.60}")
    files = [entry["file_name"] for entry in owners.values()]
    found = [folder for folder in folders if files and tree.exists(posixpath.join(folder, files[0]))]
    folder = found[0] if found else folders[0]
    names = sample_names([posixpath.splitext(file)[0] for file in files])
    records = tuple(
        Record(name, posixpath.join(folder, file), entry, tuple(listed.get(id_, ())))
        for name, file, (id_, entry) in zip(names, files, owners.items(), strict=True)
    )
    return records, missing_files(tree, [record.image for record in records])


def _png_folder(tree: Tree, folders: Sequence[str], name: str) -> str:
    """The folder with the PNG of that name; COCO ships it as an archive within an archive."""
    for folder in folders:
        if tree.exists(posixpath.join(folder, name)):
            return folder
    for folder in folders:
        if "/" in folder and tree.exists(f"{folder}.zip"):
            raise FileNotFoundError(
                f"{tree.where(f'{folder}.zip')}: put this archive directly into {tree.root}, where it is read without "
                "unpacking, or unpack it"
            )
    choices = [posixpath.join(folder, name) for folder in folders]
    raise FileNotFoundError(f"{tree.where(choices[0])}: no such file (or {', '.join(choices[1:])})")
