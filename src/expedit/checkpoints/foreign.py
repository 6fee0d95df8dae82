"""What a file is that is no checkpoint of ours: by its first bytes, by what an archive holds, by key names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping


class NotCheckpoint(ValueError):
    """Something else; the message says what, without the file's name."""


FILES: Mapping[bytes, str] = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself: fetch that with 'git lfs pull'",
    b"<": "a web page (HTML or XML), probably the message of a server: download the file again",
    b"{": "JSON text, not weights: give the file with the weights, or the folder that has both",
    b"\x1f\x8b": "packed with gzip: unpack it and give what is inside",
    b"BZh": "packed with bzip2: unpack it and give what is inside",
    b"\xfd7zXZ": "packed with xz: unpack it and give what is inside",
    b"\x28\xb5\x2f\xfd": "packed with zstd: unpack it and give what is inside",
    b"7z\xbc\xaf": "a 7z archive: unpack it and give what is inside",
    b"Rar!": "a RAR archive: unpack it and give what is inside",
    b"\x89HDF": "an HDF5 file (Keras), not a torch checkpoint",
    b"GGUF": "a GGUF file of a language model",
    b"\x89PNG": "a picture (PNG), not a checkpoint",
    b"\xff\xd8\xff": "a picture (JPEG), not a checkpoint",
    b"%PDF": "a PDF document, not a checkpoint",
    b"\x93NUMPY": "one array of numpy (.npy), not a checkpoint",
    b"#!": "a script, not a checkpoint",
}
"""By the first bytes, after blanks."""

INNER: Mapping[tuple[int, bytes], str] = {
    (257, b"ustar"): "a tar archive: unpack it and give what is inside",
    (4, b"pytorch"): "an ONNX program, not a checkpoint",
}
"""By bytes in other places."""

ARCHIVES: Mapping[str, str] = {
    "constants.pkl": "a TorchScript program, not weights: save the state_dict() of the module it was made from",
    ".so": "a package of AOTInductor: machine code, which expedit never runs out of a file; load it yourself with "
    "torch._inductor.aoti_load_package, or give the checkpoint",
    "archive_format": "a program of torch.export, not weights: save the state_dict() of the module it was made from",
    ".npy": "an archive of numpy arrays (.npz), not a torch checkpoint",
}
"""Zip archives by the end of a name in them."""

NETWORKS: Mapping[str, tuple[str, ...]] = {
    "a Mask2Former with a ResNet backbone; only those with a Swin are supported": (
        r"^sem_seg_head\.predictor\.",
        r"^backbone\.(stem|res2)\.",
    ),
    "a MaskFormer or another network of detectron2 with masks from queries, not a Mask2Former": (r"^sem_seg_head\.",),
    "a Mask2Former of transformers: give the folder that has its config.json too": (r"pixel_level_module\.",),
    "a Mask2Former of mmdetection or mmsegmentation; only official weights and those of transformers are supported": (
        r"(decode_head|panoptic_head)\.(query_feat|cls_embed)\.",
    ),
    "a detector of detectron2 (R-CNN)": (r"(roi_heads|proposal_generator)\.",),
    "a network of mmsegmentation, but not a Segmenter": (r"^backbone\.", r"^decode_head\."),
    "adapters (LoRA) without the network they belong to": (r"\.lora_[ABab]\b",),
    "a CLIP or another network of images and text": (r"(^|\.)(visual|vision_model)\.", r"(token_embedding|text_model)"),
    "a Segment Anything (SAM)": (r"image_encoder\.", r"mask_decoder\."),
    "a DETR": (r"transformer\.decoder\.", r"class_embed\.", r"bbox_embed\."),
    "a text model": (r"(word_embeddings|embed_tokens|tok_embeddings|wte|^shared)\.weight$",),
    "a U-Net (diffusion)": (r"(down_blocks|input_blocks)\.",),
    "a YOLO detector": (r"^(model\.)+\d+\.(cv\d|m|conv)\.",),
    "a Swin without a Mask2Former around it": (r"layers\.\d\.blocks\.\d+\.attn\.relative_position_bias_table$",),
    "a ResNet, or a network around one": (r"(^|\.)layer1\.0\.conv1\.weight$",),
    "a plain ViT without a head for segmentation: a classifier or a backbone": (
        r"(^|\.)(blocks|layers?|resblocks)\.0\.(attn|attention|self_attention|self_attn)\.",
    ),
    "a classifier made of convolutions": (r"(^|\.)features\.0\.", r"(^|\.)classifier\."),
}
"""Networks by patterns that all must be found among the key names; the first that fits."""


def file_kind(head: bytes) -> str | None:
    """What a file is that begins with these 512 bytes, if it is something that never holds weights."""
    if not head:
        return "an empty file: copy or download it again"
    for (at, magic), kind in INNER.items():
        if head.startswith(magic, at):
            return kind
    start = head.lstrip(b" \t\r\n\xef\xbb\xbf")  # and after a byte order mark
    return next((kind for magic, kind in FILES.items() if start.startswith(magic)), None)


def archive_kind(names: Iterable[str]) -> str:
    """What a zip archive is that holds these files, and no torch checkpoint."""
    every = list(names)
    fitting = (kind for end, kind in ARCHIVES.items() if any(name.endswith(end) for name in every))
    return next(fitting, "a zip archive without a torch checkpoint: unpack it and give what is inside")


def network_kind(names: Iterable[str]) -> str | None:
    """What network has these keys, as far as one can see."""
    every = list(names)
    for kind, patterns in NETWORKS.items():
        if all(any(re.search(pattern, name) for name in every) for pattern in patterns):
            return kind
    return None
