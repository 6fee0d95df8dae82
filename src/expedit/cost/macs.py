"""Multiply-adds of a model: every convolution and matrix product, and the published convention beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from ..core import Method, Plan
from ..methods import Expedit
from ..models import Segmenter
from ..models.card import card_of
from ..models.mask2former import Mask2Former
from ..models.pretrained import Pretrained
from ..models.segmenter import MaskTransformer
from ..surgery import accelerate, find_backbone, share
from .published import published_macs
from .published_swin import published_backbone_macs
from .trace import trace

SWIN_SIZE = (1152, 1152)
"""(height, width) at which the published tables measure Mask2Former's backbone."""


@dataclass(frozen=True)
class Cost:
    """What one image costs, or one clip of a video model.

    Attributes:
        true_macs: multiply-adds of every convolution and matrix product, counted once each.
        published_macs: the same network in the convention of the published tables, ``None`` where they have none.
        tokens: mean sequence length over all attention and MLP branches of the backbone, prefix included.
        clusters: mean query clusters per block (ACT, measured).
    """

    true_macs: float
    published_macs: float | None
    tokens: float
    clusters: float | None = None


def measured_part(model: nn.Module) -> nn.Module:
    """What is counted and timed: a model as a whole, but of a Mask2Former the backbone, as in the published tables."""
    return model.backbone if isinstance(model, Mask2Former) else model


def nominal_size(model: nn.Module) -> tuple[int, int]:
    """(height, width) in pixels of one crop, or that a processor prepares, or ``SWIN_SIZE`` as in the tables."""
    if isinstance(model, Pretrained):
        return model.size
    crop = card_of(model).crop
    return SWIN_SIZE if crop is None else (crop, crop)


def cost(
    model: nn.Module,
    method: Method | None,
    image: tuple[int, int],
    pixels: Tensor | None = None,
    options: Mapping[str, Any] | None = None,
    frames: int = 1,
) -> Cost:
    """Count one forward of the measured part of ``model`` with ``method`` at (height, width) ``image``.

    Any model that ``accelerate`` takes can be counted, provided that it takes pixels alone.

    A backbone sees the ``frames`` of a clip one by one: a clip costs that many times one of them.

    Static methods are counted on the meta device: no weights are needed and nothing is computed. ACT's cost depends on
    the data: it runs for real, on the model's weights and on ``pixels`` ``(1, 3, H, W)``, one seeded noise image
    unless given. ``options`` are those of ``accelerate``.
    """
    static = method is None or method.static
    part = measured_part(model)
    base = share(part).to("meta") if static else part
    if method is None:  # driven like the others: EoMT's own loop asks a buffer for its values, and "meta" has none
        path, adapter = find_backbone(base)
        adapter.install(base, path, Plan())
    fast = base if method is None else accelerate(base, method, **(options or {}))
    like = next(base.parameters())
    pixels = noise(image, like) if pixels is None else pixels.to(like)
    with flop_counter() as counter:
        seen = trace(fast, pixels)
    clusters = [float(count) for count in seen.clusters]
    published = in_published_convention(model, method, image, clusters)
    return Cost(
        true_macs=frames * counter.get_total_flops() / 2,
        published_macs=None if published is None else frames * published,
        tokens=sum(seen.tokens) / len(seen.tokens),
        clusters=sum(clusters) / len(clusters) if clusters else None,
    )


def in_published_convention(
    model: nn.Module, method: Method | None, image: tuple[int, int], clusters: Sequence[float]
) -> float | None:
    """Multiply-adds as the published table of this kind of model counts them; ``None`` for what it does not have."""
    if isinstance(model, Segmenter) and isinstance(model.decoder, MaskTransformer):
        return published_macs(model, method, image, clusters)
    if isinstance(model, Mask2Former) and (method is None or isinstance(method, Expedit)):
        return published_backbone_macs(model.architecture, image, method)
    return None


def noise(image: tuple[int, int], like: Tensor, batch: int = 1) -> Tensor:
    """Seeded normal noise ``(batch, 3, H, W)`` on the device and in the dtype of ``like``."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, *image, generator=generator).to(like.device, like.dtype)


def flop_counter() -> FlopCounterMode:
    """Torch's counter, which leaves out the attention kernel of CPUs otherwise."""
    cpu_attention = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention_flops}
    return FlopCounterMode(display=False, custom_mapping=cpu_attention)


def _cpu_attention_flops(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    flops: int = sdpa_flop_count(query, key, value)
    return flops
