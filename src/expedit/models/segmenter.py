"""Segmenter: a plain ViT and a mask transformer over its tokens (Strudel et al., ICCV 2021)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core import LOGITS, to_map
from .card import Card, generic_card
from .vit import Block, Interpolation, ViT, init_weights


class MaskTransformer(nn.Module):
    """Segmenter's head: class embeddings join the tokens, masks are their cosines (spec a.2)."""

    def __init__(self, *, classes: int, width: int, layers: int, heads: int, hidden: int, norm_eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.proj_dec = nn.Linear(width, width)
        self.cls_emb = nn.Parameter(torch.empty(1, classes, width))
        self.blocks = nn.ModuleList(Block(width, heads, hidden, norm_eps) for _ in range(layers))
        self.decoder_norm = nn.LayerNorm(width, eps=norm_eps)
        self.proj_patch = nn.Parameter(torch.empty(width, width))
        self.proj_classes = nn.Parameter(torch.empty(width, width))
        self.mask_norm = nn.LayerNorm(classes, eps=norm_eps)
        nn.init.trunc_normal_(self.cls_emb, std=0.02)
        for projection in (self.proj_patch, self.proj_classes):
            nn.init.normal_(projection, std=width**-0.5)
        self.apply(init_weights)

    def forward(self, tokens: Tensor) -> Tensor:
        """``(b, n, width)`` patch tokens, any number of them in any order, to logits ``(b, n, classes)``."""
        n = tokens.shape[1]
        x = torch.cat((self.proj_dec(tokens), self.cls_emb.expand(tokens.shape[0], -1, -1)), 1)
        for block in self.blocks:
            x = block(x)
        x = self.decoder_norm(x)
        patches, classes = x[:, :n] @ self.proj_patch, x[:, n:] @ self.proj_classes
        patches = patches / patches.norm(dim=-1, keepdim=True)
        classes = classes / classes.norm(dim=-1, keepdim=True)
        return self.mask_norm(patches @ classes.transpose(1, 2))


class Segmenter(nn.Module):
    """ViT encoder and mask transformer, with the official key names ``encoder.*`` and ``decoder.*``.

    Args:
        classes: number of classes.
        head_layers: blocks of the mask transformer: 2 for ADE20K and Pascal Context, 1 for Cityscapes.
        head_heads: its attention heads, those of the encoder unless given.
        head_norm_eps: epsilon of its LayerNorms.
        image_size, patch, width, depth, heads, hidden, norm_eps, pos_embed: as in ``ViT``.

    Attributes:
        card: classes, colours and inference protocol; numbered classes until someone knows better.
    """

    card: Card

    def __init__(
        self,
        *,
        classes: int,
        image_size: tuple[int, int],
        patch: int = 16,
        width: int = 1024,
        depth: int = 24,
        heads: int = 16,
        hidden: int | None = None,
        head_layers: int = 2,
        head_heads: int | None = None,
        norm_eps: float = 1e-6,
        head_norm_eps: float = 1e-5,
        pos_embed: Interpolation = "bicubic",
    ) -> None:
        super().__init__()
        self.encoder = ViT(
            image_size=image_size,
            patch=patch,
            width=width,
            depth=depth,
            heads=heads,
            hidden=hidden,
            norm_eps=norm_eps,
            pos_embed=pos_embed,
        )
        self.decoder = MaskTransformer(
            classes=classes,
            width=width,
            layers=head_layers,
            heads=head_heads or heads,
            hidden=hidden or 4 * width,
            norm_eps=head_norm_eps,
        )
        self.card = generic_card(classes, min(image_size))

    def settings(self) -> dict[str, Any]:
        """What the tensors do not tell: keyword arguments of ``from_state_dict``."""
        return {
            "num_heads": self.encoder.heads,
            "head_num_heads": self.decoder.heads,
            "norm_eps": self.encoder.norm.eps,
            "head_norm_eps": self.decoder.decoder_norm.eps,
            "pos_embed": self.encoder.interpolation,
        }

    def patch_logits(self, image: Tensor) -> Tensor:
        """``(b, 3, H, W)`` normalised pixels to one logit per patch and class, ``(b, classes, h, w)``.

        Inside a span that stops at ``LOGITS`` the head runs on the few tokens and its logits are restored.
        """
        stream, _ = self.encoder.encode(image)
        stream = replace(stream, x=self.decoder(stream.tokens), prefix=0).restored(LOGITS)
        assert stream.grid is not None, "a restored stream is on its lattice again"
        return to_map(stream.tokens, stream.grid)

    def forward(self, image: Tensor) -> Tensor:
        """``(b, 3, H, W)`` normalised pixels to logits ``(b, classes, H, W)``, bilinear, cut to the image's size."""
        logits = self.patch_logits(image)
        h, w = image.shape[2:]
        padded = (logits.shape[2] * self.encoder.patch, logits.shape[3] * self.encoder.patch)
        return F.interpolate(logits, size=padded, mode="bilinear", align_corners=False)[:, :, :h, :w]

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, Tensor],
        *,
        num_heads: int | None = None,
        norm_eps: float = 1e-6,
        head_norm_eps: float = 1e-5,
        pos_embed: Interpolation = "bicubic",
        head_num_heads: int | None = None,
    ) -> Segmenter:
        """A Segmenter in evaluation mode with the sizes and the weights of ``state``, whose memory it shares.

        Args:
            state: official key names; ``encoder.head.*`` (the unused classifier) is left out.
            num_heads: heads of encoder and head, ``width // 64`` unless given: tensors do not tell.
            head_num_heads: heads of the mask transformer where they differ.

        Raises:
            ValueError: keys are missing or not known (all are listed), or a tensor has the wrong shape.
        """
        state = {name: value for name, value in state.items() if not name.startswith("encoder.head.")}
        sizes = _sizes(state)
        heads = num_heads or max(sizes["width"] // 64, 1)
        with torch.device("meta"):
            model = cls(
                **sizes,
                heads=heads,
                head_heads=head_num_heads or heads,
                norm_eps=norm_eps,
                head_norm_eps=head_norm_eps,
                pos_embed=pos_embed,
            )
        check_keys(model.state_dict(), state)
        model.load_state_dict(state, assign=True)
        return model.eval()


def _sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Every size of a Segmenter that its tensors tell, as arguments of ``Segmenter``."""
    needed = ("encoder.pos_embed", "encoder.patch_embed.proj.weight", "encoder.blocks.0.mlp.fc1.weight")
    missing = [name for name in (*needed, "decoder.cls_emb") if name not in state]
    if missing:
        raise ValueError(f"not a Segmenter checkpoint: expected the keys {missing}, got {_some(state)}")
    width, _, patch, _ = state["encoder.patch_embed.proj.weight"].shape
    tokens = state["encoder.pos_embed"].shape[1] - 1
    side = math.isqrt(tokens)
    if side * side != tokens:
        raise ValueError(f"encoder.pos_embed: expected a class token and a square of positions, got {tokens} positions")
    return {
        "classes": state["decoder.cls_emb"].shape[1],
        "image_size": (side * patch, side * patch),
        "patch": patch,
        "width": width,
        "depth": _count(state, "encoder.blocks."),
        "hidden": state["encoder.blocks.0.mlp.fc1.weight"].shape[0],
        "head_layers": _count(state, "decoder.blocks."),
    }


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """Number of distinct block indices under ``prefix``."""
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def _some(names: Mapping[str, Tensor]) -> str:
    shown = sorted(names)[:8]
    return f"{shown} and {len(names) - len(shown)} more" if len(names) > len(shown) else str(shown)


def check_keys(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """ValueError that lists all missing keys, unknown keys and wrong shapes of ``state``."""
    missing = sorted(expected.keys() - state.keys())
    unknown = sorted(state.keys() - expected.keys())
    shapes = [
        f"{name}: expected {tuple(expected[name].shape)}, got {tuple(state[name].shape)}"
        for name in sorted(expected.keys() & state.keys())
        if expected[name].shape != state[name].shape
    ]
    problems = [
        f"{title} ({len(rows)}): {', '.join(rows)}"
        for title, rows in (("missing keys", missing), ("unknown keys", unknown), ("wrong shapes", shapes))
        if rows
    ]
    if problems:
        raise ValueError("the checkpoint does not fit the model; " + "; ".join(problems))
