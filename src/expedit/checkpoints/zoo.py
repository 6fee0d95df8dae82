"""Names and files to models: what ships with the package, what can be built, what can be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..models.card import Task, generic_card
from ..models.segmenter import Segmenter
from ..models.vit import Interpolation
from . import exported, mask2former, safetensors_format, segmenter
from .contents import Contents, opened
from .foreign import NotCheckpoint
from .hub import HUB_NAME, load_pretrained, read_config, sentence
from .reading import FileReader, Loaded, Options
from .recognise import Network, find

WEIGHTS = Path(__file__).parent / "weights"

SHIPPED: dict[str, Path] = {"segmenter-mini": WEIGHTS / "segmenter-mini.safetensors"}
"""Models whose weights come with the package."""

ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "segmenter-vit-l16-ade20k": lambda: segmenter_large(150, 640, 640, (2560, 640), 2),
    "segmenter-vit-l16-cityscapes": lambda: segmenter_large(19, 768, 512, (2048, 1024), 1),
    "segmenter-vit-l16-pascal-context": lambda: segmenter_large(60, 480, 320, (4160, 520), 2),
    **{name: partial(mask2former.build, name) for name in mask2former.PUBLISHED},
}
"""Networks of the published tables, built with random weights: for counting and timing."""

READERS: Mapping[str, FileReader] = {
    "segmenter": segmenter.read,
    "mask2former": mask2former.read,
}
"""Readers of files by the family of network whose keys they have, see ``recognise.SIGNS``."""

FILE_ENDINGS = frozenset({".bin", ".ckpt", ".npz", ".onnx", ".pkl", ".pt", ".pth", ".safetensors"})
"""How files of weights end, and no hub name."""


def load(
    source: str | Path,
    *,
    norm_eps: float | None = None,
    pos_embed: Interpolation | None = None,
    architecture: str | None = None,
    image_size: tuple[int, int] | None = None,
    part: str | None = None,
    revision: str | None = None,
    task: Task | None = None,
    size: int | tuple[int, int] | None = None,
) -> nn.Module:
    """A trained model in evaluation mode.

    Args:
        source: a name out of ``SHIPPED``, or the path of a checkpoint, which is known by what is in it: a file of ours,
            also one that ``expedit.export`` wrote for ONNX Runtime or OpenVINO; an official Segmenter folder; a file
            with the keys of the original Segmenter, of the Expedit repository, of mmsegmentation's Segmenter or of an
            official Mask2Former; a folder that transformers wrote. What is no path may be ``owner/name``, which
            transformers fetches from its hub.
        norm_eps: epsilon of a Segmenter encoder's LayerNorms, instead of what the checkpoint says or stands for.
        pos_embed: how its positions are resized, "bicubic" or "bilinear", likewise.
        architecture: name of a Mask2Former's network; by default the published one with as many classes and queries.
        image_size: (height, width) in pixels that a Segmenter was made for; a square where the checkpoint does not say.
        part: which weights, where a file has several, such as "model_ema".
        revision: branch, tag or commit of a hub name.
        task: what ``predict`` shall make of a network of transformers. By default what its processor or its name says,
            else the first of its family. A published Mask2Former for which neither ``task`` nor ``size`` is given
            follows its official protocol instead of the library's.
        size: for such a network whose task is features: pixels of the shorter side, or (height, width), in place of
            what its processor says. The whole image is seen, without a crop, at multiples of the patch.

    Raises:
        FileNotFoundError: neither a name nor a file.
        ImportError: a network of transformers without the library.
        ValueError: a name without weights, or a file that is not a checkpoint we read; the message says what it is.

    Example:
        >>> import expedit
        >>> model = expedit.load("segmenter-mini")
        >>> model.card.task, len(model.card.classes)
        ('semantic', 12)
    """
    options = Options(norm_eps, pos_embed, image_size, architecture, part, revision, task, size)
    return read(source, options).model


def read(source: str | Path, options: Options) -> Loaded:
    """What ``load`` returns, and what became of the checkpoint; see there."""
    if is_library(source):
        return read_library(source, options)
    path = _path(source)
    try:
        if program := exported.runtime_of(path):
            return exported.read(path, program, options)
        weights = segmenter.weights_in(path) if path.is_dir() else path
        with opened(weights) as contents:
            if safetensors_format.is_ours(contents):
                return safetensors_format.read_model(weights, contents, options)
            network = _found(weights, contents, options)
            return READERS[network.family](weights, contents, network, options)
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def is_library(source: str | Path) -> bool:
    """Whether transformers reads it: a folder that it wrote, or what is no path and can be ``owner/name``."""
    path = Path(source)
    if path.exists():
        return (path / "config.json").is_file()
    return bool(HUB_NAME.fullmatch(str(source))) and path.suffix.lower() not in FILE_ENDINGS


def read_library(source: str | Path, options: Options) -> Loaded:
    """A published Mask2Former as ours, all others as the library has them, with the library's processor."""
    with sentence(source):
        asked = options.only("architecture", "revision", "task", "size").keys() & {"task", "size"}
        if options.architecture and asked:
            raise ValueError(f"architecture goes with our Mask2Former, {' and '.join(asked)} with the library's")
        published = not asked and mask2former.is_published(read_config(source, options.revision))
        if published or options.architecture:
            return mask2former.read_library(source, options)
        return Loaded(load_pretrained(source, options.revision, options.task, options.size), "network of transformers")


def _found(path: Path, contents: Contents, options: Options) -> Network:
    """The network in a file; where there is none of ours, whoever wrote it may read its folder."""
    try:
        return find(contents, options.part)
    except NotCheckpoint as error:
        if is_library(path.parent):
            raise NotCheckpoint(f"{error}; it lies in a folder of transformers: give the folder") from None
        raise


def _path(source: str | Path) -> Path:
    """Where the weights of ``source`` are."""
    name = str(source)
    if name in ARCHITECTURES:
        raise ValueError(f"{name!r} is an architecture without weights: give a checkpoint, or benchmark it as it is")
    path = SHIPPED.get(name, Path(source))
    if not path.exists():
        known = [*SHIPPED, *ARCHITECTURES]
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise FileNotFoundError(f"{name!r} is neither a file nor a model; {hint}known models: {', '.join(known)}")
    return path


def build(name: str, device: str = "cpu", **settings: Any) -> nn.Module:
    """The network called ``name`` in evaluation mode: trained where it ships or is a checkpoint, random otherwise.

    Args:
        name: an architecture, or what ``load`` takes.
        device: where an architecture's random weights lie; "meta" needs no memory, for counting.
        **settings: keywords of ``load``.

    Raises:
        ValueError: settings for an architecture; and as ``load``.
    """
    if name not in ARCHITECTURES:
        return load(name, **settings)
    if given := [key for key, value in settings.items() if value is not None]:
        raise ValueError(f"{given[0]}: {name} is an architecture of expedit, which has one form; leave it")
    with torch.device(device):
        return ARCHITECTURES[name]().eval().to(device)  # not every library heeds the default device


def segmenter_large(classes: int, crop: int, stride: int, resize: tuple[int, int], head_layers: int) -> Segmenter:
    """Segmenter ViT-L/16 with the mask transformer, as published, with random weights."""
    model = Segmenter(classes=classes, image_size=(crop, crop), head_layers=head_layers)
    model.card = replace(generic_card(classes, crop), stride=stride, resize=resize)
    return model
