"""Our own checkpoint format: safetensors with the settings that tensors do not tell and the card in its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from .card import Card

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
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata)
    partial.chmod(0o644)  # safetensors makes files that only their owner can read
    partial.replace(path)


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors (floats as fp32) and metadata of a safetensors file; ValueError says what is wrong with it."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except SafetensorError as error:
        raise ValueError(
            f"{path}: expected a whole safetensors file, but it is damaged or cut short ({error})"
        ) from None
    floats = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    return floats, metadata


def card_from(fields: Mapping[str, Any]) -> Card:
    """A card from parsed JSON; ValueError if a field is missing, not known or does not fit."""
    try:
        return Card(**{name: _frozen(value) for name, value in fields.items()})
    except TypeError as error:
        raise ValueError(f"the model card in the metadata does not fit this version: {error}") from None


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
