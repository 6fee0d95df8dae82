"""Names and files to models: what ships with the package, what can be built, what can be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from torch import nn

from . import files
from .card import generic_card
from .segmenter import Segmenter

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
}
"""Networks of the published tables, built with random weights: for counting and timing."""


def build(name: str) -> nn.Module:
    """The network called ``name``: with its weights where they ship, with random ones otherwise, evaluation mode."""
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]().eval()
    return load(name)


def load(source: str | Path) -> nn.Module:
    """A trained model in evaluation mode.

    Args:
        source: a name out of ``SHIPPED``, or the path of a checkpoint.

    Raises:
        FileNotFoundError: neither a name nor a file.
        ValueError: a name without weights, or a file that is not a checkpoint we read; the message says why.
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
    return READERS[_kind(path)](path)


def _kind(path: Path) -> str:
    """Which reader a path is for; ValueError lists what can be read."""
    kind = "folder" if path.is_dir() else path.suffix
    if kind not in READERS:
        raise ValueError(f"{path}: expected one of {', '.join(READERS)}, got {kind or 'a file without suffix'!r}")
    return kind


def read_safetensors(path: Path) -> Segmenter:
    """Our own file, or bare official keys in safetensors."""
    state, metadata = files.read(path)
    settings = json.loads(metadata.get("settings", "{}"))
    try:
        model = Segmenter.from_state_dict(state, **settings)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if "card" in metadata:
        model.card = files.card_from(json.loads(metadata["card"]))
    return model


READERS: dict[str, Callable[[Path], nn.Module]] = {".safetensors": read_safetensors}
"""Reader by suffix, or ``folder``."""
