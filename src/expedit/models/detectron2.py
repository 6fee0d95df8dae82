"""Official Mask2Former weights: detectron2's names, read off those that the installed transformers uses."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

RENAMES: tuple[tuple[str, str], ...] = (
    (
        r"^model\.pixel_level_module\.encoder\.swin\.embeddings\.patch_embeddings\.projection\.",
        "backbone.patch_embed.proj.",
    ),
    (r"^model\.pixel_level_module\.encoder\.swin\.embeddings\.norm\.", "backbone.patch_embed.norm."),
    (r"^model\.pixel_level_module\.encoder\.swin\.encoder\.layers\.", "backbone.layers."),
    *(
        (rf"^model\.pixel_level_module\.encoder\.hidden_states_norms\.stage{i + 1}\.", f"backbone.norm{i}.")
        for i in range(4)
    ),
    (r"^model\.pixel_level_module\.decoder\.", "sem_seg_head.pixel_decoder."),
    (r"^model\.transformer_module\.", "sem_seg_head.predictor."),
    (r"^class_predictor\.", "sem_seg_head.predictor.class_embed."),
    # backbone
    (r"^(backbone\..*)\.layernorm_before\.", r"\1.norm1."),
    (r"^(backbone\..*)\.layernorm_after\.", r"\1.norm2."),
    (r"^(backbone\..*)\.attention\.relative_position_bias\.", r"\1.attn."),
    (r"^(backbone\..*)\.attention\.o_proj\.", r"\1.attn.proj."),
    (r"^(backbone\..*)\.attention\.[qkv]_proj\.", r"\1.attn.qkv."),
    # pixel decoder
    (r"\.pixel_decoder\.input_projections\.", ".pixel_decoder.input_proj."),
    (r"\.pixel_decoder\.(level_embed|encoder\.)", r".pixel_decoder.transformer.\1"),
    (r"(\.pixel_decoder\..*)\.self_attn_layer_norm\.", r"\1.norm1."),
    (r"(\.pixel_decoder\..*)\.final_layer_norm\.", r"\1.norm2."),
    (r"(\.pixel_decoder\..*)\.fc([12])\.", r"\1.linear\2."),
    (r"\.pixel_decoder\.(adapter_\d+|layer_\d+)\.0\.", r".pixel_decoder.\1."),
    (r"\.pixel_decoder\.(adapter_\d+|layer_\d+)\.1\.", r".pixel_decoder.\1.norm."),
    (r"\.pixel_decoder\.mask_projection\.", ".pixel_decoder.mask_features."),
    # predictor
    (r"\.predictor\.queries_features\.", ".predictor.query_feat."),
    (r"\.predictor\.queries_embedder\.", ".predictor.query_embed."),
    (r"\.predictor\.decoder\.layernorm\.", ".predictor.decoder_norm."),
    (r"\.predictor\.decoder\.mask_predictor\.mask_embedder\.(\d+)\.0\.", r".predictor.mask_embed.layers.\1."),
    (r"\.decoder\.layers\.(\d+)\.self_attn\.[qkv]_proj\.", r".transformer_self_attention_layers.\1.self_attn.in_proj_"),
    (r"\.decoder\.layers\.(\d+)\.self_attn\.", r".transformer_self_attention_layers.\1.self_attn."),
    (r"\.decoder\.layers\.(\d+)\.self_attn_layer_norm\.", r".transformer_self_attention_layers.\1.norm."),
    (r"\.decoder\.layers\.(\d+)\.cross_attn\.", r".transformer_cross_attention_layers.\1.multihead_attn."),
    (r"\.decoder\.layers\.(\d+)\.cross_attn_layer_norm\.", r".transformer_cross_attention_layers.\1.norm."),
    (r"\.decoder\.layers\.(\d+)\.final_layer_norm\.", r".transformer_ffn_layers.\1.norm."),
    (r"\.decoder\.layers\.(\d+)\.fc([12])\.", r".transformer_ffn_layers.\1.linear\2."),
)
"""From a name of transformers to the official one; all that match apply, in this order."""

PACKED = re.compile(r"^(?:model\.pixel_level_module\.encoder\.swin|model\.transformer_module)\..*\.([qkv])_proj\.")
"""Projections that the official file keeps in one tensor, a third each."""

OWN = ("criterion.", "model.pixel_level_module.encoder.swin.layernorm.")
"""Tensors of transformers that have no official counterpart and no effect on the masks."""

IGNORED = re.compile(r"^criterion\.|\.relative_position_index$|\.attn_mask$")
"""Buffers and training state of official files."""


def official_name(name: str) -> tuple[str, int | None]:
    """The official name of a parameter of transformers, and which third of that tensor it is (``None``: all of it)."""
    packed = PACKED.match(name)
    official = name
    for pattern, replacement in RENAMES:
        official = re.sub(pattern, replacement, official)
    return official, None if packed is None else "qkv".index(packed[1])


def modern(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` under today's official names: older files keep the pixel decoder right under ``sem_seg_head``."""
    head, decoder = "sem_seg_head.", "sem_seg_head.pixel_decoder."
    legacy = not any(name.startswith(decoder) for name in state)
    renamed = {}
    for name, value in state.items():
        if legacy and name.startswith(head) and not name.startswith(head + "predictor."):
            name = decoder + name.removeprefix(head)
        renamed[name.replace(".predictor.static_query.", ".predictor.query_feat.")] = value
    return renamed


def converted(state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official tensors under the names of transformers.

    Args:
        state: an official file's tensors.
        like: state of the network to be filled; tensors in ``OWN`` are taken from it.

    Raises:
        ValueError: lists official names that are missing or unused, and those with another shape.
    """
    state = modern(state)
    result, used, missing, wrong = {}, set(), [], []
    for name, target in like.items():
        if name.startswith(OWN):
            result[name] = target
            continue
        official, third = official_name(name)
        used.add(official)
        if official not in state:
            missing.append(official)
            continue
        value, parts = state[official], 1 if third is None else 3
        expected = (parts * target.shape[0], *target.shape[1:])
        if tuple(value.shape) != expected:
            wrong.append(f"{official} (expected {expected}, got {tuple(value.shape)})")
            continue
        result[name] = value if third is None else value.chunk(3)[third]
    unused = [name for name in state if name not in used and not IGNORED.search(name)]
    report = {"missing": missing, "unused": unused, "wrong shape": wrong}
    if lines := [f"{kind}: {', '.join(dict.fromkeys(names))}" for kind, names in report.items() if names]:
        raise ValueError("the weights do not fit this architecture; " + "; ".join(lines))
    return result
