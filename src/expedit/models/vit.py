"""A plain vision transformer with timm's and Segmenter's key names, driven step by step by the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core import (
    FEATURES,
    LOGITS,
    Context,
    Grid,
    Plan,
    Step,
    Stream,
    attn,
    change_of_patches,
    coarse_tokens,
    drive,
    enlarged,
    show,
    shrunk,
    to_map,
    to_tokens,
    without_guide,
)
from ..core.tokens import pad_to_multiple

Interpolation = Literal["bicubic", "bilinear"]

PLAIN = Context()
"""Whole tokens, torch's own attention, nothing to show."""


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection, rows ordered q, k, v and head-major inside each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"expected a width that divides into {heads} heads, got {width}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, y: Tensor, context: Context = PLAIN) -> tuple[Tensor, Tensor | None]:
        """``(b, n, c) -> (b, n, c)``, and the guide that ``context`` asks for."""
        q, k, v = self.qkv(y).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        out = context.kernel(q, k, v, context.bias).transpose(1, 2).flatten(2)
        return self.proj(out), show(context.guide, q, k, v, context.prefix, context.lead)


class Mlp(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, y: Tensor) -> Tensor:
        """``(b, n, c) -> (b, n, c)``."""
        out: Tensor = self.fc2(F.gelu(self.fc1(y)))
        return out


class Block(nn.Module):
    """Pre-norm transformer block: two residual steps."""

    def __init__(self, width: int, heads: int, hidden: int, norm_eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """``(b, n, c) -> (b, n, c)``: both steps, uncut."""
        x = x + self.attn(self.norm1(x))[0]
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    def steps(self) -> tuple[Step, Step]:
        """The two residual steps for the engine."""
        return Step(self.norm1, self.attn), Step(self.norm2, without_guide(self.mlp))


class PatchEmbed(nn.Module):
    """Non-overlapping patches through one convolution."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, image: Tensor) -> Tensor:
        """``(b, 3, H, W) -> (b, width, H / patch, W / patch)``."""
        out: Tensor = self.proj(image)
        return out


class ViT(nn.Module):
    """Plain ViT encoder with a class token and absolute positions.

    Args:
        image_size: (height, width) in pixels that ``pos_embed`` was made for, multiples of ``patch``.
        patch: side of a patch in pixels.
        width: channels.
        depth: blocks.
        heads: attention heads.
        hidden: width of the MLP, ``4 * width`` unless given.
        norm_eps: epsilon of every LayerNorm: 1e-6 in the Expedit code, 1e-5 in the original Segmenter.
        pos_embed: how positions are resized to another token map: "bicubic" (Expedit) or "bilinear" (original).
    """

    def __init__(
        self,
        *,
        image_size: tuple[int, int],
        patch: int = 16,
        width: int = 1024,
        depth: int = 24,
        heads: int = 16,
        hidden: int | None = None,
        norm_eps: float = 1e-6,
        pos_embed: Interpolation = "bicubic",
    ) -> None:
        super().__init__()
        if image_size[0] % patch or image_size[1] % patch:
            raise ValueError(f"image_size: expected multiples of the patch ({patch}), got {tuple(image_size)}")
        self.patch = patch
        self.width = width
        self.heads = heads
        self.hidden = hidden or 4 * width
        self.nominal = Grid(image_size[0] // patch, image_size[1] // patch)
        self.interpolation: Interpolation = pos_embed
        self.patch_embed = PatchEmbed(patch, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.nominal.length, width))
        self.blocks = nn.ModuleList(Block(width, heads, self.hidden, norm_eps) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.plan = Plan()
        self.kernels = nn.ModuleList()
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.apply(init_weights)

    def steps(self) -> list[Step]:
        """All residual steps: step ``2 * i`` is the attention of block ``i``, step ``2 * i + 1`` its MLP."""
        return [step for block in self.blocks for step in block.steps()]  # type: ignore[operator]

    def embed(self, image: Tensor) -> Stream:
        """``(b, 3, H, W)`` normalised pixels to tokens, class token first; zeros pad to whole patches."""
        patch = Grid(self.patch, self.patch)
        image = pad_to_multiple(image, patch)
        whole = Grid(image.shape[2] // patch.h, image.shape[3] // patch.w)
        image = shrunk(image, patch, self.plan.scale)
        feature_map = self.patch_embed(image)
        grid = Grid(*feature_map.shape[2:])
        tokens = to_tokens(feature_map) + self._positions(grid)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(tokens.shape[0], -1, -1)
        stream = Stream(torch.cat((first, tokens), 1), prefix=1, grid=grid)
        if self.plan.guide_for(0) == "coarse_patches":
            change = change_of_patches(self.patch_embed, image, feature_map)
            stream = replace(stream, coarse=coarse_tokens(tokens, change, grid))
        return enlarged(stream, whole)

    def _positions(self, grid: Grid) -> Tensor:
        """Positions of the patches ``(1, grid.length, c)``, resized if the map is not the nominal one."""
        positions = self.pos_embed[:, 1:]
        if grid == self.nominal:
            return positions
        table = to_map(positions, self.nominal)
        return to_tokens(F.interpolate(table, size=tuple(grid), mode=self.interpolation, align_corners=False))

    def encode(self, image: Tensor, taps: frozenset[int] = frozenset()) -> tuple[Stream, dict[int, Stream]]:
        """Embed, run all steps, norm, undo the reductions that stop at ``FEATURES``.

        Returns:
            The stream, still reduced where a span stops at ``LOGITS``, and restored copies at positions ``taps``.
        """
        stream, tapped = drive(self.steps(), self.embed(image), self.plan, taps)
        return replace(stream, x=self.norm(stream.x)).restored(FEATURES), tapped

    def forward(self, image: Tensor) -> Tensor:
        """``(b, 3, H, W)`` normalised pixels to the final feature map ``(b, width, H / patch, W / patch)``."""
        stream = self.encode(image)[0].restored(LOGITS)
        return _as_map(stream)

    def feature_maps(self, image: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Feature maps ``(b, width, h, w)`` after 0-based ``blocks``, full size also inside a reduced span.

        They are what the block left on the residual stream, before the final norm.
        """
        for block in blocks:
            if not 0 <= block < len(self.blocks):
                raise ValueError(f"blocks: expected integers in 0..{len(self.blocks) - 1}, got {block}")
        tapped = self.encode(image, frozenset(attn(block + 1) for block in blocks))[1]
        return [_as_map(tapped[attn(block + 1)]) for block in blocks]


def _as_map(stream: Stream) -> Tensor:
    assert stream.grid is not None, "a restored stream is on its lattice again"
    return to_map(stream.tokens, stream.grid)


def init_weights(module: nn.Module) -> None:
    """Truncated normal for linear layers, the usual start of a ViT; for training only."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
