"""Multi-scale deformable attention of Mask2Former's pixel decoder as one weighted read of rows.

Zhu et al., "Deformable DETR", ICLR 2021, section 4.1. The library samples level by level and keeps every sample before
it weights them; here each query is one bag of rows, so nothing of the size queries x samples x channels is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.tokens import bags

REPLACED = "MultiscaleDeformableAttention"
"""How the names of the library's modules end that ``DeformableAttention`` can stand for."""


class DeformableAttention(nn.Module):
    """The library's module with another way to sample: the same arguments, parameters, names and values.

    Args:
        theirs: the module to stand for; its parameters are shared.
    """

    def __init__(self, theirs: Any) -> None:
        super().__init__()
        self.heads, self.levels, self.points = theirs.n_heads, theirs.n_levels, theirs.n_points
        self.sampling_offsets, self.attention_weights = theirs.sampling_offsets, theirs.attention_weights
        self.value_proj, self.output_proj = theirs.value_proj, theirs.output_proj

    def forward(
        self,
        hidden_states: Tensor,
        *,
        encoder_hidden_states: Tensor,
        reference_points: Tensor,
        spatial_shapes_list: Sequence[tuple[int, int]],
        attention_mask: Tensor | None = None,
        position_embeddings: Tensor | None = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor]:
        """Arguments as the library's layer gives them.

        Args:
            hidden_states: queries ``(b, q, c)``.
            encoder_hidden_states: what is sampled ``(b, s, c)``, all levels end to end.
            reference_points: ``(b, q, levels, 2)``, x and y from 0 to 1.
            spatial_shapes_list: height and width of each level.
            attention_mask: ``(b, s)`` bool, true where there is nothing to see.
            position_embeddings: ``(b, q, c)``, added to the queries.

        Returns:
            ``(b, q, c)`` and the weights of the samples ``(b, q, heads, levels, points)``.
        """
        query = hidden_states if position_embeddings is None else hidden_states + position_embeddings
        value = self.value_proj(encoder_hidden_states)
        if attention_mask is not None:
            value = value.masked_fill(attention_mask[..., None], 0.0)
        offsets = self.sampling_offsets(query).unflatten(2, (self.heads, self.levels, self.points, 2))
        logits = self.attention_weights(query).unflatten(2, (self.heads, self.levels * self.points))
        weights = logits.softmax(3).unflatten(3, (self.levels, self.points))
        sizes = torch.tensor([(w, h) for h, w in spatial_shapes_list], device=value.device)
        places = (reference_points.float() * sizes)[:, :, None, :, None] + offsets.float() - 0.5
        seen = sample(value.unflatten(2, (self.heads, -1)), places, weights, spatial_shapes_list)
        return self.output_proj(seen), weights


def sample(value: Tensor, places: Tensor, weights: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Weighted sum of bilinear samples, zero outside of the maps.

    Args:
        value: ``(b, s, heads, c)``, the maps of all levels end to end.
        places: ``(b, q, heads, levels, points, 2)`` fp32, x and y in pixels of the level, whose
            first pixel has its centre at 0.
        weights: ``(b, q, heads, levels, points)``.
        sizes: height and width of each level.

    Returns:
        ``(b, q, heads * c)``.
    """
    b, s, heads, _ = value.shape
    rows, shares, first = [], [], 0
    for level, (h, w) in enumerate(sizes):
        x, y = places[:, :, :, level].unbind(4)
        for row, down in _corners(y, h):
            for column, across in _corners(x, w):
                rows.append(heads * (first + w * row + column))
                shares.append(weights[:, :, :, level] * (down * across))
        first += h * w
    batch, head = (torch.arange(n, dtype=torch.int32, device=value.device) for n in (b, heads))
    corner = torch.cat(rows, 3).add_(heads * s * batch[:, None, None, None] + head[:, None])
    weight = torch.cat(shares, 3).to(value.dtype)
    read = bags(value.flatten(0, 2), corner.flatten(0, 2), weight.flatten(0, 2))
    answers: Tensor = read.unflatten(0, corner.shape[:3]).flatten(2)
    return answers


def _corners(place: Tensor, side: int) -> list[tuple[Tensor, Tensor]]:
    """The two pixels (int32) around each place along an axis, and their shares: zero outside of it."""
    low = place.floor()
    far = place - low
    inside = ((low >= 0) & (low < side), (low >= -1) & (low < side - 1))
    pixel = low.int()
    return [
        (pixel.clamp(0, side - 1), (1 - far) * inside[0]),
        ((pixel + 1).clamp(0, side - 1), far * inside[1]),
    ]


def with_fast_sampling(network: nn.Module) -> nn.Module:
    """``network`` itself, every deformable attention of the library replaced in place."""
    for parent in list(network.modules()):
        for name, module in list(parent.named_children()):
            if type(module).__name__.endswith(REPLACED):
                setattr(parent, name, DeformableAttention(module))
    return network
