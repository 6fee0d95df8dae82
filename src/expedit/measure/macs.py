"""Multiply-adds of a model: every convolution and matrix product, and the published convention beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from ..core import Method
from ..methods import ACT
from ..models import Segmenter
from ..surgery import accelerate
from .published import published_macs
from .trace import trace


@dataclass(frozen=True)
class Cost:
    """What one image costs.

    Attributes:
        true_macs: multiply-adds of every convolution and matrix product, counted once each.
        published_macs: the same network in the convention of the published tables.
        tokens: mean sequence length over all attention and MLP branches of the backbone, prefix included.
        clusters: mean query clusters per block (ACT, measured).
    """

    true_macs: float
    published_macs: float
    tokens: float
    clusters: float | None = None


def cost(model: Segmenter, method: Method | None, image: tuple[int, int], pixels: Tensor | None = None) -> Cost:
    """Count one forward of ``model`` with ``method`` at (height, width) ``image``.

    Static methods are counted on the meta device: no weights are needed and nothing is computed. ACT's cost depends on
    the data: it runs for real, on the model's weights (random ones if it has none) and on ``pixels``
    ``(1, 3, H, W)``, one seeded noise image unless given.
    """
    static = method is None or method.static
    base = on_meta(model) if static else with_weights(model)
    fast = base if method is None else accelerate(base, method)
    like = next(base.parameters())
    pixels = noise(image, like) if pixels is None else pixels.to(like)
    seen = trace(fast, pixels)
    clusters = [float(count) for count in seen.clusters]
    return Cost(
        true_macs=matrix_macs(fast, pixels),
        published_macs=published_macs(base, method, image, clusters),
        tokens=sum(seen.tokens) / len(seen.tokens),
        clusters=sum(clusters) / len(clusters) if isinstance(method, ACT) else None,
    )


def matrix_macs(model: nn.Module, pixels: Tensor) -> float:
    """Multiply-adds of all convolutions and matrix products in one forward, attention on CPU included."""
    cpu_attention = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention_flops}
    counter = FlopCounterMode(display=False, custom_mapping=cpu_attention)
    with counter, torch.no_grad():
        model(pixels)
    return counter.get_total_flops() / 2


def _cpu_attention_flops(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return sdpa_flop_count(query, key, value)


def on_meta(model: Segmenter) -> Segmenter:
    """A model of the same sizes without any memory behind its tensors."""
    state = {name: tensor.to("meta") for name, tensor in model.state_dict().items()}
    return Segmenter.from_state_dict(state, **model.settings())


def with_weights(model: Segmenter) -> Segmenter:
    """``model`` itself, or one of its sizes with seeded random weights where it has none."""
    if next(model.parameters()).device.type != "meta":
        return model
    with torch.random.fork_rng():
        torch.manual_seed(0)
        real = Segmenter(**model.sizes())
    return real.eval()


def noise(image: tuple[int, int], like: Tensor, batch: int = 1) -> Tensor:
    """Seeded normal noise ``(batch, 3, H, W)`` on the device and in the dtype of ``like``."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, *image, generator=generator).to(like.device, like.dtype)
