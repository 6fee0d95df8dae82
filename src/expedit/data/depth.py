"""Pictures with measured depth: NYU Depth v2 and KITTI, as their test sets are handed around."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .class_list import Color
from .decode import decode_indices, most_bytes
from .listing import natural
from .pairs import PictureFiles, check_size, sample_names, split_name
from .samples import DepthSample
from .storage import Tree

MILLIMETRES, KITTI_UNITS = 1000.0, 256.0
"""Values of a depth picture per metre."""


@dataclass(frozen=True)
class Naming:
    """Where the depth of an image lies: what ``image`` matches, and its partner's path from the groups."""

    image: re.Pattern[str]
    depth: str

    def pairs(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """(image, depth) of every image of this kind in natural order, whether its partner is there or not."""
        found = ((name, self.image.fullmatch(name)) for name in sorted(names, key=natural))
        return [(name, match.expand(self.depth)) for name, match in found if match]


NYU: dict[str, tuple[Naming, ...]] = {
    split: (
        Naming(re.compile(rf"((?:.*/)?official_splits/{folder}/.*/)rgb_(\d+)\.(?:jpg|png)"), r"\1sync_depth_\2.png"),
        Naming(re.compile(rf"((?:.*/)?nyu2_{folder}/)(\d+)_colors\.png"), r"\1\2_depth.png"),
        *more,
    )
    for split, folder, more in (
        ("train", "train", ()),
        ("val", "test", (Naming(re.compile(r"()image_(\d+)\.png"), r"\1depth_\2.png"),)),
    )
}
"""By split: the official splits by scene, test pictures in one folder, or a few of them side by side."""

KITTI: dict[str, tuple[Naming, ...]] = {
    split: (
        Naming(
            re.compile(rf"((?:.*/)?{folder}/)image/(.*_sync_)image(_\d+_image_0[23]\.png)"),
            r"\1groundtruth_depth/\2groundtruth_depth\3",
        ),
        Naming(
            re.compile(r"((?:.*/)?)(\d{4}_\d{2}_\d{2})/(\2_drive_\d{4}_sync)/(image_0[23])/data/(\d+)\.(?:png|jpg)"),
            rf"\g<1>{split}/\3/proj_depth/groundtruth/\4/\5.png",
        ),
    )
    for split, folder in (("train", "train_selection_cropped"), ("val", "val_selection_cropped"))
}
"""By split: the cropped selection of the benchmark, or raw drives beside the annotated depth."""


@dataclass(frozen=True, eq=False)
class DepthFiles(PictureFiles):
    """Images and their depths. ``data[i]`` reads and checks one; nothing is kept in memory."""

    tree: Tree
    pairs: tuple[tuple[str, str, str], ...]
    per_metre: float
    name: str

    classes: tuple[str, ...] = ()
    palette: tuple[Color, ...] = ()

    def __getitem__(self, index: int) -> DepthSample:
        """Decode picture ``index``.

        Raises:
            IndexError: past the end.
            FileNotFoundError, ValueError: a file is missing, damaged, of another size than its partner, or no depth.
        """
        name, _, depth = self.pairs[index]
        image = self.image(index)
        where = self.tree.where(depth)
        values = decode_indices(self.tree.read(depth, most_bytes()), where)
        check_size(where, values.shape, (image.shape[0], image.shape[1]))
        if values.dtype.itemsize < 2:
            raise ValueError(f"{where}: expected 16 bits per pixel, {self.per_metre:.0f} per metre, got 8")
        return DepthSample(name, image, values.astype(np.float32) / np.float32(self.per_metre))


def open_nyu_depth(root: Path, split: str = "val") -> DepthFiles:
    """NYU Depth v2, 640 x 480 pixels, depth pictures in millimetres.

    Args:
        root: a folder or archive with ``official_splits/test/SCENE/rgb_N.jpg`` and ``sync_depth_N.png``, or
            ``nyu2_test/N_colors.png`` and ``N_depth.png``, or ``image_N.png`` and ``depth_N.png`` directly in it.
        split: "val", which is the test set of 654 pictures, or "train".

    Raises:
        FileNotFoundError: no images of that split, or an image without its depth.
    """
    return _opened(root, split, NYU, MILLIMETRES, "nyu-depth")


def open_kitti_depth(root: Path, split: str = "val") -> DepthFiles:
    """KITTI, depth pictures in 1/256 metres, 0 where the laser has not measured.

    Args:
        root: a folder with ``val_selection_cropped``, or with raw drives (``DATE/DRIVE/image_02/data``) and the
            annotated depth (``val/DRIVE/proj_depth/groundtruth/image_02``). Raw images without a depth are left out.
        split: "val" or "train".

    Raises:
        FileNotFoundError: no images of that split with a depth.
    """
    return _opened(root, split, KITTI, KITTI_UNITS, "kitti-depth")


def find_nyu_depth(tree: Tree) -> list[str]:
    """The splits of NYU Depth v2 that lie in a tree."""
    return _splits(tree, NYU)


def find_kitti_depth(tree: Tree) -> list[str]:
    """The splits of KITTI that lie in a tree."""
    return _splits(tree, KITTI)


def _splits(tree: Tree, namings: dict[str, tuple[Naming, ...]]) -> list[str]:
    names = tree.files("")
    present = set(names)
    return [split for split in namings if any(depth in present for _, depth in _pairs(names, namings[split]))]


def _pairs(names: Sequence[str], namings: Sequence[Naming]) -> list[tuple[str, str]]:
    """Those of the first naming by which some image is called."""
    return next((pairs for naming in namings if (pairs := naming.pairs(names))), [])


def _opened(root: Path, split: str, namings: dict[str, tuple[Naming, ...]], per_metre: float, name: str) -> DepthFiles:
    split_name(split, dict.fromkeys(namings, ""))
    tree = Tree(root)
    names = tree.files("")
    present, pairs = set(names), _pairs(names, namings[split])
    whole = [(image, depth) for image, depth in pairs if depth in present]
    partial = [depth for _, depth in pairs if depth not in present]
    if partial and name == "nyu-depth":
        raise FileNotFoundError(f"{tree.where(partial[0])}: no such file ({len(partial)} of {len(pairs)} are missing)")
    if not whole:
        raise FileNotFoundError(f"{tree.root}: expected images of {name} with their depth, split {split}, got none")
    keys = [posixpath.splitext(image)[0] for image, _ in whole]
    found = zip(sample_names(keys), whole, strict=True)
    return DepthFiles(tree, tuple((key, image, depth) for key, (image, depth) in found), per_metre, name)
