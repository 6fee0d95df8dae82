"""Segmenter: a plain ViT and a head over its tokens, mask transformer or linear (Strudel et al., ICCV 2021)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core import LOGITS, to_map
from ..core.checks import choice, integer, number, pair
from .card import Card, generic_card
from .vit import Block, Interpolation, ViT, init_weights


@dataclass(frozen=True)
class Numerics:
    """What the two official codes do differently with the same weights; the defaults are those of the Expedit code.

    Attributes:
        norm_eps: epsilon of the encoder's LayerNorms, 1e-5 in the original Segmenter.
        head_norm_eps: epsilon of the head's LayerNorms.
        pos_embed: how positions are resized to another token map, "bilinear" in the original Segmenter.
    """

    norm_eps: float = 1e-6
    head_norm_eps: float = 1e-5
    pos_embed: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        number("norm_eps", self.norm_eps, 0, 0.1)
        number("head_norm_eps", self.head_norm_eps, 0, 0.1)
        choice("pos_embed", self.pos_embed, get_args(Interpolation))


class MaskTransformer(nn.Module):
    """The head of the published tables: class embeddings join the tokens, masks are their cosines (section 3.2)."""

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
        logits: Tensor = self.mask_norm(patches @ classes.transpose(1, 2))
        return logits


class LinearDecoder(nn.Module):
    """The original's other head: one linear layer, token by token (section 3.2)."""

    def __init__(self, *, classes: int, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, classes)
        self.apply(init_weights)

    def forward(self, tokens: Tensor) -> Tensor:
        """``(b, n, width)`` patch tokens to logits ``(b, n, classes)``."""
        logits: Tensor = self.head(tokens)
        return logits


class Segmenter(nn.Module):
    """ViT encoder and a head, with the official key names ``encoder.*`` and ``decoder.*``.

    Args:
        classes: number of classes.
        head_layers: blocks of the mask transformer: 2 for ADE20K and Pascal Context, 1 for Cityscapes.
            ``None`` takes the linear decoder.
        head_heads: attention heads of the mask transformer, those of the encoder unless given.
        numerics: epsilons, and how positions are resized.
        image_size, patch, width, depth, heads, hidden: as in ``ViT``.

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
        head_layers: int | None = 2,
        head_heads: int | None = None,
        numerics: Numerics = Numerics(),
    ) -> None:
        super().__init__()
        self.numerics = numerics
        self.encoder = ViT(
            image_size=image_size,
            patch=patch,
            width=width,
            depth=depth,
            heads=heads,
            hidden=hidden,
            norm_eps=numerics.norm_eps,
            pos_embed=numerics.pos_embed,
        )
        self.decoder: MaskTransformer | LinearDecoder
        if head_layers is None:
            self.decoder = LinearDecoder(classes=classes, width=width)
        else:
            self.decoder = MaskTransformer(
                classes=classes,
                width=width,
                layers=head_layers,
                heads=head_heads or heads,
                hidden=hidden or 4 * width,
                norm_eps=numerics.head_norm_eps,
            )
        self.card = generic_card(classes, min(image_size))

    def settings(self) -> dict[str, Any]:
        """What the tensors do not say: keyword arguments of ``from_state_dict``."""
        grid, patch = self.encoder.nominal, self.encoder.patch
        return {
            "num_heads": self.encoder.heads,
            "head_num_heads": self.decoder.heads if isinstance(self.decoder, MaskTransformer) else None,
            "image_size": (grid.h * patch, grid.w * patch),
            **asdict(self.numerics),
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
        if logits.is_cuda:  # channels last, as tokens are, take 2.4 times as long there (150 classes, bf16, H100)
            logits = logits.contiguous()
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
        image_size: Sequence[int] | None = None,
    ) -> Segmenter:
        """A Segmenter in evaluation mode with the sizes and the weights of ``state``, whose memory it shares.

        Args:
            state: official key names; ``encoder.head.*`` (the unused classifier) is left out.
            num_heads: heads of encoder and head, ``width // 64`` unless given: tensors do not say.
            head_num_heads: heads of the mask transformer where they differ.
            norm_eps, head_norm_eps, pos_embed: see ``Numerics``.
            image_size: (height, width) in pixels that the positions were made for; a square unless given.

        Raises:
            ValueError: keys are missing or not known (all are listed), a tensor has the wrong shape, there is a
                distillation token, or the positions do not make up ``image_size``.
        """
        state = {name: value for name, value in state.items() if not name.startswith("encoder.head.")}
        sizes = _sizes(state, image_size)
        for name, value in (("num_heads", num_heads), ("head_num_heads", head_num_heads)):
            if value is not None:
                integer(name, value, 1)
        heads = num_heads or max(sizes["width"] // 64, 1)
        numerics = Numerics(norm_eps, head_norm_eps, pos_embed)
        with torch.device("meta"):
            model = cls(**sizes, heads=heads, head_heads=head_num_heads or heads, numerics=numerics)
        check_keys(model.state_dict(), state)
        model.load_state_dict(state, assign=True)
        return model.eval()

    @classmethod
    def from_settings(cls, state: Mapping[str, Tensor], settings: Mapping[str, Any], card: Card | None) -> Segmenter:
        """The network ``settings()`` describe, with its own state; ValueError lists what does not fit."""
        model = cls.from_state_dict(state, **settings)
        if card is None:
            return model
        if len(card.classes) != len(model.card.classes):
            raise ValueError(f"card: expected {len(model.card.classes)} classes, got {len(card.classes)}")
        model.card = card
        return model


DISTILLED = ("encoder.dist_token", "encoder.head_dist.weight")
"""Keys of encoders that were trained with a distillation token (DeiT)."""

RANKS = {"encoder.pos_embed": 3, "encoder.patch_embed.proj.weight": 4, "encoder.blocks.0.mlp.fc1.weight": 2}
"""Keys that show the sizes of the encoder, and their numbers of axes."""

HEADS = {"decoder.cls_emb": (3, 1), "decoder.head.weight": (2, 0)}
"""The key that shows which head it is: its number of axes, and which of them has the classes."""


def _sizes(state: Mapping[str, Tensor], image_size: Sequence[int] | None) -> dict[str, Any]:
    """Every size of a Segmenter, as arguments of ``Segmenter``."""
    if distilled := [name for name in DISTILLED if name in state]:
        raise ValueError(
            f"a distilled Segmenter (DeiT, with {distilled[0]}): its distillation token is not supported; use weights "
            "that were trained without one"
        )
    head = next((name for name in HEADS if name in state), " or ".join(HEADS))
    if missing := [name for name in (*RANKS, head) if name not in state]:
        raise ValueError(f"not a Segmenter checkpoint: expected the keys {', '.join(missing)}; got {_some(state)}")
    rank, axis = HEADS[head]
    for name, axes in {**RANKS, head: rank}.items():
        if len(state[name].shape) != axes or 0 in state[name].shape:
            raise ValueError(f"{name}: expected {axes} axes, none of length 0, got {tuple(state[name].shape)}")
    width, _, patch, _ = state["encoder.patch_embed.proj.weight"].shape
    return {
        "classes": state[head].shape[axis],
        "image_size": _image_size(state["encoder.pos_embed"].shape[1] - 1, patch, image_size),
        "patch": patch,
        "width": width,
        "depth": _count(state, "encoder.blocks."),
        "hidden": state["encoder.blocks.0.mlp.fc1.weight"].shape[0],
        "head_layers": _count(state, "decoder.blocks.") if head == "decoder.cls_emb" else None,
    }


def _image_size(positions: int, patch: int, given: Sequence[int] | None) -> tuple[int, int]:
    """(height, width) in pixels of so many positions: as given, or a square."""
    h, w = pair("image_size", given) if given else (math.isqrt(positions) * patch,) * 2
    if h % patch or w % patch or (h // patch) * (w // patch) != positions:
        shape = f"the {h} x {w} pixels of image_size" if given else "a square"
        raise ValueError(
            f"encoder.pos_embed: expected a class token and one position for each patch of {patch} x {patch} pixels in "
            f"{shape}, got {positions} positions; give the image_size (height, width) that the network was made for"
        )
    return h, w


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """Number of distinct block indices after ``prefix``."""
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
