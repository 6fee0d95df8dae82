"""Official Segmenter checkpoints in both key styles (spec g.1).

The original code leaves a folder with ``checkpoint.pth`` and ``variant.yml``. The Expedit repository renames the keys
of that checkpoint for mmsegmentation. A ``.pth`` alone is read too; what it does not tell is guessed from its sizes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ..data.cityscapes import CLASSES as CITYSCAPES
from ..data.class_list import ClassList, shipped_class_list
from ..models.card import Card, distinct_colors
from ..models.segmenter import Segmenter
from ..models.vit import Interpolation
from .segmenter_variant import NORMALISATIONS, Variant, read_variant
from .torch_files import read_state_dict

WEIGHTS_NAME, VARIANT_NAME = "checkpoint.pth", "variant.yml"

UNUSED = ("encoder.head.", "backbone.head.", "decode_head.conv_seg.", "auxiliary_head.")
"""Keys of classifiers that segmentation never runs."""

RENAMED = (
    (r"^backbone\.patch_embed\.projection\.", "encoder.patch_embed.proj."),
    (r"^backbone\.ln1\.", "encoder.norm."),
    (r"^backbone\.", "encoder."),
    (r"^decode_head\.", "decoder."),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
    (r"\.attn\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.attn\.out_proj\.", ".attn.proj."),
    (r"\.layers\.(\d+)\.ln([12])\.", r".blocks.\1.norm\2."),
    (r"\.layers\.(\d+)\.", r".blocks.\1."),
)
"""From the names after the Expedit repository's preprocessing to the official ones, in this order."""

PUBLISHED = {
    (150, 640): ("ade20k", 640, 640),
    (19, 768): ("cityscapes", 1024, 512),
    (60, 480): ("pascal_context", 520, 320),
}
"""Data set, short side and stride of the published weights by (classes, crop), where no ``variant.yml`` tells."""

ASPECTS = {"ade20k": 4, "cityscapes": 2, "pascal_context": 8}
"""Longest side of test images as a multiple of the shortest, by data set (spec h)."""


def read_segmenter(path: Path, norm_eps: float | None = None, pos_embed: Interpolation | None = None) -> Segmenter:
    """The network of ``read_official`` alone."""
    return read_official(path, norm_eps, pos_embed)[0]


def read_official(
    path: Path, norm_eps: float | None = None, pos_embed: Interpolation | None = None
) -> tuple[Segmenter, tuple[str, ...]]:
    """Read an official Segmenter folder, or a ``.pth`` file with official or mmsegmentation key names.

    Args:
        path: the folder, or the file; a ``variant.yml`` beside the file is read with it.
        norm_eps: epsilon of the encoder's LayerNorms. By default that of the code the key names belong to: 1e-5 for
            official names, 1e-6 for those of the Expedit repository, with which the published tables were made.
        pos_embed: how positions are resized to other image sizes, likewise "bilinear" or "bicubic".

    Returns:
        The network in evaluation mode, and the keys of the file that have no use in it.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: damaged, would run code when read, or no Segmenter: all missing and unknown keys are listed.
    """
    weights = path / WEIGHTS_NAME if path.is_dir() else path
    variant = _variant_of(path, weights)
    tensors = read_state_dict(weights)
    unused = tuple(sorted(name for name in tensors if name.startswith(UNUSED)))
    renamed = any(name.startswith("decode_head.") for name in tensors)
    state = {official_name(name): value for name, value in tensors.items() if name not in unused}
    try:
        model = Segmenter.from_state_dict(
            state,
            num_heads=variant.heads if variant else None,
            image_size=variant.image_size if variant else None,
            head_num_heads=_head_heads(state),
            norm_eps=norm_eps or (1e-6 if renamed else 1e-5),
            pos_embed=pos_embed or ("bicubic" if renamed else "bilinear"),
        )
    except ValueError as error:
        raise ValueError(f"{weights}: {error}") from None
    model.card = card(variant or guessed(model), len(model.card.classes))
    return model, unused


def _variant_of(path: Path, weights: Path) -> Variant | None:
    """What stands beside the weights; a folder must have both files."""
    variant = weights.with_name(VARIANT_NAME)
    missing = [file.name for file in (weights, variant) if not file.is_file()]
    if path.is_dir() and missing:
        raise FileNotFoundError(
            f"{path}: expected an official Segmenter folder with {WEIGHTS_NAME} and {VARIANT_NAME};"
            f" missing: {', '.join(missing)}"
        )
    return read_variant(variant) if variant.is_file() else None


def official_name(name: str) -> str:
    """The official name of a key that the Expedit repository's preprocessing renamed; official ones stay."""
    if name.startswith(("backbone.", "decode_head.")):
        for theirs, ours in RENAMED:
            name = re.sub(theirs, ours, name)
    return name


def _head_heads(state: Mapping[str, Tensor]) -> int | None:
    """Heads of the mask transformer: in no file, the official loader derives them from the width."""
    embeddings = state.get("decoder.cls_emb")
    return None if embeddings is None else max(embeddings.shape[-1] // 64, 1)


def guessed(model: Segmenter) -> Variant:
    """What ``variant.yml`` would tell: exact for the published weights, whole crops side by side for others."""
    classes, grid = len(model.card.classes), model.encoder.nominal
    crop = min(grid) * model.encoder.patch
    dataset, short_side, stride = PUBLISHED.get((classes, crop), ("", crop, crop))
    return Variant(model.encoder.heads, None, dataset, short_side, crop, stride, *NORMALISATIONS["vit"])


def card(variant: Variant, classes: int) -> Card:
    """The protocol of an official checkpoint; classes are numbered where the data set is not one we know."""
    names, palette = _class_list(variant.dataset, classes)
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
