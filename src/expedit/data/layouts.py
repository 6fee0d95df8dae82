"""The data sets by name: how each lies on disk, and `open_dataset`, which takes what a user types."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, Literal, Protocol, overload

from .ade20k import find_ade20k, open_ade20k
from .ade20k_panoptic import find_prepared, open_ade20k_instance, open_ade20k_panoptic
from .cityscapes import find_cityscapes, open_cityscapes
from .class_list import Color
from .coco import find_coco, open_coco_instance, open_coco_panoptic
from .depth import find_kitti_depth, find_nyu_depth, open_kitti_depth, open_nyu_depth
from .folder import find_folder, has_class_list, open_folder
from .pascal_context import find_pascal_context, open_pascal_context, open_pascal_context_59
from .samples import Sample, SemanticData
from .storage import Tree
from .toy import Toy
from .youtubevis import find_youtubevis, open_youtubevis


class DataSet(Protocol):
    """What every data set has; its samples are those of its task (see `samples`)."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by index."""

    @property
    def palette(self) -> tuple[Color, ...]:
        """RGB, 0..255, by class index."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was left out of it, or may surprise."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class SemanticSet(SemanticData, DataSet, Protocol):
    """A data set with the class of every pixel."""

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk.

    Attributes:
        name: what a user types.
        task: the task that it has ground truth of.
        expected: what lies where, for people.
        open: the data set, from its root and split, and settings of its own by name.
        find: the splits that lie in a tree; ``None`` where the files do not tell it from another data set.
    """

    name: str
    task: str
    expected: str
    open: Callable[..., DataSet]
    find: Callable[[Tree], list[str]] | None


def open_toy(root: Path | None, split: str = "val", length: int = 200, size: int = 256, seed: int = 0) -> Toy:
    """Pictures drawn on the fly (`toy.Toy`, which explains the settings)."""
    if root is not None:
        raise ValueError(f"toy: takes no path, its pictures are drawn; got {root}")
    return Toy(split, length, size, seed)  # type: ignore[arg-type]  # Toy checks the split itself


_PANOPTIC = "annotations/panoptic_val2017.json, panoptic_val2017 and val2017"
_INSTANCE = "annotations/instances_val2017.json and val2017"
_CONTEXT = "VOCdevkit/VOC2010/JPEGImages and SegmentationClassContext, or trainval_merged.json"
_PREPARED = "ADEChallengeData2016 and what `expedit prepare ade20k-{} PATH` writes into it"
_CLIPS = "valid.json or valid/instances.json, and valid/JPEGImages"
_NYU = "official_splits/test, nyu2_test, or image_N.png and depth_N.png"
_KITTI = "val_selection_cropped, or raw drives and val/DRIVE/proj_depth/groundtruth"

# fmt: off
LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (
    Layout("toy", "semantic", "nothing: its pictures are drawn", open_toy, None),
    Layout("ade20k", "semantic", "ADEChallengeData2016/images/validation and annotations/validation, or its zip",
           open_ade20k, find_ade20k),
    Layout("cityscapes", "semantic", "leftImg8bit/val and gtFine/val, or the two zips",
           open_cityscapes, find_cityscapes),
    Layout("pascal-context", "semantic", _CONTEXT, open_pascal_context, find_pascal_context),
    Layout("pascal-context-59", "semantic", _CONTEXT, open_pascal_context_59, None),
    Layout("folder", "semantic", "images/val, labels/val and classes.txt", open_folder, find_folder),
    Layout("coco-panoptic", "panoptic", _PANOPTIC, open_coco_panoptic, partial(find_coco, task="panoptic")),
    Layout("ade20k-panoptic", "panoptic", _PREPARED.format("panoptic"),
           open_ade20k_panoptic, partial(find_prepared, task="panoptic")),
    Layout("coco-instance", "instance", _INSTANCE, open_coco_instance, partial(find_coco, task="instance")),
    Layout("ade20k-instance", "instance", _PREPARED.format("instance"),
           open_ade20k_instance, partial(find_prepared, task="instance")),
    Layout("youtubevis-2019", "video", _CLIPS, open_youtubevis, find_youtubevis),
    Layout("youtubevis-2021", "video", _CLIPS, open_youtubevis, None),
    Layout("nyu-depth", "depth", _NYU, open_nyu_depth, find_nyu_depth),
    Layout("kitti-depth", "depth", _KITTI, open_kitti_depth, find_kitti_depth),
)}
"""In the order in which a path is tried."""
# fmt: on


def guess(tree: Tree, task: str) -> Layout | None:
    """The layout of that task that the tree has, if it has one; a class list beside the data makes it "folder"."""
    if task == "semantic" and has_class_list(tree):
        return LAYOUTS["folder"]
    known = (layout for layout in LAYOUTS.values() if layout.task == task and layout.find is not None)
    return next((layout for layout in known if layout.find is not None and layout.find(tree)), None)


@overload
def open_dataset(
    data: str | Path, split: str = ..., task: Literal["semantic"] = ..., **settings: Any
) -> SemanticSet: ...


@overload
def open_dataset(data: str | Path, split: str, task: str, **settings: Any) -> DataSet: ...


def open_dataset(data: str | Path, split: str = "val", task: str = "semantic", **settings: Any) -> Any:
    """A data set from what a user types; what was left out of it is a Python warning.

    Args:
        data: "toy", ``NAME:PATH`` with a name in `LAYOUTS`, or a path, whose layout shows which data set it is.
        split: "train" or "val".
        task: what it is wanted for: "semantic", "panoptic", "instance", "video" or "depth".
        settings: of the data set, see `open_folder` and `toy.Toy`.

    Raises:
        FileNotFoundError: the path is not there, or files of the split are missing.
        ValueError: a data set of another task, a layout that is none of the known ones, or a damaged list or archive.
    """
    known = {layout.name: layout for layout in LAYOUTS.values() if layout.task == task}
    name, _, place = str(data).partition(":")
    if name in known and (place or name == "toy"):
        return _open(known[name], Path(place) if place else None, split, settings)
    path, names = Path(data), ", ".join(known)
    if name in LAYOUTS and (place or not path.exists()):
        raise ValueError(f"{data}: {name} is data for {LAYOUTS[name].task} models; for {task} there is {names}")
    if not path.exists():
        raise FileNotFoundError(f"{data}: expected a path, or NAME:PATH with a name in {names}")
    layout = guess(Tree(path), task)
    if layout is None:
        expected = "; ".join(f"{name} ({layout.expected})" for name, layout in known.items() if layout.find)
        raise ValueError(f"{data}: expected the layout of one of these: {expected}")
    return _open(layout, path, split, settings)


def _open(layout: Layout, root: Path | None, split: str, settings: dict[str, Any]) -> DataSet:
    accepted = signature(layout.open).parameters
    if unknown := [name for name in settings if name not in accepted]:
        raise ValueError(f"{layout.name}: has no setting {unknown[0]!r}")
    data = layout.open(root, split, **settings)
    for remark in data.remarks:
        warnings.warn(remark, stacklevel=3)
    return data
