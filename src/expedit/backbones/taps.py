"""Who reads the output of a block besides the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from torch import nn


class Taps(NamedTuple):
    """What a model reads of its backbone.

    Attributes:
        blocks: 0-based, whose output is read.
        declared: whether that of all others is not read, but for a caller who asks for all hidden states.
        reader: the module that takes this wish, and the hidden states.
    """

    blocks: tuple[int, ...] = ()
    declared: bool = False
    reader: nn.Module | None = None


READERS: dict[str, Callable[[Any], Iterable[int]]] = {
    **dict.fromkeys(
        ("DPTForDepthEstimation", "DPTForSemanticSegmentation"),
        lambda model: model.config.backbone_out_indices[2 if model.config.is_hybrid else 0 :],
    ),
    "CLIPSegForImageSegmentation": lambda model: model.extract_layers,
    "BeitForSemanticSegmentation": lambda model: [index - 2 for index in model.config.out_indices],
}
"""Models that read hidden states of their backbone: which blocks' outputs."""


def taps_of(model: nn.Module, path: str) -> Taps:
    """What is read of the host at ``path`` of ``model``, looked for from the host outwards.

    Stage k of a backbone's ``out_features`` is the output of block k - 1.
    """
    names = path.split(".") if path else []
    line: list[Any] = [model.get_submodule(".".join(names[:end])) for end in range(len(names), -1, -1)]
    if type(line[0]).__name__ == "SamHQVisionEncoder":  # collects what its global blocks return
        return Taps(tuple(index for index, block in enumerate(line[0].layers) if block.window_size == 0))
    for module in line:
        if type(module).__name__ in READERS:
            return Taps(tuple(READERS[type(module).__name__](module)), True, module)
        stages, features = getattr(module, "stage_names", None), getattr(module, "out_features", None)
        if stages is not None and features is not None:
            return Taps(tuple(list(stages).index(feature) - 1 for feature in features), True, module)
    return Taps()
