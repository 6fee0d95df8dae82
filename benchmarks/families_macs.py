"""Multiply-adds of published networks of transformers with three settings of Expedit, as ``expedit benchmark`` counts.

    python benchmarks/families_macs.py                (two minutes on one core, a few hundred megabytes, no weights)

Everything lies on the meta device. Mild: 5/12 of the blocks on all tokens, then 0.7 of each side of the lattice;
medium: 1/3 and 0.5; strong: 1/6 and 0.5. SAM 2 is cut inside its third stage, from block 20, 16 or 9 on.
"""

import csv
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import transformers as hf
from torch import nn

from expedit.cost.benchmark import count
from expedit.spec import parse

LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
STEPS = {"mild": (5 / 12, 0.7), "medium": (1 / 3, 0.5), "strong": (1 / 6, 0.5)}


class Row(NamedTuple):
    """A network, (height, width) in pixels, its blocks, and where it is cut if not by their share."""

    build: Callable[[], nn.Module]
    size: tuple[int, int]
    depth: int
    alphas: tuple[int, ...] = ()


def dinov2(**settings: Any) -> hf.Dinov2Config:
    return hf.Dinov2Config(**{**LARGE, "image_size": 518, "patch_size": 14, **settings})


def depth_anything() -> nn.Module:
    taps = {"out_indices": [5, 12, 18, 24], "reshape_hidden_states": False, "apply_layernorm": True}
    neck = {"neck_hidden_sizes": [256, 512, 1024, 1024], "fusion_hidden_size": 256, "head_hidden_size": 32}
    config = hf.DepthAnythingConfig(backbone_config=dinov2(**taps), reassemble_hidden_size=1024, **neck)
    return hf.DepthAnythingForDepthEstimation(config)


def eomt(size: int) -> nn.Module:
    return hf.EomtForUniversalSegmentation(
        hf.EomtConfig(**LARGE, image_size=size, patch_size=16, num_queries=200, num_labels=133)
    )


def dpt() -> nn.Module:
    sizes = {"intermediate_size": 4096, "image_size": 384, "patch_size": 16, "is_hybrid": False}
    return hf.DPTForDepthEstimation(hf.DPTConfig(**LARGE, **sizes, backbone_out_indices=[5, 11, 17, 23]))


def sam(**settings: Any) -> nn.Module:
    return hf.SamVisionModel(hf.SamVisionConfig(**settings))


def sam2() -> nn.Module:
    backbone = hf.Sam2HieraDetConfig(
        hidden_size=144,
        num_attention_heads=2,
        blocks_per_stage=[2, 6, 36, 4],
        embed_dim_per_stage=[144, 288, 576, 1152],
        num_attention_heads_per_stage=[2, 4, 8, 16],
        window_size_per_stage=[8, 4, 16, 8],
        global_attention_blocks=[23, 33, 43],
        window_positional_embedding_background_size=[7, 7],
    )
    return hf.Sam2VisionModel(
        hf.Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=[1152, 576, 288, 144])
    )


def sapiens2() -> nn.Module:
    sizes = {"hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24, "intermediate_size": 4096}
    return hf.Sapiens2Model(hf.Sapiens2Config(**sizes, image_size=[1024, 768], patch_size=16))


def siglip() -> nn.Module:
    sizes = {"hidden_size": 1152, "num_hidden_layers": 27, "num_attention_heads": 16, "intermediate_size": 4304}
    return hf.SiglipVisionModel(hf.SiglipVisionConfig(**sizes, image_size=378, patch_size=14))


def upernet() -> nn.Module:
    stages = {"out_features": [f"stage{block}" for block in (8, 12, 16, 24)], "add_fpn": True}
    backbone = hf.BeitConfig(**LARGE, **stages, intermediate_size=4096, image_size=640, use_relative_position_bias=True)
    config = hf.UperNetConfig(backbone_config=backbone, auxiliary_in_channels=1024, use_auxiliary_head=False)
    return hf.UperNetForSemanticSegmentation(config)


def sam3() -> nn.Module:
    return hf.Sam3ViTModel(hf.Sam3ViTConfig())


def clipseg() -> nn.Module:
    return hf.CLIPSegVisionModel(hf.CLIPSegVisionConfig(image_size=352, patch_size=16))


GIANT = {"hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24, "use_swiglu_ffn": True}
HUGE = {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16, "mlp_dim": 5120}
SEVEN = {"hidden_size": 4096, "num_hidden_layers": 40, "num_attention_heads": 32, "use_gated_mlp": True}
DINOV3 = {"intermediate_size": 4096, "patch_size": 16, "num_register_tokens": 4}

ROWS = {
    "DINOv2-L/14 518": Row(lambda: hf.Dinov2Model(dinov2()), (518, 518), 24),
    "DINOv2-g/14 518": Row(lambda: hf.Dinov2Model(dinov2(**GIANT)), (518, 518), 40),
    "DINOv3-L/16 768": Row(lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**LARGE, **DINOV3)), (768, 768), 24),
    "DINOv3-7B/16 896": Row(
        lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**{**DINOV3, **SEVEN, "intermediate_size": 8192})), (896, 896), 40
    ),
    "EoMT-L 640": Row(lambda: eomt(640), (640, 640), 24),
    "EoMT-L 1280": Row(lambda: eomt(1280), (1280, 1280), 24),
    "Depth Anything V2-L 518": Row(depth_anything, (518, 518), 24),
    "Depth Anything V2-L 518 x 686": Row(depth_anything, (518, 686), 24),
    "DPT-L/16 384": Row(dpt, (384, 384), 24),
    "BEiT-L/16 640 + UperNet": Row(upernet, (640, 640), 24),
    "SAM-H encoder 1024": Row(lambda: sam(**HUGE, global_attn_indexes=[7, 15, 23, 31]), (1024, 1024), 32),
    "SAM-B encoder 1024": Row(sam, (1024, 1024), 12),
    "SAM 2-L encoder 1024": Row(sam2, (1024, 1024), 48, (20, 16, 9)),
    "SAM 3 ViT 1008": Row(sam3, (1008, 1008), 32),
    "Sapiens2 40 x 1536, 1024 x 768": Row(sapiens2, (1024, 768), 40),
    "SigLIP-so400m/14 378": Row(siglip, (378, 378), 27),
    "CLIPSeg-B/16 352, image tower": Row(clipseg, (352, 352), 12),
}


def main() -> None:
    """Count and print."""
    table = csv.writer(sys.stdout)
    table.writerow(["network", "gmacs", *(f"{name}{what}" for name in STEPS for what in ("", "_ratio"))])
    for name, row in ROWS.items():
        with torch.device("meta"):
            model = row.build().eval().to("meta")
        alphas = row.alphas or [max(round(share * row.depth), 1) for share, _ in STEPS.values()]
        specs = [
            f"expedit(alpha={alpha}, grid={side})" for alpha, (_, side) in zip(alphas, STEPS.values(), strict=True)
        ]
        dense, *fast = (counted.true_gmacs for counted in count(model, [parse(spec) for spec in specs], row.size))
        table.writerow([name, f"{dense:.1f}", *(word for g in fast for word in (f"{g:.1f}", f"{dense / g:.3f}"))])
        sys.stdout.flush()


if __name__ == "__main__":
    main()
