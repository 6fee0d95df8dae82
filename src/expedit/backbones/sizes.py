"""What a host of transformers or timm says of its sizes."""

from __future__ import annotations

from typing import Any

from ..core import Grid


def pair(value: Any) -> tuple[int, int]:
    """(height, width) of what may be one number for both."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def nominal_of(host: Any) -> Grid | None:
    """Token lattice of an image of the size that the host was made for, if it says so."""
    config = getattr(host, "config", None)
    size, patch = getattr(config, "image_size", None), getattr(config, "patch_size", None)
    if size is None or patch is None:
        return None
    (h, w), (high, wide) = pair(size), pair(patch)
    return Grid(h // high, w // wide)


def heads_of(host: Any) -> int:
    """Attention heads of a block."""
    config = getattr(host, "config", None)
    heads: Any = getattr(config, "num_attention_heads", None) or getattr(host.blocks[0].attn, "num_heads", 1)
    return int(heads)


def width_of(host: Any) -> int:
    """Channels of a token."""
    config = getattr(host, "config", None)
    return int(getattr(config, "hidden_size", None) or host.embed_dim)
