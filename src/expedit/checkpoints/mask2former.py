"""The published Mask2Former models: sizes, classes and protocols by name, and the files that hold their weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from ..data import ade20k_panoptic, coco, youtubevis
from ..data.class_list import Color
from ..data.coco_files import Categories
from ..models.card import Card, Task, distinct_colors
from ..models.detectron2 import OWN, modern
from ..models.mask2former import Architecture, Mask2Former, transformers
from ..models.video_mask2former import VideoMask2Former
from .pickles import read_pickle

COCO_TEST, ADE20K_TEST = (1333, 800), (2560, 640)
YOUTUBEVIS_2019_TEST, YOUTUBEVIS_2021_TEST = (1333, 480), (1333, 360)
"""(long max, short max) of test images in pixels (spec h)."""

INSTANCES, TRACKS = 100, 10
"""Most instances of an image, and most tracks of a clip (spec h)."""

PUBLISHED: Mapping[str, Architecture] = {
    "mask2former-swin-l-coco-panoptic": Architecture(classes=133, queries=200),
    "mask2former-swin-l-coco-instance": Architecture(classes=80, queries=200),
    "mask2former-swin-l-ade20k-panoptic": Architecture(classes=150, queries=200),
    "mask2former-swin-l-ade20k-semantic": Architecture(classes=150, queries=100),
    "video-mask2former-swin-l-youtubevis-2019": Architecture(classes=40, queries=200),
    "video-mask2former-swin-l-youtubevis-2021": Architecture(classes=40, queries=200),
}
"""Networks of the published tables. Classes and queries tell them apart, but for the two years of YouTubeVIS."""

FILES: Mapping[str, str] = {
    "model_final_c5c739.pkl": "video-mask2former-swin-l-youtubevis-2019",
    "model_final_4da256.pkl": "video-mask2former-swin-l-youtubevis-2021",
}
"""Official files whose weights do not tell which network they are for."""

DATA: Mapping[str, tuple[Task, tuple[int, int], Callable[[], Categories]]] = {
    "mask2former-swin-l-coco-panoptic": ("panoptic", COCO_TEST, coco.panoptic_categories),
    "mask2former-swin-l-coco-instance": ("instance", COCO_TEST, coco.instance_categories),
    "mask2former-swin-l-ade20k-panoptic": ("panoptic", ADE20K_TEST, ade20k_panoptic.panoptic_categories),
    "mask2former-swin-l-ade20k-semantic": ("semantic", ADE20K_TEST, ade20k_panoptic.panoptic_categories),
    "video-mask2former-swin-l-youtubevis-2019": (
        "video",
        YOUTUBEVIS_2019_TEST,
        partial(youtubevis.video_categories, 2019),
    ),
    "video-mask2former-swin-l-youtubevis-2021": (
        "video",
        YOUTUBEVIS_2021_TEST,
        partial(youtubevis.video_categories, 2021),
    ),
}
"""Task, test size and classes of each."""


def network_of(card: Card) -> type[Mask2Former]:
    """The kind of network that does the card's task."""
    return VideoMask2Former if card.task == "video" else Mask2Former


def build(name: str) -> Mask2Former:
    """The published network ``name`` with random weights."""
    card = published_card(name)
    return network_of(card)(PUBLISHED[name], card)


def published_card(name: str) -> Card:
    """Classes and protocol of the published network ``name``."""
    task, resize, categories = DATA[name]
    listed = categories()
    return protocol(task, resize, listed.names, listed.palette, () if task == "semantic" else listed.things)


def protocol(
    task: Task,
    resize: tuple[int, int],
    classes: tuple[str, ...],
    palette: tuple[Color, ...] | None = None,
    things: tuple[int, ...] = (),
) -> Card:
    """The official protocol (spec h): antialiased resize, ImageNet statistics, zeros up to multiples of 32."""
    return Card(
        task,
        classes,
        distinct_colors(len(classes)) if palette is None else palette,
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        resize=resize,
        resampling="pillow",
        things=things,
        multiple=32,
        output="queries",
        instances=TRACKS if task == "video" else INSTANCES,
    )


def load(path: Path, architecture: str | None = None) -> Mask2Former:
    """Weights of a published network: an official ``.pkl``, or a folder that transformers wrote.

    Args:
        path: file or folder.
        architecture: name of the network; ``None`` takes the one with these numbers of classes and queries, of the two
            for YouTubeVIS the one whose official file is called like ``path``.

    Raises:
        ValueError: no such network, or weights that do not fit it; the message lists them.
    """
    if architecture is not None and architecture not in PUBLISHED:
        raise ValueError(f"unknown architecture {architecture!r}: expected one of {', '.join(PUBLISHED)}")
    reader = read_folder if path.is_dir() else read_official
    try:
        return reader(path, architecture)
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def read_official(path: Path, name: str | None) -> Mask2Former:
    """An official ``.pkl``; see ``load``."""
    state = modern(read_pickle(path))
    name = name or FILES.get(path.name) or matching(*_told(state))
    card = published_card(name)
    return network_of(card).from_detectron2(state, PUBLISHED[name], card)


def read_folder(path: Path, name: str | None) -> Mask2Former:
    """``config.json`` and weights as transformers writes them; nothing is fetched from anywhere. See ``load``."""
    kind = json.loads((path / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind != "mask2former":
        raise ValueError(f"expected the model_type 'mask2former' in config.json, got {kind!r}")
    library = transformers()
    config = library.Mask2FormerConfig.from_pretrained(path, local_files_only=True)
    found = Architecture.of(config)
    name = name or matching(found.classes, found.queries, found.embed)
    if found != PUBLISHED[name]:
        raise ValueError(f"not {name}: expected {PUBLISHED[name]}, got {found}")
    network = _whole(library.Mask2FormerForUniversalSegmentation, path, config)
    card = published_card(name)
    return network_of(card)(found, card, network).eval()


def _whole(kind: Any, path: Path, config: Any) -> Any:
    """The library's network with all weights of the folder; left alone, the library fills what is absent with noise."""
    try:
        network, told = kind.from_pretrained(path, config=config, local_files_only=True, output_loading_info=True)
    except (RuntimeError, OSError, SafetensorError) as error:
        raise ValueError(f"the weights cannot be read: {' '.join(str(error).split())}") from None
    if absent := sorted(name for name in told["missing_keys"] if not name.startswith(OWN)):
        some = ", ".join(absent[:5])
        raise ValueError(f"expected weights for the whole network, {len(absent)} are missing: {some}, …")
    return network


def matching(classes: int, queries: int, embed: int) -> str:
    """The one published network with these sizes; ValueError if there is none, or more than one."""
    sizes = classes, queries, embed
    fitting = [name for name, net in PUBLISHED.items() if (net.classes, net.queries, net.embed) == sizes]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ValueError(
            f"these weights fit {' as well as '.join(fitting)}, whose classes differ: name the architecture "
            "(expedit convert --architecture NAME), or call the file as it was published "
            f"({', '.join(file for file, name in FILES.items() if name in fitting)})"
        )
    raise ValueError(
        f"no published Mask2Former has {classes} classes, {queries} queries and {embed} channels; build yours with "
        "expedit.models.mask2former.Mask2Former from an Architecture and a Card, which also tell heads and task"
    )


def _told(state: Mapping[str, Tensor]) -> tuple[int, int, int]:
    """Classes, queries and embedding channels of official weights; ValueError if they are none."""
    names = (
        "sem_seg_head.predictor.class_embed.weight",
        "sem_seg_head.predictor.query_feat.weight",
        "backbone.patch_embed.proj.weight",
    )
    if absent := [name for name in names if name not in state]:
        raise ValueError(f"expected an official Mask2Former with a Swin backbone; missing: {', '.join(absent)}")
    classes, queries, embed = (len(state[name]) for name in names)
    return classes - 1, queries, embed
