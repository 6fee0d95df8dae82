"""Our own checkpoint format: safetensors with the settings that tensors do not say and the card in its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..data.writing import whole
from ..models.card import Card
from ..models.mask2former import Mask2Former
from ..models.programs import FORMAT
from ..models.segmenter import Segmenter
from ..models.video_mask2former import VideoMask2Former
from .contents import Contents, opened
from .reading import Loaded, Options

NETWORKS: Mapping[str, type[Segmenter | Mask2Former]] = {
    "Segmenter": Segmenter,
    "Mask2Former": Mask2Former,
    "VideoMask2Former": VideoMask2Former,
}
"""Networks by the name in the metadata."""


class Metadata(NamedTuple):
    """What a file says beside its tensors; a bare one says nothing.

    Attributes:
        model: class name of the network.
        settings: what it was built with that tensors do not say.
        card: its protocol.
    """

    model: str | None
    settings: dict[str, Any]
    card: Card | None


def save(
    model: nn.Module, path: Path, dtype: torch.dtype | None = None, extra: Mapping[str, str] | None = None
) -> None:
    """Write weights, settings and card of a zoo model; ``dtype`` narrows the stored floats, ``extra`` is provenance.

    The file appears whole or not at all.
    """
    tensors = {
        name: (value.to(dtype) if dtype and value.is_floating_point() else value).contiguous()
        for name, value in model.state_dict().items()
    }
    metadata = {
        "format": FORMAT,
        "model": type(model).__name__,
        "settings": json.dumps(model.settings()),  # type: ignore[operator]
        "card": json.dumps(asdict(model.card)),  # type: ignore[call-overload]
        **(extra or {}),
    }
    with whole(path) as partial:
        save_file(tensors, partial, metadata)
        partial.chmod(0o644)  # safetensors makes files that only their owner can read


def is_ours(contents: Contents) -> bool:
    """Whether a file is one that ``save`` wrote, today or in another version."""
    named = contents.metadata.get("format", "").startswith("expedit")
    return named or "settings" in contents.metadata or "card" in contents.metadata


def read(path: Path) -> tuple[dict[str, Tensor], Metadata]:
    """Tensors (floats as fp32) of a safetensors file and its metadata; ValueError says what is wrong."""
    with opened(path) as contents:
        return contents.read(contents.states[()]), metadata_of(contents.metadata)


def metadata_of(texts: Mapping[str, str]) -> Metadata:
    """What ``save`` wrote beside the tensors; ValueError if it does not fit this version."""
    found = texts.get("format", "")
    if found.startswith("expedit") and found != FORMAT:
        raise ValueError(f"its metadata does not fit: expected the format {FORMAT!r}, got {found!r}")
    try:
        settings = dict(json.loads(texts.get("settings", "{}")))
        card = json.loads(texts.get("card", "null"))
        frozen = None if card is None else Card(**{name: _frozen(value) for name, value in card.items()})
    except (ValueError, TypeError, AttributeError, RecursionError) as error:  # not JSON, or not the JSON we write
        raise ValueError(f"its metadata does not fit this version of expedit: {error}") from None
    return Metadata(texts.get("model"), settings, frozen)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def read_model(path: Path, contents: Contents, options: Options) -> Loaded:
    """The network that ``save`` wrote; ``options`` instead of its settings.

    Raises:
        ValueError: metadata, tensors and options do not fit together.
    """
    metadata = metadata_of(contents.metadata)
    network = NETWORKS.get(metadata.model or "Segmenter")
    if network is None:
        raise ValueError(f"expected a model out of {', '.join(NETWORKS)} in the metadata, got {metadata.model!r}")
    given = options.only(*(("norm_eps", "pos_embed", "image_size") if network is Segmenter else ()))
    state = contents.read(contents.states[()])
    try:
        model = network.from_settings(state, {**metadata.settings, **given}, metadata.card)
    except TypeError as error:
        raise ValueError(f"its settings do not fit this version of expedit: {error}") from None
    return Loaded(model, f"{network.__name__} of expedit")
