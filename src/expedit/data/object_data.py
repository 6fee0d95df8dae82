"""Panoptic, instance and video data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .ade20k_panoptic import open_ade20k_instance, open_ade20k_panoptic
from .coco import open_coco_instance, open_coco_panoptic
from .coco_files import InstanceFiles, PanopticFiles
from .youtubevis import VideoFiles, open_youtubevis

PANOPTIC: dict[str, Callable[[Path, str], PanopticFiles]] = {
    "coco-panoptic": open_coco_panoptic,
    "ade20k-panoptic": open_ade20k_panoptic,
}
INSTANCE: dict[str, Callable[[Path, str], InstanceFiles]] = {
    "coco-instance": open_coco_instance,
    "ade20k-instance": open_ade20k_instance,
}
VIDEO: dict[str, Callable[[Path, str], VideoFiles]] = {
    "youtubevis-2019": open_youtubevis,
    "youtubevis-2021": open_youtubevis,
}
"""Every builder takes ``root`` and ``split``. The two years have one layout and bring their classes along."""
