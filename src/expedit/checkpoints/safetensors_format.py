"""Our own checkpoint format: safetensors with the settings that tensors do not tell and the card in its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from ..data.writing import whole
from ..models.card import Card

FORMAT = "expedit-1"


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


class Told(NamedTuple):
    """What a file tells beside its tensors; a bare one tells nothing.

    Attributes:
        model: class name of the network.
        settings: what it was built with that tensors do not tell.
        card: its protocol.
    """

    model: str | None
    settings: dict[str, Any]
    card: Card | None


def read(path: Path) -> tuple[dict[str, torch.Tensor], Told]:
    """Tensors (floats as fp32) of a safetensors file and what it tells of them; ValueError says what is wrong."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except SafetensorError as error:
        raise ValueError(
            f"{path}: expected a whole safetensors file, but it is damaged or cut short ({error})"
        ) from None
    floats = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    try:
        return floats, _told(metadata)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:  # not JSON, or not the JSON we write
        raise ValueError(f"{path}: its metadata does not fit this version of expedit: {error}") from None


def _told(metadata: Mapping[str, str]) -> Told:
    found = metadata.get("format", "")
    if found.startswith("expedit") and found != FORMAT:
        raise ValueError(f"expected the format {FORMAT!r}, got {found!r}")
    card = json.loads(metadata.get("card", "null"))
    frozen = None if card is None else Card(**{name: _frozen(value) for name, value in card.items()})
    return Told(metadata.get("model"), dict(json.loads(metadata.get("settings", "{}"))), frozen)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
