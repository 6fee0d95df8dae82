"""Video Mask2Former: one set of queries for a whole clip, over the modules of the image network.

Cheng et al., "Mask2Former for Video Instance Segmentation", 2021. Backbone and pixel decoder see frames one by one;
the queries then attend over space and time at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .mask2former import Mask2Former

FRAME_BATCH = 4
"""Frames that run through the backbone together, unless given otherwise."""


class FrameFeatures(NamedTuple):
    """What the queries see of one frame of H x W pixels.

    Attributes:
        levels: ``(conv_dim, h, w)`` at strides 32, 16 and 8, in the order in which the decoder visits them.
        masks: ``(mask_dim, H / 4, W / 4)``; its product with a query's mask embedding is the query's mask.
    """

    levels: tuple[Tensor, Tensor, Tensor]
    masks: Tensor


class VideoMask2Former(Mask2Former):
    """Normalised frames of one clip to one class distribution and one tube of masks per query.

    Weights, their names and the arguments are those of ``Mask2Former``; only the decoder works otherwise.
    """

    def forward(self, pixels: Tensor, frame_batch: int = FRAME_BATCH) -> tuple[Tensor, Tensor]:
        """``(T, 3, H, W)`` normalised frames of one clip, both sides multiples of 32.

        Args:
            pixels: the clip.
            frame_batch: frames that run through backbone and pixel decoder together; no frame sees another there.

        Returns:
            Class logits ``(1, queries, classes + 1)``, the last one "no object", and mask logits
            ``(1, queries, T, H / 4, W / 4)``.
        """
        frames = [frame for some in pixels.split(frame_batch) for frame in self.features(some)]
        class_logits, embeddings = self.decode(frames)
        return class_logits[None], torch.stack([mask_logits(embeddings, frame) for frame in frames], 1)[None]

    def features(self, pixels: Tensor) -> list[FrameFeatures]:
        """``(t, 3, H, W)`` normalised frames through backbone and pixel decoder, each on its own."""
        seen: Any = self.network.model.pixel_level_module(pixels)  # type: ignore[operator, union-attr]
        levels = zip(*seen.decoder_hidden_states, strict=True)
        return [FrameFeatures(*frame) for frame in zip(levels, seen.decoder_last_hidden_state, strict=True)]

    def decode(self, frames: Sequence[FrameFeatures]) -> tuple[Tensor, Tensor]:
        """A clip to class logits ``(queries, classes + 1)`` and mask embeddings ``(queries, mask_dim)``."""
        *_, queries = self.rounds(frames)
        return self.read(queries)

    def read(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits and mask embeddings of queries ``(queries, hidden_dim)`` that ``rounds`` handed out."""
        predictor: nn.Module = self.network.class_predictor  # type: ignore[assignment]
        return predictor(queries), self._decoder.mask_predictor.mask_embedder(queries)

    def rounds(self, frames: Sequence[FrameFeatures]) -> Iterator[Tensor]:
        """Normalised queries ``(queries, hidden_dim)``: the learned ones, then those after every layer."""
        module: Any = self.network.model.transformer_module  # type: ignore[union-attr]
        position, x = module.queries_embedder.weight[:, None], module.queries_features.weight[:, None]
        levels = [self._level(frames, index) for index in range(len(frames[0].levels))]
        yield (normed := self._decoder.layernorm(x)[:, 0])
        for index, layer in enumerate(self._decoder.layers):
            value, key, masks = levels[index % len(levels)]
            blocked = blocked_keys(self.read(normed)[1], masks)
            seen, _ = layer.cross_attn(x + position, key, value, attn_mask=blocked, need_weights=False)
            x = layer.cross_attn_layer_norm(x + seen)
            said, _ = layer.self_attn(x, position_embeddings=position)
            x = layer.self_attn_layer_norm(x + said)
            x = layer.final_layer_norm(x + layer.fc2(layer.activation_fn(layer.fc1(x))))
            yield (normed := self._decoder.layernorm(x)[:, 0])

    @property
    def _decoder(self) -> Any:
        return self.network.model.transformer_module.decoder  # type: ignore[union-attr]

    def _level(self, frames: Sequence[FrameFeatures], index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Values and keys ``(T * h * w, 1, hidden_dim)`` of a level, and mask features ``(T * h * w, mask_dim)``.

        Resizing is linear: the mask features brought to a level's size give the masks at that size, for every layer.
        """
        module: Any = self.network.model.transformer_module  # type: ignore[union-attr]
        maps = module.input_projections[index](torch.stack([frame.levels[index] for frame in frames]))
        count, width, *size = maps.shape
        value = maps.flatten(2).transpose(1, 2) + module.level_embed.weight[index]
        place = positions(count, size[0], size[1], width, maps.device)
        masks = torch.cat([_resized(frame.masks[None], size).flatten(2)[0].T for frame in frames])
        return value.flatten(0, 1)[:, None], (value + place.to(value)).flatten(0, 1)[:, None], masks


def mask_logits(embeddings: Tensor, frame: FrameFeatures) -> Tensor:
    """Masks ``(q, H / 4, W / 4)`` of queries with mask embeddings ``(q, mask_dim)`` in one frame."""
    return torch.einsum("qc,chw->qhw", embeddings, frame.masks)


def blocked_keys(embeddings: Tensor, masks: Tensor) -> Tensor:
    """Keys ``(q, keys)`` bool outside each query's own mask; a query whose mask is empty may see all.

    Args:
        embeddings: ``(q, mask_dim)``.
        masks: mask features ``(keys, mask_dim)`` at the size of the level.
    """
    blocked = embeddings @ masks.T < 0
    return blocked & ~blocked.all(1, keepdim=True)


def positions(frames: int, h: int, w: int, channels: int, device: torch.device) -> Tensor:
    """Where keys lie, ``(frames, h * w, channels)`` fp32: row and column in half of the channels each, time in all."""
    row = encoding(h, channels // 2, device)[:, None].expand(h, w, -1)
    column = encoding(w, channels // 2, device)[None].expand(h, w, -1)
    return torch.cat((row, column), 2).flatten(0, 1) + encoding(frames, channels, device)[:, None]


def encoding(length: int, channels: int, device: torch.device) -> Tensor:
    """Sines and cosines ``(length, channels)`` fp32 of places along an axis, which is one turn whatever its length."""
    place = torch.arange(1, length + 1, device=device) / (length + 1e-6) * 2 * math.pi
    period = 10000 ** (torch.arange(0, channels, 2, device=device) / channels)
    angle = place[:, None] / period
    return torch.stack((angle.sin(), angle.cos()), 2).flatten(1)


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
