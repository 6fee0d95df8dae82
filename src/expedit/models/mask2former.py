"""Mask2Former with a Swin backbone: the network of transformers, official weights, our inference protocol.

Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .card import Card
from .deformable import with_fast_sampling
from .detectron2 import converted

if TYPE_CHECKING:
    from typing import Self

FIXED = {"points": 4, "levels": 3}
"""Sizes that the library builds in."""

NAMES = {
    "classes": "num_labels",
    "queries": "num_queries",
    "conv_dim": "feature_size",
    "hidden_dim": "hidden_dim",
    "mask_dim": "mask_feature_size",
    "heads": "num_attention_heads",
    "encoder_layers": "encoder_layers",
    "encoder_ffn": "encoder_feedforward_dim",
    "decoder_ffn": "dim_feedforward",
}
SWIN_NAMES = {
    "embed": "embed_dim",
    "depths": "depths",
    "swin_heads": "num_heads",
    "window": "window_size",
    "mlp_ratio": "mlp_ratio",
}
"""What the configurations of transformers call our sizes, that of the network and that of its backbone."""


@dataclass(frozen=True)
class Architecture:
    """Everything about a Mask2Former that its weights do not say for certain; the defaults are Swin-L as published.

    Attributes:
        classes: number of classes, "no object" not counted.
        queries: number of queries.
        embed: channels of the first stage.
        depths: blocks of each stage.
        swin_heads: attention heads of each stage.
        window: side of a window, in tokens.
        mlp_ratio: hidden width of the backbone's MLPs, in widths.
        conv_dim: channels of the pixel decoder.
        hidden_dim: width of the masked decoder.
        mask_dim: channels of the mask features.
        heads: of the deformable attention and of the masked decoder.
        points: sampling points per head and level.
        levels: resolutions the deformable attention sees.
        encoder_layers: layers of the pixel decoder.
        encoder_ffn: width of their MLPs.
        decoder_layers: layers of the masked decoder that run.
        decoder_ffn: width of their MLPs.
    """

    classes: int
    queries: int
    embed: int = 192
    depths: tuple[int, int, int, int] = (2, 2, 18, 2)
    swin_heads: tuple[int, int, int, int] = (6, 12, 24, 48)
    window: int = 12
    mlp_ratio: float = 4.0
    conv_dim: int = 256
    hidden_dim: int = 256
    mask_dim: int = 256
    heads: int = 8
    points: int = 4
    levels: int = 3
    encoder_layers: int = 6
    encoder_ffn: int = 1024
    decoder_layers: int = 9
    decoder_ffn: int = 2048

    def __post_init__(self) -> None:
        for name, value in FIXED.items():
            if getattr(self, name) != value:
                raise ValueError(f"{name}: transformers builds Mask2Former with {value}, got {getattr(self, name)}")

    def config(self) -> Any:
        """The same as a ``Mask2FormerConfig`` of transformers."""
        library, sizes = transformers(), asdict(self)
        swin = {theirs: sizes[ours] for ours, theirs in SWIN_NAMES.items()}
        swin |= {"depths": list(self.depths), "num_heads": list(self.swin_heads)}
        stages = [f"stage{number + 1}" for number in range(len(self.depths))]
        return library.Mask2FormerConfig(
            backbone_config=library.SwinConfig(**swin, drop_path_rate=0.0, out_features=stages),
            decoder_layers=self.decoder_layers + 1,  # the library counts the prediction before the first layer
            **{theirs: sizes[ours] for ours, theirs in NAMES.items()},
        )

    @staticmethod
    def of(config: Any) -> Architecture:
        """The architecture a ``Mask2FormerConfig`` describes; ValueError if its backbone is no Swin."""
        swin = config.backbone_config
        if swin.model_type != "swin":
            raise ValueError(f"expected a Mask2Former with a Swin backbone, got {swin.model_type!r}")
        sizes = {ours: getattr(config, theirs) for ours, theirs in NAMES.items()}
        sizes |= {ours: getattr(swin, theirs) for ours, theirs in SWIN_NAMES.items()}
        sizes |= {"depths": tuple(swin.depths), "swin_heads": tuple(swin.num_heads)}
        return Architecture(**sizes, decoder_layers=config.decoder_layers - 1)


class Mask2Former(nn.Module):
    """Normalised pixels to one class distribution and one mask per query.

    Args:
        architecture: all sizes.
        card: what the classes are and how images are prepared.
        network: a ``Mask2FormerForUniversalSegmentation`` to wrap and to change: its deformable attention becomes
            ours. One with random weights unless given.

    Raises:
        ImportError: transformers is not installed.
    """

    def __init__(self, architecture: Architecture, card: Card, network: nn.Module | None = None) -> None:
        super().__init__()
        if len(card.classes) != architecture.classes:
            raise ValueError(f"card: expected {architecture.classes} classes, got {len(card.classes)}")
        self.architecture, self.card = architecture, card
        if network is None:
            network = transformers().Mask2FormerForUniversalSegmentation(architecture.config())
        self.network: nn.Module = with_fast_sampling(network)

    @classmethod
    def from_detectron2(cls, state: Mapping[str, Tensor], architecture: Architecture, card: Card) -> Self:
        """The network with an official file's tensors; ValueError lists those that do not fit."""
        model = cls(architecture, card)
        model.network.load_state_dict(converted(state, model.network.state_dict()))
        return model.eval()

    @classmethod
    def from_settings(cls, state: Mapping[str, Tensor], settings: Mapping[str, Any], card: Card | None) -> Self:
        """The network ``settings()`` describe, with its own state; ValueError lists what does not fit."""
        if card is None:
            raise ValueError(f"a {cls.__name__} needs the card in the file's metadata, and there is none")
        sizes: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
        }
        model = cls(Architecture(**sizes), card)
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"the weights do not fit this architecture: {error}") from None
        return model.eval()

    @property
    def backbone(self) -> nn.Module:
        """The Swin alone, ``(b, 3, H, W)`` to its feature maps."""
        return self.network.model.pixel_level_module.encoder  # type: ignore[union-attr, return-value]

    def settings(self) -> dict[str, Any]:
        """What a file must hold beside the tensors."""
        return asdict(self.architecture)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """``(b, 3, H, W)`` normalised pixels, both sides multiples of 32.

        Returns:
            Class logits ``(b, queries, classes + 1)``, the last one "no object", and mask logits
            ``(b, queries, H / 4, W / 4)``.
        """
        out = self.network(pixel_values=pixels)
        return out.class_queries_logits, out.masks_queries_logits


def transformers() -> Any:
    """The library, imported when a Mask2Former is built; ImportError says how to get it."""
    try:
        import transformers as library
        from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig  # noqa: F401
    except ImportError as error:
        raise ImportError(f"Mask2Former needs transformers: pip install 'expedit[hf]' ({error})") from None
    return library
