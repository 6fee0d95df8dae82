"""A tiny network with random weights of every family of transformers: what the laws and the readers run over.

Hidden width 32, four blocks, pictures of 56 to 160 pixels a side. ``NETWORKS`` names them; ``network``, ``inputs`` and
``tensors`` build one, feed it and flatten what it returns.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

hf = pytest.importorskip("transformers")

DEPTH, WIDTH, LABELS = 4, 32, 4
SIZES = {"hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": 2}
SQUARE = {"image_size": 64, "patch_size": 8, "intermediate_size": 64}
STAGES = {"out_indices": [1, 2, 3, 4]}
NECK = {"neck_hidden_sizes": [8, 8, 8, 8], "fusion_hidden_size": 8}
IDS = {index: f"class {index}" for index in range(LABELS)}


class Family(NamedTuple):
    """How to build a network, (height, width) of its pictures, side of a patch, and whether it has a class token."""

    build: Callable[[], nn.Module]
    size: tuple[int, int]
    patch: int
    class_token: bool = True

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of the token lattice."""
        return self.size[0] // self.patch, self.size[1] // self.patch


def dinov2(**settings):
    return hf.Dinov2Config(**SIZES, mlp_ratio=2, image_size=56, patch_size=14, **settings)


def dinov3(**settings):
    return hf.DINOv3ViTConfig(**SIZES, **SQUARE, num_register_tokens=4, **settings)


def depth_backbone(**settings):
    return dinov2(**STAGES, reshape_hidden_states=False, apply_layernorm=True)


def dpt(**settings):
    taps = {"backbone_out_indices": [0, 1, 2, 3], "is_hybrid": False}
    return hf.DPTConfig(**SIZES, **SQUARE, **NECK, **taps, **settings)


def depth_anything(config, model, **settings):
    sizes = {"reassemble_hidden_size": WIDTH, "patch_size": 14, "head_hidden_size": 4}
    return model(config(backbone_config=depth_backbone(), **sizes, **NECK, **settings))


def zoedepth():
    taps = {"out_features": ["stage1", "stage2", "stage3", "stage4"], "reshape_hidden_states": False}
    beit = hf.BeitConfig(**SIZES, **{**SQUARE, "patch_size": 16}, use_relative_position_bias=True, **taps)
    bins = {"n_bins": 8, "min_depth": 0.1, "max_depth": 10.0, "name": "nyu"}
    sizes = {"fusion_hidden_size": 16, "bottleneck_features": 16, "num_relative_features": 32, "bin_embedding_dim": 16}
    return hf.ZoeDepthForDepthEstimation(
        hf.ZoeDepthConfig(
            backbone_config=beit,
            neck_hidden_sizes=[16, 16, 32, 32],
            num_attractors=[4, 4, 2, 1],
            bin_configurations=[bins],
            **sizes,
        )
    )


def beit():
    settings = {"use_relative_position_bias": True, "layer_scale_init_value": 0.1, "pool_scales": [1, 2]}
    sizes = {**SIZES, **SQUARE, "num_hidden_layers": 5}  # what i of out_indices names stands after block i - 2
    return hf.BeitForSemanticSegmentation(hf.BeitConfig(**sizes, **settings, out_indices=[2, 3, 4, 5], id2label=IDS))


def upernet(backbone, channels):
    settings = {"hidden_size": 16, "auxiliary_in_channels": channels, "pool_scales": [1, 2], "id2label": IDS}
    return hf.UperNetForSemanticSegmentation(hf.UperNetConfig(backbone_config=backbone, **settings))


def swin(**settings):
    sizes = {"embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 1, 2, 2], "window_size": 4, "image_size": 64}
    return hf.SwinConfig(**sizes, out_features=["stage1", "stage2", "stage3", "stage4"], **settings)


def eomt(config, model, **settings):
    made = model(config(**SIZES, num_queries=5, num_blocks=2, id2label=IDS, **settings))
    made.attn_mask_probs.zero_()  # as published weights have it; random ones mask attention
    return made


def clip_vision(kind):
    return kind(**SIZES, **SQUARE)


def clipseg():
    text = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    decoder = {"projection_dim": 16, "reduce_dim": 16, "decoder_num_attention_heads": 2}
    return hf.CLIPSegForImageSegmentation(
        hf.CLIPSegConfig(
            vision_config=clip_vision(hf.CLIPSegVisionConfig).to_dict(),
            text_config=hf.CLIPSegTextConfig(**text, vocab_size=50).to_dict(),
            extract_layers=[0, 1, 2],
            decoder_intermediate_size=32,
            **decoder,
        )
    )


def sam_vision(kind):
    sizes = {"image_size": 160, "patch_size": 8, "window_size": 7, "mlp_dim": 64, "output_channels": 16}
    return kind(**SIZES, **sizes, global_attn_indexes=[1, 3], num_pos_feats=8)


def sam(prefix, **decoder):
    prompts = {"hidden_size": 16, "image_size": 160, "patch_size": 8, "mask_input_channels": 8}
    decoder |= {"hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = getattr(hf, f"{prefix}Config")(
        vision_config=sam_vision(getattr(hf, f"{prefix}VisionConfig")).to_dict(),
        prompt_encoder_config=getattr(hf, f"{prefix}PromptEncoderConfig")(**prompts).to_dict(),
        mask_decoder_config=getattr(hf, f"{prefix}MaskDecoderConfig")(**decoder, iou_head_hidden_dim=16).to_dict(),
    )
    return getattr(hf, f"{prefix}Model")(config)


def sam2_vision():
    backbone = hf.Sam2HieraDetConfig(
        hidden_size=16,
        blocks_per_stage=[1, 2, 6, 2],
        embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 7, 7],
        global_attention_blocks=[5, 7],
        window_positional_embedding_background_size=[7, 7],
        image_size=[256, 256],
    )
    sizes = {"fpn_hidden_size": 16, "backbone_feature_sizes": [[64, 64], [32, 32], [16, 16]]}
    return hf.Sam2VisionModel(
        hf.Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=[128, 64, 32, 16], **sizes)
    )


def sam3_vision():
    sizes = {"image_size": 112, "patch_size": 14, "intermediate_size": 64, "window_size": 4}
    backbone = hf.Sam3ViTConfig(**SIZES, **sizes, pretrain_image_size=56, global_attn_indexes=[1, 3])
    return hf.Sam3VisionModel(hf.Sam3VisionConfig(backbone_config=backbone, fpn_hidden_size=16))


def sapiens2(model, **settings):
    sizes = {"intermediate_size": 64, "image_size": [64, 48], "patch_size": 8, "num_register_tokens": 4}
    config = hf.Sapiens2Config(**SIZES, **sizes, **{"num_key_value_heads": 2, **settings})
    return model(config)


def sapiens2_grouped():
    config = sapiens2(lambda config: config, out_indices=[2, 4])
    config.num_key_value_heads_per_layer = [1] * DEPTH
    return hf.Sapiens2Backbone(config)


def vitpose():
    sizes = {"image_size": [64, 48], "patch_size": [8, 8], "mlp_ratio": 2, "out_indices": [DEPTH]}
    return hf.VitPoseForPoseEstimation(
        hf.VitPoseConfig(backbone_config=hf.VitPoseBackboneConfig(**SIZES, **sizes), num_labels=LABELS)
    )


def pixio(model):
    sizes = {"mlp_ratio": 2, "image_size": 64, "patch_size": 8, "n_cls_tokens": 3}
    return model(hf.PixioConfig(**SIZES, **sizes, out_indices=[2, 4]))


def maskformer():
    decoder = hf.DetrConfig(d_model=16, decoder_layers=2, decoder_attention_heads=2, encoder_layers=1, num_queries=5)
    sizes = {"fpn_feature_size": 32, "mask_feature_size": 32, "id2label": IDS}
    return hf.MaskFormerForInstanceSegmentation(
        hf.MaskFormerConfig(backbone_config=swin(), decoder_config=decoder, **sizes)
    )


def oneformer():
    text = {"text_encoder_width": 16, "text_encoder_vocab_size": 60, "text_encoder_num_layers": 1}
    sizes = {"hidden_dim": 32, "mask_dim": 32, "conv_dim": 32, "num_attention_heads": 2, "num_queries": 6}
    layers = {"encoder_layers": 1, "decoder_layers": 2, "query_dec_layers": 1, "is_training": False}
    return hf.OneFormerForUniversalSegmentation(
        hf.OneFormerConfig(
            backbone_config=swin(), **text, **sizes, **layers, text_encoder_n_ctx=2, task_seq_len=8, id2label=IDS
        )
    )


NETWORKS: dict[str, Family] = {
    "dinov2": Family(lambda: hf.Dinov2Model(dinov2()), (98, 126), 14),
    "dinov2-swiglu": Family(lambda: hf.Dinov2Model(dinov2(use_swiglu_ffn=True)), (98, 126), 14),
    "dinov2-registers": Family(
        lambda: hf.Dinov2WithRegistersModel(
            hf.Dinov2WithRegistersConfig(**SIZES, mlp_ratio=2, image_size=56, patch_size=14, num_register_tokens=4)
        ),
        (98, 126),
        14,
    ),
    "dinov2-backbone": Family(
        lambda: hf.Dinov2Backbone(dinov2(**STAGES, reshape_hidden_states=True, apply_layernorm=True)), (98, 126), 14
    ),
    "dinov3": Family(lambda: hf.DINOv3ViTModel(dinov3()), (56, 80), 8),
    "dinov3-gated": Family(lambda: hf.DINOv3ViTModel(dinov3(use_gated_mlp=True)), (56, 80), 8),
    "dinov3-backbone": Family(lambda: hf.DINOv3ViTBackbone(dinov3(out_indices=[1, 2, 4])), (56, 80), 8),
    "vit": Family(lambda: hf.ViTModel(hf.ViTConfig(**SIZES, **SQUARE), add_pooling_layer=False), (64, 64), 8),
    "clip": Family(lambda: hf.CLIPVisionModel(clip_vision(hf.CLIPVisionConfig)), (64, 64), 8),
    "clipseg": Family(clipseg, (64, 64), 8),
    "siglip": Family(lambda: hf.SiglipVisionModel(clip_vision(hf.SiglipVisionConfig)), (64, 64), 8, False),
    "pixio": Family(lambda: pixio(hf.PixioModel), (56, 80), 8),
    "pixio-backbone": Family(lambda: pixio(hf.PixioBackbone), (56, 80), 8),
    "sapiens2": Family(lambda: sapiens2(hf.Sapiens2Model), (64, 48), 8),
    "sapiens2-backbone": Family(lambda: sapiens2(hf.Sapiens2Backbone, out_indices=[2, 4]), (64, 48), 8),
    "sapiens2-grouped": Family(sapiens2_grouped, (64, 48), 8),
    "vitpose": Family(vitpose, (64, 48), 8, False),
    "dpt": Family(lambda: hf.DPTForDepthEstimation(dpt()), (64, 64), 8),
    "dpt-semantic": Family(lambda: hf.DPTForSemanticSegmentation(dpt(id2label=IDS)), (64, 64), 8),
    "depth-anything": Family(
        lambda: depth_anything(hf.DepthAnythingConfig, hf.DepthAnythingForDepthEstimation), (98, 126), 14
    ),
    "prompt-depth-anything": Family(
        lambda: depth_anything(hf.PromptDepthAnythingConfig, hf.PromptDepthAnythingForDepthEstimation), (98, 126), 14
    ),
    "zoedepth": Family(zoedepth, (128, 160), 16),
    "beit": Family(beit, (64, 64), 8),
    "upernet": Family(
        lambda: upernet(dinov2(**STAGES, reshape_hidden_states=True, apply_layernorm=True), WIDTH), (98, 126), 14
    ),
    "eomt": Family(
        lambda: eomt(hf.EomtConfig, hf.EomtForUniversalSegmentation, mlp_ratio=2, image_size=64, patch_size=8),
        (64, 64),
        8,
    ),
    "eomt-dinov3": Family(
        lambda: eomt(hf.EomtDinov3Config, hf.EomtDinov3ForUniversalSegmentation, **SQUARE), (64, 64), 8
    ),
    "videomt": Family(
        lambda: eomt(hf.VideomtConfig, hf.VideomtForUniversalSegmentation, mlp_ratio=2, image_size=64, patch_size=8),
        (64, 64),
        8,
    ),
    "sam": Family(lambda: sam("Sam"), (160, 160), 8, False),
    "sam-hq": Family(lambda: sam("SamHQ", vit_dim=WIDTH), (160, 160), 8, False),
    "sam2-vision": Family(sam2_vision, (256, 256), 4, False),
    "sam3-vision": Family(sam3_vision, (112, 112), 14, False),
    "oneformer": Family(oneformer, (64, 64), 4, False),
    "maskformer": Family(maskformer, (64, 64), 4, False),
    "upernet-swin": Family(lambda: upernet(swin(), 64), (64, 64), 4, False),
}
"""By name; the patch of Swin is that of its first stage."""


def network(name: str) -> nn.Module:
    """One of ``NETWORKS`` in evaluation mode, every parameter moved off its initial value, the same in every run."""
    torch.manual_seed(0)
    made = NETWORKS[name].build()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        for key, parameter in made.named_parameters():
            if key.startswith("head.") and key.endswith("bias"):
                parameter.add_(1.0)  # a depth that is not cut off at 0
        if name == "pixio-backbone":  # the library writes its two norms under one another's name; published are equal
            made.pixio.layernorm.load_state_dict(made.layernorm.state_dict())
    return made.eval()


def inputs(name: str, batch: int = 1, seed: int = 1, size: tuple[int, int] | None = None) -> dict[str, Tensor]:
    """Keywords of the network's forward: pixels ``(batch, 3, H, W)``, and what else it asks for."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(batch, 3, *(size or NETWORKS[name].size), generator=generator)
    if name == "videomt":
        return {"pixel_values_videos": pixels[:, None]}
    more: dict[str, Tensor] = {}
    if name == "clipseg":
        more["input_ids"] = torch.arange(3, 8)[None].expand(batch, -1)
    if name == "prompt-depth-anything":
        more["prompt_depth"] = torch.rand(batch, 1, 12, 16, generator=generator) + 0.5
    if name == "oneformer":
        more["task_inputs"] = torch.arange(8)[None].expand(batch, -1)
    if name.startswith("sam") and "vision" not in name:
        more["input_points"] = torch.tensor([[[[40.0, 50.0]]]]).expand(batch, -1, -1, -1)
    return {"pixel_values": pixels, **more}


def tensors(output: object) -> dict[str, Tensor]:
    """Every tensor in what a network of transformers returns, by name, tuples numbered."""
    found: dict[str, Tensor] = {}
    for key, value in dict(output).items():  # type: ignore[call-overload]
        if isinstance(value, Tensor):
            found[key] = value
        elif isinstance(value, (tuple, list)):
            found |= {f"{key}[{place}]": part for place, part in enumerate(value) if isinstance(part, Tensor)}
    return found


SQUASHED = {"size": {"height": 64, "width": 64}}
KEPT = {"size": {"height": 98, "width": 98}, "keep_aspect_ratio": True, "ensure_multiple_of": 14}
PADDED = {"size": {"longest_edge": 160}, "pad_size": {"height": 160, "width": 160}}
CROPPED = {"size": {"shortest_edge": 80}, "crop_size": {"height": 70, "width": 70}}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}

PROCESSORS: dict[str, tuple[str, dict]] = {
    "dinov2": ("BitImageProcessor", CROPPED | IMAGENET),
    "dinov2-registers": ("BitImageProcessor", CROPPED | IMAGENET),
    "dinov2-backbone": ("BitImageProcessor", CROPPED | IMAGENET),
    "dinov3": ("DINOv3ViTImageProcessorFast", SQUASHED | IMAGENET),
    "dinov3-backbone": ("DINOv3ViTImageProcessor", SQUASHED | IMAGENET),
    "vit": ("ViTImageProcessor", SQUASHED),
    "clip": ("CLIPImageProcessor", {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}),
    "clipseg": ("ViTImageProcessor", SQUASHED | IMAGENET),
    "siglip": ("SiglipImageProcessor", SQUASHED),
    "pixio": ("BitImageProcessor", CROPPED | IMAGENET),
    "pixio-backbone": ("BitImageProcessor", CROPPED | IMAGENET),
    "sapiens2": ("Sapiens2ImageProcessor", {"size": {"height": 64, "width": 48}} | IMAGENET),
    "sapiens2-backbone": ("Sapiens2ImageProcessor", {"size": {"height": 64, "width": 48}} | IMAGENET),
    "dpt": ("DPTImageProcessor", SQUASHED),
    "dpt-semantic": ("DPTImageProcessor", SQUASHED),
    "depth-anything": ("DPTImageProcessor", KEPT | IMAGENET),
    "prompt-depth-anything": ("PromptDepthAnythingImageProcessor", KEPT | IMAGENET),
    "zoedepth": ("ZoeDepthImageProcessor", {"size": {"height": 128, "width": 160}, "ensure_multiple_of": 32}),
    "beit": ("BeitImageProcessor", SQUASHED | {"do_center_crop": False}),
    "upernet": ("SegformerImageProcessor", {"size": {"height": 98, "width": 126}} | IMAGENET),
    "upernet-swin": ("SegformerImageProcessor", SQUASHED | IMAGENET),
    "eomt": ("EomtImageProcessor", {"size": {"shortest_edge": 64, "longest_edge": 64}, "do_pad": True}),
    "eomt-dinov3": ("EomtImageProcessor", {"size": {"shortest_edge": 64, "longest_edge": 64}, "do_pad": True}),
    "sam": ("SamImageProcessor", PADDED | IMAGENET),
    "sam-hq": ("SamImageProcessor", PADDED | IMAGENET),
    "sam2-vision": ("Sam2ImageProcessor", {"size": {"height": 256, "width": 256}} | IMAGENET),
    "sam3-vision": ("Sam3ImageProcessorFast", {"size": {"height": 112, "width": 112}} | IMAGENET),
    "oneformer": ("OneFormerImageProcessor", {"size": {"shortest_edge": 64, "longest_edge": 128}}),
    "maskformer": ("MaskFormerImageProcessor", {"size": {"shortest_edge": 64, "longest_edge": 128}}),
}
"""What prepares the images of those that ``expedit.load`` takes: the name in ``preprocessor_config.json``, settings."""


def write_folder(name: str, folder: Path, **settings: Any) -> nn.Module:
    """One of ``NETWORKS`` as a checkpoint of transformers, with its processor; returns the network."""
    made = network(name)
    made.save_pretrained(folder)
    kind, prepared = PROCESSORS[name]
    described = {"image_processor_type": kind, **prepared, **settings}
    (folder / "preprocessor_config.json").write_text(json.dumps(described))
    if name == "oneformer":
        letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
        tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
        (folder / "vocab.json").write_text(json.dumps({token: place for place, token in enumerate(tokens)}))
        (folder / "merges.txt").write_text("#version: 0.2\n")
    return made
