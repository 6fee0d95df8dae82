"""Segmenter checkpoints with the keys of the original, of the Expedit repository and of mmsegmentation.

The original leaves a folder with ``checkpoint.pth`` and ``variant.yml``. The Expedit repository renames the keys of
that checkpoint for mmsegmentation, whose own Segmenter has other names in the head. What a file alone does not say is
guessed from its sizes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data.cityscapes import CLASSES as CITYSCAPES
from ..data.class_list import ClassList, shipped_class_list
from ..models.card import Card, distinct_colors
from ..models.segmenter import Numerics, Segmenter
from .contents import Contents
from .reading import Loaded, Options
from .recognise import Network
from .segmenter_variant import NORMALISATIONS, Variant, read_variant

WEIGHTS_NAME, VARIANT_NAME = "checkpoint.pth", "variant.yml"

ORIGINAL, EXPEDIT = Numerics(1e-5, 1e-5, "bilinear"), Numerics()
"""Of the two codes; mmsegmentation's is that of the Expedit repository, which is built on it."""

UNUSED = ("encoder.head.", "backbone.head.", "auxiliary_head.")
"""Keys of classifiers that segmentation never runs."""

LINEAR = "decode_head.conv_seg."
"""The linear head of mmsegmentation, and a layer without use where there is a mask transformer."""

RENAMED = (
    (r"^backbone\.patch_embed\.projection\.", "encoder.patch_embed.proj."),
    (r"^backbone\.ln1\.", "encoder.norm."),
    (r"^backbone\.", "encoder."),
    (r"^decode_head\.conv_seg\.", "decoder.head."),
    (r"^decode_head\.dec_proj\.", "decoder.proj_dec."),
    (r"^decode_head\.(patch|classes)_proj\.weight$", r"decoder.proj_\1"),
    (r"^decode_head\.", "decoder."),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
    (r"\.attn\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.attn\.out_proj\.", ".attn.proj."),
    (r"\.layers\.(\d+)\.ln([12])\.", r".blocks.\1.norm\2."),
    (r"\.layers\.(\d+)\.", r".blocks.\1."),
)
"""From the names of mmsegmentation and of the Expedit repository to the official ones, in this order."""

TRANSPOSED = ("decode_head.patch_proj.weight", "decode_head.classes_proj.weight")
"""Linear layers of mmsegmentation that the original writes as a product from the right."""

PUBLISHED = {
    (150, 640): ("ade20k", 640, 640),
    (19, 768): ("cityscapes", 1024, 512),
    (60, 480): ("pascal_context", 520, 320),
}
"""Data set, short side and stride of the published weights by (classes, crop), where no ``variant.yml`` says."""

ASPECTS = {"ade20k": 4, "cityscapes": 2, "pascal_context": 8}
"""Longest side of test images as a multiple of the shortest, by data set."""


def read(path: Path, contents: Contents, network: Network, options: Options) -> Loaded:
    """A Segmenter out of an open file.

    Args:
        path: the file; a ``variant.yml`` beside it is read with it.
        contents, network: what is in it.
        options: without them, numerics are those of the code the keys belong to: ``ORIGINAL`` or ``EXPEDIT``, with
            which the published tables were made.

    Raises:
        ValueError: all missing and unknown keys are listed.
    """
    given = options.only("norm_eps", "pos_embed", "image_size", "part")
    variant = read_variant(path.with_name(VARIANT_NAME)) if path.with_name(VARIANT_NAME).is_file() else None
    renamed = any(name.startswith("decode_head.") for name in network.tensors)
    unneeded = (*UNUSED, LINEAR) if "decode_head.cls_emb" in network.tensors else UNUSED
    used = {name: tensor for name, tensor in network.tensors.items() if not name.startswith(unneeded)}
    state = dict(_official(name, tensor) for name, tensor in contents.read(used).items())
    settings = asdict(EXPEDIT if renamed else ORIGINAL) | {"head_num_heads": _head_heads(state)}
    if variant:
        settings |= {"num_heads": variant.heads, "image_size": variant.image_size}
    given.pop("part", None)
    model = Segmenter.from_state_dict(state, **(settings | given))
    count = len(model.card.classes)
    model.card = card(variant or guessed(model), count, listed_classes(contents.beside, count))
    kind = "Segmenter of mmsegmentation or the Expedit repository" if renamed else "Segmenter of the original"
    unused = (*network.unused, *sorted(network.tensors.keys() - used.keys()))
    return Loaded(model, kind, network.path, network.peeled, unused, network.others)


def weights_in(folder: Path) -> Path:
    """The weights in an official folder; FileNotFoundError if they or their configuration are not there."""
    if missing := [name for name in (WEIGHTS_NAME, VARIANT_NAME) if not (folder / name).is_file()]:
        raise FileNotFoundError(
            f"{folder}: expected a folder of transformers with a config.json, or an official Segmenter folder with "
            f"{WEIGHTS_NAME} and {VARIANT_NAME}; missing: {', '.join(missing)}"
        )
    return folder / WEIGHTS_NAME


def official_name(name: str) -> str:
    """The official name of a key of mmsegmentation or the Expedit repository; official ones stay."""
    if name.startswith(("backbone.", "decode_head.")):
        for theirs, ours in RENAMED:
            name = re.sub(theirs, ours, name)
    return name


def _official(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    """Name and tensor as the original has them."""
    if name in TRANSPOSED and tensor.ndim == 2:
        tensor = tensor.T.contiguous()
    if name == LINEAR + "weight" and tensor.ndim == 4:  # a 1 x 1 convolution
        tensor = tensor.flatten(1)
    return official_name(name), tensor


def _head_heads(state: Mapping[str, Tensor]) -> int | None:
    """Heads of the mask transformer: in no file, the official loader derives them from the width."""
    embeddings = state.get("decoder.cls_emb")
    return None if embeddings is None or not embeddings.ndim else max(embeddings.shape[-1] // 64, 1)


def guessed(model: Segmenter) -> Variant:
    """What ``variant.yml`` would say: exact for the published weights, whole crops side by side for others."""
    size, classes = model.settings()["image_size"], len(model.card.classes)
    crop = min(size)
    published = PUBLISHED.get((classes, crop)) if size == (crop, crop) else None
    dataset, short_side, stride = published or ("", crop, crop)
    return Variant(model.encoder.heads, size, dataset, short_side, crop, stride, *NORMALISATIONS["vit"])


def card(variant: Variant, classes: int, listed: ClassList | None = None) -> Card:
    """The protocol of an official checkpoint.

    Args:
        variant: its configuration.
        classes: how many it has.
        listed: names and colours in the file; those of the data set, or numbers, unless given.
    """
    names, palette = listed or _class_list(variant.dataset, classes)
    return Card(
        "semantic",
        names,
        palette,
        mean=variant.mean,
        std=variant.std,
        resize=(ASPECTS.get(variant.dataset, 4) * variant.short_side, variant.short_side),
        crop=variant.crop,
        stride=variant.stride,
    )


def _class_list(dataset: str, classes: int) -> ClassList:
    """Names and colours of the data set the weights were trained on, if it has as many classes."""
    names: tuple[str, ...] = ()
    if dataset == "cityscapes":
        names, palette = tuple(name for _, name, _ in CITYSCAPES), tuple(color for _, _, color in CITYSCAPES)
    elif dataset in ASPECTS:
        names, palette = shipped_class_list(dataset)
    if len(names) != classes:
        names, palette = tuple(f"class {index}" for index in range(classes)), distinct_colors(classes)
    return names, palette


def listed_classes(beside: Mapping[Any, Any], count: int) -> ClassList | None:
    """Names and colours that mmsegmentation writes beside the weights; ``None`` if they are not ``count`` of each."""
    meta = beside.get("meta")
    for place in (meta.get("dataset_meta"), meta) if isinstance(meta, dict) else ():
        lists = {str(key).lower(): value for key, value in place.items()} if isinstance(place, dict) else {}
        names, palette = lists.get("classes"), lists.get("palette")
        if not isinstance(names, (list, tuple)) or len(names) != count or not all(map(_is_text, names)):
            continue
        colors = palette if isinstance(palette, (list, tuple)) and len(palette) == count else ()
        if not all(_is_color(color) for color in colors) or not colors:
            return tuple(names), distinct_colors(count)
        return tuple(names), tuple((color[0], color[1], color[2]) for color in colors)
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


def _is_color(value: Any) -> bool:
    channels = isinstance(value, (list, tuple)) and len(value) == 3
    return channels and all(type(channel) is int and 0 <= channel <= 255 for channel in value)
