"""YouTubeVIS 2019 and 2021: clips of 40 kinds of things, annotated every fifth frame.

::

    ytvis_2019/
      {train,valid,test}.json                      or {train,valid,test}/instances.json
      {train,valid,test}/JPEGImages/<video>/*.jpg

The annotations of the validation and test splits are not public: their clips come without tracks.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from .class_list import Color, shipped_class_list
from .coco_files import Categories, Json, first_of, read_json
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
    """A video data set; ``truth`` is the content of the annotation file, as evaluation takes it."""

    tree: Tree
    categories: Categories
    file: str
    truth: Json
    clips: tuple[VideoClip, ...]

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
    return _categories(CLASSES[year], tuple(range(1, 41)))


def open_youtubevis(root: Path, split: str = "valid") -> VideoFiles:
    """The clips of a split; classes and their order are those of the annotation file, so any year and any subset open.

    Args:
        root: the folder of one year; its parts may be zip archives in it.
        split: "train", "valid" or "test".

    Raises:
        FileNotFoundError: the annotation file is not there.
        ValueError: an unknown split, or an annotation file that lacks what it needs.
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
    truth = read_json(tree, file, ("videos", "categories"))
    where = tree.where(file)
    try:
        listed = {int(item["id"]): str(item["name"]) for item in truth["categories"]}
        categories = _categories(tuple(listed.values()), tuple(listed))
        tracks: dict[int, list[TrueTrack]] = {}
        for item in truth.get("annotations") or ():
            tracks.setdefault(int(item["video_id"]), []).append(_track(item, categories))
        clips = _clips(tree, folder, truth["videos"], tracks)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{where}: not as YouTubeVIS annotations are ({error!r})") from None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return VideoFiles(tree, categories, where, truth, clips)


def _clips(tree: Tree, folder: str, videos: list[Json], tracks: dict[int, list[TrueTrack]]) -> tuple[VideoClip, ...]:
    keys = [posixpath.dirname(str(video["file_names"][0])) if video["file_names"] else "video" for video in videos]
    clips = []
    for name, video in zip(sample_names(keys), videos, strict=True):
        if not video["file_names"]:
            raise ValueError(f"video {video['id']}: expected at least one frame, got none")
        size = int(video["height"]), int(video["width"])
        frames = ClipFrames(tree, tuple(posixpath.join(folder, str(file)) for file in video["file_names"]), size)
        own = tuple(tracks.get(int(video["id"]), ()))
        for track in own:
            if len(track.segmentations) != len(frames):
                raise ValueError(
                    f"video {video['id']}: expected {len(frames)} segmentations per track, one for each frame, "
                    f"got {len(track.segmentations)}"
                )
        clips.append(VideoClip(name, int(video["id"]), size, frames, own))
    return tuple(clips)


def _track(item: Json, categories: Categories) -> TrueTrack:
    category = categories.index(item["category_id"], f"a track of video {item['video_id']}")
    return TrueTrack(category, tuple(item["segmentations"]), bool(item.get("iscrowd", 0)))


def _categories(names: tuple[str, ...], ids: tuple[int, ...]) -> Categories:
    _, palette = shipped_class_list("coco_panoptic")
    return Categories(names, tuple(palette[i % len(palette)] for i in range(len(names))), ids, tuple(range(len(names))))
