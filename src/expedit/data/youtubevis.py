"""YouTubeVIS 2019 and 2021: clips of 40 kinds of things, annotated every fifth frame.

::

    ytvis_2019/
      {train,valid,test}.json                      or {train,valid,test}/instances.json
      {train,valid,test}/JPEGImages/<video>/*.jpg

The annotations of the validation and test splits are not public: their clips come without tracks.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from .annotations import (
    Categories,
    Json,
    by_id,
    categories_of,
    check_sizes,
    checked_track,
    first_of,
    grouped,
    missing_files,
    read_json,
)
from .class_list import Color, shipped_class_list
from .decode import decode_image, most_bytes
from .pairs import sample_names, split_name
from .samples import TrueTrack, VideoClip
from .storage import Tree

Year = Literal[2019, 2021]
SPLITS = {"train": "train", "valid": "valid", "val": "valid", "test": "test"}

# fmt: off
CLASSES: dict[int, tuple[str, ...]] = {
    2019: (
        "person", "giant_panda", "lizard", "parrot", "skateboard", "sedan", "ape", "dog", "snake", "monkey", "hand",
        "rabbit", "duck", "cat", "cow", "fish", "train", "horse", "turtle", "bear", "motorbike", "giraffe", "leopard",
        "fox", "deer", "owl", "surfboard", "airplane", "truck", "zebra", "tiger", "elephant", "snowboard", "boat",
        "shark", "mouse", "frog", "eagle", "earless_seal", "tennis_racket",
    ),
    2021: (
        "airplane", "bear", "bird", "boat", "car", "cat", "cow", "deer", "dog", "duck", "earless_seal", "elephant",
        "fish", "flying_disc", "fox", "frog", "giant_panda", "giraffe", "horse", "leopard", "lizard", "monkey",
        "motorbike", "mouse", "parrot", "person", "rabbit", "shark", "skateboard", "snake", "snowboard", "squirrel",
        "surfboard", "tennis_racket", "tiger", "train", "truck", "turtle", "whale", "zebra",
    ),
}
"""Names by year; category ids are 1..40."""
# fmt: on


@dataclass(frozen=True, eq=False)
class ClipFrames:
    """The frames of one clip, decoded when asked for; all must have the size that the annotation file states."""

    tree: Tree
    paths: tuple[str, ...]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        """``(H, W, 3)`` uint8 RGB; FileNotFoundError or ValueError with the frame's name."""
        path = self.paths[index]
        name = self.tree.where(path)
        frame = decode_image(self.tree.read(path, most_bytes()), name)
        if frame.shape[:2] != self.size:
            raise ValueError(f"{name}: expected a frame of {self.size} pixels (height, width), got {frame.shape[:2]}")
        return frame

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True, eq=False)
class VideoFiles:
    """A video data set.

    Attributes:
        tree: where everything lies.
        categories: what the classes are.
        file: the annotation file, for messages.
        truth: its content as evaluation takes it, without what cannot be used.
        clips: in the order of the file.
        remarks: what was left out.
    """

    tree: Tree
    categories: Categories
    file: str
    truth: Json
    clips: tuple[VideoClip, ...]
    remarks: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> VideoClip:
        """Clip ``index``; nothing is decoded yet. IndexError past the end."""
        return self.clips[index]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by index."""
        return self.categories.names

    @property
    def palette(self) -> tuple[Color, ...]:
        """RGB, 0..255, by class index."""
        return self.categories.palette


def video_categories(year: Year) -> Categories:
    """The 40 classes of that year, in colours of COCO's things."""
    if year not in CLASSES:
        raise ValueError(f"year: expected 2019 or 2021, got {year!r}")
    _, palette = shipped_class_list("coco_panoptic")
    return Categories(CLASSES[year], palette[:40], tuple(range(1, 41)), tuple(range(40)))


def open_youtubevis(root: Path, split: str = "valid") -> VideoFiles:
    """The clips of a split; classes and their order are those of the annotation file, so any year and any subset open.

    Args:
        root: the folder of one year; its parts may be zip archives in it.
        split: "train", "valid" or "test".

    Raises:
        FileNotFoundError: the annotation file is not there.
        ValueError: an unknown split, or an annotation file that lacks what it needs or contradicts itself.
    """
    folder = split_name(split, SPLITS)
    return open_clips(root, annotation_files(folder), frame_folder(folder))


def annotation_files(folder: str) -> list[str]:
    """Where the annotations of a split may be."""
    return [f"{folder}.json", f"{folder}/instances.json"]


def frame_folder(folder: str) -> str:
    """Where the frames of a split are, a folder per clip."""
    return f"{folder}/JPEGImages"


def find_youtubevis(tree: Tree) -> list[str]:
    """Splits with annotations and frames."""
    return [
        folder
        for folder in dict.fromkeys(SPLITS.values())
        if any(tree.exists(file) for file in annotation_files(folder)) and tree.has(frame_folder(folder))
    ]


def open_clips(root: Path, jsons: list[str], folder: str) -> VideoFiles:
    """Clips of any annotation file in the format: the first of ``jsons`` under ``root``, frames below ``folder``."""
    tree = Tree(root)
    file = first_of(tree, jsons)
    truth, where = read_json(tree, file, ("videos", "categories"), "annotations"), tree.where(file)
    categories = categories_of(truth["categories"], where)
    videos = by_id(truth["videos"], where, "videos")
    check_sizes(videos, where, "video")
    for id_, video in videos.items():
        _check_frames(video, f"{where}: video {id_!r}")
    tracks, remarks = grouped(
        truth.get("annotations") or [], "video_id", videos, where, partial(checked_track, places=categories.places)
    )
    names = sample_names([posixpath.dirname(video["file_names"][0]) for video in videos.values()])
    clips = tuple(
        _clip(tree, folder, name, video, tracks.get(id_, ()), categories)
        for name, (id_, video) in zip(names, videos.items(), strict=True)
    )
    files = [posixpath.join(folder, file) for video in videos.values() for file in video["file_names"]]
    if truth.get("annotations"):
        truth |= {"annotations": [item for one in tracks.values() for item in one]}
    return VideoFiles(tree, categories, where, truth, clips, (*tree.remarks, *remarks, *missing_files(tree, files)))


def _check_frames(video: Json, where: str) -> None:
    files = video.get("file_names")
    if not isinstance(files, list) or not files or not all(isinstance(file, str) for file in files):
        raise ValueError(f"{where}: expected file_names of at least one frame, got {files!r:.60}")
    if video.get("length", len(files)) != len(files):
        raise ValueError(
            f"{where}: expected as many file_names as its length says, {video['length']}, got {len(files)}"
        )


def _clip(tree: Tree, folder: str, name: str, video: Json, tracks: Sequence[Json], categories: Categories) -> VideoClip:
    size = video["height"], video["width"]
    frames = ClipFrames(tree, tuple(posixpath.join(folder, file) for file in video["file_names"]), size)
    own = tuple(
        TrueTrack(categories.places[item["category_id"]], tuple(item["segmentations"]), bool(item.get("iscrowd", 0)))
        for item in tracks
    )
    return VideoClip(name, video["id"], size, frames, own)
