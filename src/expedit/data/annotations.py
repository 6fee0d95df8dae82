"""Annotation files in the formats of COCO and YouTubeVIS, checked as a whole before the first image is needed.

What cannot be used is left out and counted, as the COCO tools and detectron2 do; what contradicts itself is an error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .class_list import Color, voc_color
from .decode import too_many_pixels
from .rle import usable
from .storage import Tree

JSON_LIMIT = 1 << 31
"""Largest annotation file that is read, in bytes; COCO's training split has half a gigabyte."""

Json = dict[str, Any]
Id = int | str


@dataclass(frozen=True)
class Categories:
    """What the classes are.

    Attributes:
        names: by class index.
        palette: RGB, 0..255, by class index.
        ids: category ids of the files, by class index.
        things: class indices that are things.
    """

    names: tuple[str, ...]
    palette: tuple[Color, ...]
    ids: tuple[Id, ...]
    things: tuple[int, ...]

    @cached_property
    def places(self) -> dict[Id | None, int]:
        """Class index by category id."""
        return {id_: index for index, id_ in enumerate(self.ids)}


def read_json(tree: Tree, name: str, lists: Sequence[str], optional: str = "") -> Json:
    """An annotation file that holds the named lists of objects; one more may be absent or null.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON, or a list is missing; the message names the file.
    """
    where = tree.where(name)
    try:
        content: Json = json.loads(tree.read(name, JSON_LIMIT))
    except (ValueError, RecursionError) as error:  # damaged JSON, text that is not UTF-8, or a number of 5,000 digits
        raise ValueError(f"{where}: expected an annotation file in JSON ({error!s:.200})") from None
    more = [optional] if isinstance(content, dict) and content.get(optional) is not None else []
    for key in (*lists, *more):
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


def missing_files(tree: Tree, paths: Sequence[str]) -> tuple[str, ...]:
    """A remark on files that are not there; FileNotFoundError where none is."""
    absent = [path for path in paths if not tree.exists(path)]
    if not absent:
        return ()
    remark = f"{tree.where(absent[0])}: no such file; {len(absent)} of {len(paths)} are missing"
    if len(absent) == len(paths):
        raise FileNotFoundError(remark)
    return (remark,)


def by_id(items: Sequence[Json], where: str, what: str) -> dict[Id, Json]:
    """Images, videos or categories by their ids.

    Raises:
        ValueError: there are none, or an id is missing or not unique.
    """
    if not items:
        raise ValueError(f"{where}: expected {what}, got none")
    found: dict[Id, Json] = {}
    for item in items:
        id_ = id_of(item.get("id"))
        if id_ is None or found.setdefault(id_, item) != item:  # the same entry twice is one
            raise ValueError(
                f"{where}: expected {what} with an id of their own, a number or a word, got {item.get('id')!r:.60}"
            )
        item["id"] = id_
    if len({type(id_) for id_ in found}) > 1:
        raise ValueError(f"{where}: expected {what} with ids of one kind, got numbers and words")
    return found


def id_of(value: Any) -> Id | None:
    """The id of an image or a category; ``None`` for what cannot be one. Some programs write 7.0 for 7."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def check_sizes(images: Mapping[Id, Json], where: str, what: str = "image") -> None:
    """ValueError where an image or video does not say, as ``height`` and ``width``, how many pixels it has."""
    for id_, image in images.items():
        sides: Any = image.get("height"), image.get("width")
        if not all(_is_number(side) and side >= 1 and side == int(side) for side in sides):
            raise ValueError(f"{where}: {what} {id_!r}: expected its height and width in pixels, got {sides!r:.60}")
        image["height"], image["width"] = (int(side) for side in sides)
        if problem := too_many_pixels(image["height"] * image["width"]):
            raise ValueError(f"{where}: {what} {id_!r}: {problem}")


def categories_of(listed: Sequence[Json], where: str, official: Categories | None = None) -> Categories:
    """The categories of a file: the official ones where it lists no others, else its own in the order of their ids.

    Raises:
        ValueError: there are none, or one has no id of its own or no name.
    """
    found = by_id(listed, where, "categories")
    for id_, item in found.items():
        if not isinstance(item.get("name"), str):
            raise ValueError(f"{where}: expected category {id_!r} to have a name, got {item.get('name')!r:.60}")
    if official is not None:
        names = dict(zip(official.ids, official.names, strict=True))
        if all(id_ in names and _alike(item["name"], names[id_]) for id_, item in found.items()):
            return official
    ids = sorted(found, key=lambda id_: (isinstance(id_, str), id_))
    return Categories(
        tuple(found[id_]["name"] for id_ in ids),
        tuple(voc_color(index % 255 + 1) for index in range(len(ids))),
        tuple(ids),
        tuple(index for index, id_ in enumerate(ids) if found[id_].get("isthing", 1)),
    )


def _alike(one: str, other: str) -> bool:
    """Whether two names of one number mean one class; ADE20K's go round in several lengths."""
    first, second = ({word.strip().casefold() for word in name.split(",")} for name in (one, other))
    return any(a == b or a.startswith(f"{b} ") or b.startswith(f"{a} ") for a in first for b in second)


def grouped(
    items: Sequence[Json], key: str, owners: Mapping[Id, Json], where: str, check: Callable[[Json, Json], Json | str]
) -> tuple[dict[Id, list[Json]], tuple[str, ...]]:
    """The annotations of every image or video, and remarks on those that were left out.

    Args:
        items: the annotations.
        key: "image_id" or "video_id".
        owners: images or videos by id.
        where: the file, for messages.
        check: of an annotation and its owner, the annotation as it can be used, or the reason why it cannot: what
            several of that kind do, as in "have no category". It may raise ValueError.

    Raises:
        ValueError: none can be used, or one contradicts itself; it is named.
    """
    kept: dict[Id, list[Json]] = {}
    left_out: dict[str, list[str]] = {}
    words, what = {str(id_) for id_ in owners}, key.removesuffix("_id")
    for number, item in enumerate(items, 1):
        owner = id_of(item.get(key))
        name = f"annotation {item.get('id', number)!r:.60} of {what} {item.get(key)!r:.60}"
        if owner is None or owner not in owners:
            kind = f" ({key} is a word for a number, or a number for a word)" if str(owner) in words else ""
            left_out.setdefault(f"belong to no {what} that the file lists{kind}", []).append(name)
            continue
        try:
            used = check(item, owners[owner])
        except ValueError as error:
            raise ValueError(f"{where}: {name}: {error}") from None
        if isinstance(used, str):
            left_out.setdefault(used, []).append(name)
        else:
            kept.setdefault(owner, []).append(used)
    remarks = tuple(
        f"{where}: {len(names)} of {len(items)} annotations {reason} and are left out, such as {names[0]}"
        for reason, names in left_out.items()
    )
    if items and not kept:
        raise ValueError("; ".join(remarks).replace(" and are left out", ""))
    return kept, remarks


def checked_object(item: Json, owner: Json, places: Mapping[Id | None, int]) -> Json | str:
    """An object of an image: its category, region, area, box and crowd flag can be used; for `grouped`."""
    if reason := _foreign(item, places):
        return reason
    _check_numbers(item)
    region = usable(item.get("segmentation"), owner["height"], owner["width"])
    return "have no polygon of three points or more" if region is None else {**item, "segmentation": region}


def checked_track(item: Json, owner: Json, places: Mapping[Id | None, int]) -> Json | str:
    """An object of a video: as `checked_object`, with a region or ``None`` in every frame."""
    if reason := _foreign(item, places):
        return reason
    _check_numbers(item)
    regions, count = item.get("segmentations"), len(owner["file_names"])
    if not isinstance(regions, list) or len(regions) != count:
        found = len(regions) if isinstance(regions, list) else "none"
        raise ValueError(f"expected {count} segmentations per track, one for each frame, got {found}")
    areas = item.get("areas")
    known = isinstance(areas, list) and len(areas) == count and all(a is None or _is_number(a) for a in areas)
    if areas is not None and not known:
        raise ValueError(f"expected {count} areas per track, each a number or null, got {areas!r:.60}")
    height, width = owner["height"], owner["width"]
    return {**item, "segmentations": [usable(region, height, width) if region else None for region in regions]}


def _foreign(item: Json, places: Mapping[Id | None, int]) -> str | None:
    return None if id_of(item.get("category_id")) in places else "have a category that the file does not list"


def _check_numbers(item: Json) -> None:
    """What the metrics read beside the region, where it is there."""
    crowd, area, box = item.get("iscrowd", 0), item.get("area", 0), item.get("bbox", [0] * 4)
    if crowd not in (0, 1):
        raise ValueError(f"expected iscrowd to be 0 or 1, got {crowd!r:.60}")
    if not _is_number(area) or area < 0:
        raise ValueError(f"expected an area in pixels, got {area!r:.60}")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(side) for side in box):
        raise ValueError(f"expected a bbox of four numbers, got {box!r:.60}")


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        return False
