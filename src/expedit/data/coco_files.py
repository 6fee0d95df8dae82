"""Data sets in the COCO file formats: an annotation JSON, images, and for panoptic labels a folder of PNGs."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .class_list import Color
from .decode import decode_image, decode_rgb, most_bytes
from .pairs import check_size, sample_names
from .png_ids import MAX_ID, ids_from_png
from .samples import InstanceSample, PanopticSample, TrueInstance, TrueSegment
from .storage import Tree

JSON_LIMIT = 1 << 31
"""Largest annotation file that is read, in bytes; COCO's training split has half a gigabyte."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Categories:
    """``names[i]``, ``palette[i]`` (RGB, 0..255) and ``ids[i]`` (as in the files) of class i; ``things``: indices."""

    names: tuple[str, ...]
    palette: tuple[Color, ...]
    ids: tuple[int, ...]
    things: tuple[int, ...]

    def index(self, category: Any, where: str) -> int:
        """Class index of a category id; ValueError, with the file's name, for an unknown one."""
        if category not in self.ids:
            raise ValueError(f"{where}: category {category!r} is none of the {len(self.ids)} of this data set")
        return self.ids.index(category)


@dataclass(frozen=True)
class Record:
    """One image: its names, its file, its entry in the JSON, and what the JSON says lies in it."""

    name: str
    image: str
    entry: Json
    annotations: tuple[Json, ...]


@dataclass(frozen=True, eq=False)
class CocoFiles:
    """What panoptic and instance data share. ``truth``: content of the annotation file, as evaluation takes it."""

    tree: Tree
    categories: Categories
    file: str
    truth: Json
    records: tuple[Record, ...]

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
            FileNotFoundError, ValueError: a file is missing, damaged, of another size than its partner, or does not
                hold what the annotation file says; the message names the file.
        """
        record = self.records[index]
        image = self.image(index)
        [annotation] = record.annotations
        path = posixpath.join(self.folder, str(annotation.get("file_name")))
        name = self.tree.where(path)
        ids = ids_from_png(decode_rgb(self.tree.read(path), name))
        check_size(name, ids.shape, (image.shape[0], image.shape[1]))
        segments = tuple(self._segment(info, name) for info in annotation["segments_info"])
        return PanopticSample(record.name, record.entry["id"], image, ids, segments)

    def _segment(self, info: Json, name: str) -> TrueSegment:
        try:
            category, id_, area = info["category_id"], int(info["id"]), int(info["area"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{self.file}: a segment of {name} needs id, category_id and area ({error})") from None
        if not 1 <= id_ <= MAX_ID or area < 1:
            raise ValueError(
                f"{self.file}: expected segments of {name} with an id in 1..{MAX_ID} and an area of at least 1 pixel, "
                f"got id {id_} and area {area}"
            )
        return TrueSegment(id_, self.categories.index(category, name), area, bool(info.get("iscrowd", 0)))


@dataclass(frozen=True, eq=False)
class InstanceFiles(CocoFiles):
    """An instance data set."""

    def __getitem__(self, index: int) -> InstanceSample:
        """Decode picture ``index``; the masks stay run lengths. Errors as for panoptic data."""
        record = self.records[index]
        where = f"{self.file}, image {record.entry['id']}"
        instances = tuple(
            TrueInstance(
                self.categories.index(item.get("category_id"), where),
                item.get("segmentation"),
                bool(item.get("iscrowd", 0)),
            )
            for item in record.annotations
        )
        return InstanceSample(record.name, record.entry["id"], self.image(index), instances)


def read_json(tree: Tree, name: str, lists: Sequence[str]) -> Json:
    """An annotation file that holds the named lists of objects.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON, or a list is missing; the message names the file.
    """
    where = tree.where(name)
    try:
        content: Json = json.loads(tree.read(name, JSON_LIMIT))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{where}: expected an annotation file in JSON ({error})") from None
    for key in lists:
        listed = content.get(key) if isinstance(content, dict) else None
        if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
            raise ValueError(f"{where}: expected a list of objects {key!r} (the file needs {', '.join(lists)})")
    return content


def first_of(tree: Tree, choices: Sequence[str]) -> str:
    """The first of these files that exists; FileNotFoundError names the first and says which others would do."""
    for name in choices:
        if tree.exists(name):
            return name
    others = f" (or {', '.join(choices[1:])})" if choices[1:] else ""
    raise FileNotFoundError(f"{tree.where(choices[0])}: no such file{others}")


def records_of(tree: Tree, file: str, truth: Mapping[str, Any], folders: Sequence[str], single: bool) -> list[Record]:
    """Every image of ``truth`` with its annotations, in the order of the file.

    Args:
        tree: where the images lie.
        file: name of the annotation file, for messages.
        truth: its content.
        folders: where images may lie, the first that has the first image is taken.
        single: panoptic files have exactly one annotation per image, and images without one are left out.
    """
    listed: dict[Any, list[Json]] = {}
    for item in truth["annotations"]:
        listed.setdefault(_image_id(item, "image_id", file), []).append(item)
    entries = [entry for entry in truth["images"] if not single or _image_id(entry, "id", file) in listed]
    if not entries:
        raise ValueError(f"{file}: expected images, got none")
    files = [str(entry.get("file_name")) for entry in entries]
    found = [folder for folder in folders if tree.exists(posixpath.join(folder, files[0]))]
    folder = found[0] if found else folders[0]
    names = sample_names([posixpath.splitext(name)[0] for name in files])
    records = []
    for name, path, entry in zip(names, files, entries, strict=True):
        annotations = tuple(listed.get(_image_id(entry, "id", file), ()))
        if single and (len(annotations) != 1 or not isinstance(annotations[0].get("segments_info"), list)):
            raise ValueError(f"{file}: expected one annotation with segments_info for image {entry['id']}")
        records.append(Record(name, posixpath.join(folder, path), entry, annotations))
    return records


def open_panoptic(
    root: Path, categories: Categories, jsons: Sequence[str], pngs: Sequence[str], images: Sequence[str]
) -> PanopticFiles:
    """A panoptic data set under ``root``; of the places for the JSON, the PNGs and the images the first that exist."""
    tree = Tree(root)
    file = first_of(tree, jsons)
    truth = read_json(tree, file, ("images", "annotations", "categories"))
    where = tree.where(file)
    records = records_of(tree, where, truth, images, single=True)
    first = str(records[0].annotations[0].get("file_name"))
    folder = posixpath.dirname(_first_png(tree, pngs, first))
    return PanopticFiles(tree, categories, where, truth, tuple(records), folder)


def open_instance(root: Path, categories: Categories, jsons: Sequence[str], images: Sequence[str]) -> InstanceFiles:
    """An instance data set under ``root``; of the places for the JSON and the images the first that exist."""
    tree = Tree(root)
    file = first_of(tree, jsons)
    truth = read_json(tree, file, ("images", "annotations", "categories"))
    where = tree.where(file)
    return InstanceFiles(tree, categories, where, truth, tuple(records_of(tree, where, truth, images, single=False)))


def _first_png(tree: Tree, folders: Sequence[str], name: str) -> str:
    """Where the PNG of that name lies; COCO ships the folder as an archive within an archive."""
    choices = [posixpath.join(folder, name) for folder in folders]
    for folder in folders:
        if "/" in folder and tree.exists(f"{folder}.zip") and not any(tree.exists(choice) for choice in choices):
            raise FileNotFoundError(
                f"{tree.where(f'{folder}.zip')}: put this archive directly into {tree.root}, where it is read without "
                "unpacking, or unpack it"
            )
    return first_of(tree, choices)


def _image_id(item: Json, key: str, file: str) -> int | str:
    value = item.get(key)
    if not isinstance(value, (int, str)):
        raise ValueError(f"{file}: expected an image id (a number or a word) under {key!r}, got {value!r}")
    return value
