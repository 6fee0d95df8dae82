"""Names and files to models: what ships with the package, what can be built, what can be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..models.card import generic_card
from ..models.mask2former import Mask2Former
from ..models.segmenter import Segmenter
from ..models.video_mask2former import VideoMask2Former
from ..models.vit import Interpolation
from . import mask2former, safetensors_format
from .segmenter import read_segmenter

WEIGHTS = Path(__file__).parent / "weights"

SHIPPED: dict[str, Path] = {"segmenter-mini": WEIGHTS / "segmenter-mini.safetensors"}
"""Models whose weights come with the package."""


def segmenter_large(classes: int, crop: int, stride: int, resize: tuple[int, int], head_layers: int) -> Segmenter:
    """Segmenter ViT-L/16 with the mask transformer, as published, with random weights."""
    model = Segmenter(classes=classes, image_size=(crop, crop), head_layers=head_layers)
    model.card = replace(generic_card(classes, crop), stride=stride, resize=resize)
    return model


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "segmenter-vit-l16-ade20k": lambda: segmenter_large(150, 640, 640, (2560, 640), 2),
    "segmenter-vit-l16-cityscapes": lambda: segmenter_large(19, 768, 512, (2048, 1024), 1),
    "segmenter-vit-l16-pascal-context": lambda: segmenter_large(60, 480, 320, (4160, 520), 2),
    **{name: partial(mask2former.build, name) for name in mask2former.PUBLISHED},
}
"""Networks of the published tables, built with random weights: for counting and timing."""


def build(name: str, device: str = "cpu") -> nn.Module:
    """The network called ``name`` in evaluation mode: trained where it ships or is a checkpoint, random otherwise.

    Args:
        name: an architecture, or what ``load`` takes.
        device: where an architecture's random weights lie; "meta" needs no memory, for counting.
    """
    if name not in ARCHITECTURES:
        return load(name)
    with torch.device(device):
        return ARCHITECTURES[name]().eval().to(device)  # not every library heeds the default device


def load(
    source: str | Path,
    *,
    norm_eps: float | None = None,
    pos_embed: Interpolation | None = None,
    architecture: str | None = None,
) -> nn.Module:
    """A trained model in evaluation mode.

    Args:
        source: a name out of ``SHIPPED``, or the path of a checkpoint: an official Segmenter folder or ``.pth``,
            an official Mask2Former ``.pkl``, a folder that transformers wrote, or our ``.safetensors``.
        norm_eps: epsilon of a Segmenter encoder's LayerNorms, instead of what the checkpoint says or stands for.
        pos_embed: how its positions are resized, "bicubic" or "bilinear", likewise.
        architecture: name of a Mask2Former's network; by default the published one with as many classes and queries.

    Raises:
        FileNotFoundError: neither a name nor a file.
        ValueError: a name without weights, or a file that is not a checkpoint we read; the message says why.

    Example:
        >>> import expedit
        >>> model = expedit.load("segmenter-mini")
        >>> model.card.task, len(model.card.classes)
        ('semantic', 12)
    """
    name = str(source)
    if name in ARCHITECTURES:
        raise ValueError(f"{name!r} is an architecture without weights: give a checkpoint, or benchmark it as it is")
    path = SHIPPED.get(name, Path(source))
    if not path.exists():
        known = [*SHIPPED, *ARCHITECTURES]
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise FileNotFoundError(f"{name!r} is neither a file nor a model; {hint}known models: {', '.join(known)}")
    given = {"norm_eps": norm_eps, "pos_embed": pos_embed, "architecture": architecture}
    given = {key: value for key, value in given.items() if value is not None}
    kind = _kind(path)
    if unfit := [key for key in given if key not in SETTINGS[kind]]:
        raise ValueError(f"{path}: {', '.join(unfit)} has no meaning for this checkpoint")
    return READERS[kind](path, **given)


def _kind(path: Path) -> str:
    """Which reader a path is for; ValueError lists what can be read."""
    kind = path.suffix
    if path.is_dir():
        kind = "transformers folder" if (path / "config.json").is_file() else "folder"
    if kind not in READERS:
        raise ValueError(f"{path}: expected one of {', '.join(READERS)}, got {kind or 'a file without suffix'!r}")
    return kind


QUERY_MODELS: dict[str | None, type[Mask2Former]] = {
    "Mask2Former": Mask2Former,
    "VideoMask2Former": VideoMask2Former,
}
"""Networks that our files name; those without a name are Segmenters."""


def read_safetensors(path: Path, **overrides: Any) -> nn.Module:
    """Our own file, or bare official Segmenter keys in safetensors; ``overrides`` of ``Segmenter.from_state_dict``."""
    state, told = safetensors_format.read(path)
    try:
        if told.model in QUERY_MODELS:
            if told.card is None:
                raise ValueError(f"a {told.model} needs the card in the file's metadata, and there is none")
            return QUERY_MODELS[told.model].from_settings(state, told.settings, told.card)
        model = Segmenter.from_state_dict(state, **{**told.settings, **overrides})
    except (ValueError, TypeError) as error:  # TypeError: settings that this version does not know
        raise ValueError(f"{path}: {error}") from None
    if told.card is not None:
        model.card = told.card
    return model


READERS: dict[str, Callable[..., nn.Module]] = {
    ".safetensors": read_safetensors,
    ".pth": read_segmenter,
    ".pkl": mask2former.load,
    "folder": read_segmenter,
    "transformers folder": mask2former.load,
}
"""Reader by suffix or kind of folder: from a path, and the keywords of ``load`` that were given, to a model."""

SETTINGS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((".safetensors", ".pth", "folder"), ("norm_eps", "pos_embed")),
    **dict.fromkeys((".pkl", "transformers folder"), ("architecture",)),
}
"""Keywords of ``load`` that each reader knows."""
