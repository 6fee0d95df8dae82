"""The published Mask2Former models: sizes, classes and protocols by name, and the files that hold their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data import ade20k_panoptic, coco, youtubevis
from ..data.annotations import Categories
from ..data.class_list import Color
from ..models.card import Card, Task, distinct_colors
from ..models.detectron2 import IGNORED, OWN, modern
from ..models.mask2former import Architecture, Mask2Former, transformers
from ..models.video_mask2former import VideoMask2Former
from .contents import Contents
from .hub import read_config, whole
from .reading import Loaded, Options
from .recognise import Network

COCO_TEST, ADE20K_TEST = (1333, 800), (2560, 640)
YOUTUBEVIS_2019_TEST, YOUTUBEVIS_2021_TEST = (1333, 480), (1333, 360)
"""(long max, short max) of test images in pixels."""

INSTANCES, TRACKS = 100, 10
"""Most instances of an image, and most tracks of a clip."""

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
"""Official files whose weights do not say which network they are for."""

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
    """The official protocol: antialiased resize, ImageNet statistics, zeros up to multiples of 32."""
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


def read(path: Path, contents: Contents, network: Network, options: Options) -> Loaded:
    """A published network out of an open file with official keys.

    Args:
        path: the file; its name tells which of the two for YouTubeVIS it is.
        contents, network: what is in it.
        options: ``architecture`` names the network; by default the one with these numbers of classes and queries.

    Raises:
        ValueError: no such network, or weights that do not fit it; the message lists them.
    """
    options.only("architecture", "part")
    needed = {name: tensor for name, tensor in network.tensors.items() if not IGNORED.search(name)}
    state = modern(contents.read(needed))
    name = _known(options.architecture) or FILES.get(path.name) or matching(*_sizes(state))
    card = published_card(name)
    model = network_of(card).from_detectron2(state, PUBLISHED[name], card)
    unused = (*network.unused, *sorted(network.tensors.keys() - needed.keys()))
    return Loaded(model, "Mask2Former of detectron2", network.path, network.peeled, unused, network.others)


def is_published(config: Mapping[str, Any]) -> bool:
    """Whether a ``config.json`` of transformers describes a published network, for which our protocol is official."""
    if config.get("model_type") != "mask2former":
        return False
    try:
        return Architecture.of(transformers().Mask2FormerConfig.from_dict(dict(config))) in PUBLISHED.values()
    except ValueError:  # another backbone
        return False


def read_library(source: str | Path, options: Options) -> Loaded:
    """A published network as transformers writes it, in a folder or under a hub name.

    Raises:
        ValueError: no such network, or weights that are not all there.
    """
    options.only("architecture", "revision")
    described = read_config(source, options.revision)
    if described.get("model_type") != "mask2former":
        raise ValueError(f"expected the model_type 'mask2former' in config.json, got {described.get('model_type')!r}")
    library = transformers()
    config = library.Mask2FormerConfig.from_dict(described)
    found = Architecture.of(config)
    name = _known(options.architecture) or matching(found.classes, found.queries, found.embed)
    if found != PUBLISHED[name]:
        raise ValueError(f"not {name}: expected {PUBLISHED[name]}, got {found}")
    kind = library.Mask2FormerForUniversalSegmentation
    network = whole(kind, source, may_lack=OWN, config=config, revision=options.revision)
    card = published_card(name)
    return Loaded(network_of(card)(found, card, network).eval(), "Mask2Former of transformers")


def _known(architecture: str | None) -> str | None:
    if architecture is not None and architecture not in PUBLISHED:
        raise ValueError(f"unknown architecture {architecture!r}: expected one of {', '.join(PUBLISHED)}")
    return architecture


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
        "expedit.models.mask2former.Mask2Former from an Architecture and a Card, which also say heads and task"
    )


def _sizes(state: Mapping[str, Tensor]) -> tuple[int, int, int]:
    """Classes, queries and embedding channels of official weights; ValueError if they are none."""
    names = (
        "sem_seg_head.predictor.class_embed.weight",
        "sem_seg_head.predictor.query_feat.weight",
        "backbone.patch_embed.proj.weight",
    )
    if absent := [name for name in names if name not in state]:
        raise ValueError(f"expected an official Mask2Former with a Swin backbone; missing: {', '.join(absent)}")
    classes, queries, embed = (state[name].shape[0] if state[name].ndim else 0 for name in names)
    return classes - 1, queries, embed
