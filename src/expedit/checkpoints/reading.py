"""What readers of checkpoints take and give."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from ..models.card import Task
from ..models.vit import Interpolation
from .contents import Contents
from .recognise import Network


@dataclass(frozen=True)
class Options:
    """What whoever loads knows better than the checkpoint; ``None`` for the rest.

    Attributes:
        norm_eps: epsilon of a Segmenter encoder's LayerNorms.
        pos_embed: how its positions are resized, "bicubic" or "bilinear".
        image_size: (height, width) in pixels that its positions were made for.
        architecture: name of a Mask2Former's network.
        part: which weights, where a file has several, such as "model_ema".
        revision: branch, tag or commit of a hub name.
        task: what ``expedit.predict`` makes of a network of transformers.
        size: pixels of its shorter side, or (height, width), where its task is features.
    """

    norm_eps: float | None = None
    pos_embed: Interpolation | None = None
    image_size: tuple[int, int] | None = None
    architecture: str | None = None
    part: str | None = None
    revision: str | None = None
    task: Task | None = None
    size: int | tuple[int, int] | None = None

    def only(self, *known: str) -> dict[str, Any]:
        """Those that are given; ValueError for any but ``known`` ones."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if unfit := [name for name in given if name not in known]:
            raise ValueError(f"{', '.join(unfit)} has no meaning for this checkpoint")
        return given


@dataclass(frozen=True)
class Loaded:
    """A model, and what became of its checkpoint.

    Attributes:
        model: in evaluation mode.
        kind: what the checkpoint is, in words.
        path: keys that lead to the weights in the file.
        peeled: prefixes and wrappers that were taken off the keys.
        unused: keys that have no use in the model.
        others: where else in the file there is a network.
    """

    model: nn.Module
    kind: str
    path: tuple[str, ...] = ()
    peeled: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


class FileReader(Protocol):
    """Makes a model of a network in an open file; ValueError where it does not fit."""

    def __call__(self, path: Path, contents: Contents, network: Network, options: Options) -> Loaded:
        """``path`` is that of ``contents``, which have ``network`` in them."""
