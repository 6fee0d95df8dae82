"""What ``expedit.load`` and ``expedit.predict`` do with the classes of transformers, and why with some they do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .card import Depth, Task

QUERY_TASKS: tuple[Task, ...] = ("panoptic", "instance", "semantic")


@dataclass(frozen=True)
class Family:
    """One class of the library.

    Attributes:
        title: what people call the network.
        tasks: what ``expedit.predict`` can make of it, the default first.
        output: field of the library's result that is read; unused for tasks of queries.
        processor: class that prepares images, where the checkpoint does not name one.
        reads: class that reads the weights in place of the one that the checkpoint names: the same without its head.
        part: path of the part of the network that runs; all of it where empty.
        settings: keywords of the class that reads the weights.
        inputs: what the network takes of the processor's result beside the pixels.
        resizes: its forward must be asked to take images of another size than it was trained on.
        asks: it takes its task in words.
        depth: what its depth says, unless its configuration says it.
    """

    title: str
    tasks: tuple[Task, ...]
    output: str
    processor: str
    reads: str | None = None
    part: str = ""
    settings: Mapping[str, Any] | None = None
    inputs: tuple[str, ...] = ()
    resizes: bool = False
    asks: bool = False
    depth: Depth = "metric"

    @property
    def fields(self) -> tuple[str, ...]:
        """Those of the library's result that are read."""
        return (self.output,) if self.output else ("class_queries_logits", "masks_queries_logits")


def _features(title: str, processor: str, output: str = "last_hidden_state", **facts: Any) -> Family:
    return Family(title, ("features",), output, processor, **facts)


def _semantic(title: str, processor: str) -> Family:
    return Family(title, ("semantic",), "logits", processor)


def _depth(title: str, processor: str, depth: Depth = "metric") -> Family:
    return Family(title, ("depth",), "predicted_depth", processor, depth=depth)


def _queries(title: str, processor: str, *inputs: str, asks: bool = False) -> Family:
    return Family(title, QUERY_TASKS, "", processor, inputs=inputs, asks=asks)


_DINOV2 = _features("DINOv2", "BitImageProcessor")
_REGISTERS = replace(_DINOV2, title="DINOv2 with registers")
_DINOV3 = _features("DINOv3", "DINOv3ViTImageProcessor")
_VIT = _features("ViT", "ViTImageProcessor", resizes=True, settings={"add_pooling_layer": False})
_CLIP = _features("CLIP", "CLIPImageProcessor", resizes=True)
_SIGLIP = _features("SigLIP", "SiglipImageProcessor", resizes=True)
_PIXIO = _features("Pixio", "BitImageProcessor")
_SAPIENS2 = _features("Sapiens2", "Sapiens2ImageProcessor")
_SAM = _features("SAM", "SamImageProcessor")
_SAM2 = _features("SAM 2", "Sam2ImageProcessor", "fpn_hidden_states")
_SAM3 = _features("SAM 3", "Sam3ImageProcessor")

FAMILIES: Mapping[str, Family] = {
    "Dinov2Model": _DINOV2,
    "Dinov2Backbone": replace(_DINOV2, output="feature_maps"),
    "Dinov2ForImageClassification": replace(_DINOV2, reads="Dinov2Model"),
    "Dinov2WithRegistersModel": _REGISTERS,
    "Dinov2WithRegistersBackbone": replace(_REGISTERS, output="feature_maps"),
    "Dinov2WithRegistersForImageClassification": replace(_REGISTERS, reads="Dinov2WithRegistersModel"),
    "DINOv3ViTModel": _DINOV3,
    "DINOv3ViTBackbone": replace(_DINOV3, output="feature_maps"),
    "ViTModel": _VIT,
    "ViTForImageClassification": replace(_VIT, reads="ViTModel"),
    "CLIPVisionModel": _CLIP,
    "CLIPModel": replace(_CLIP, reads="CLIPVisionModel"),
    "CLIPVisionModelWithProjection": replace(_CLIP, reads="CLIPVisionModel"),
    "CLIPSegForImageSegmentation": _features("CLIPSeg", "ViTImageProcessor", part="clip.vision_model"),
    "SiglipVisionModel": _SIGLIP,
    "SiglipModel": replace(_SIGLIP, reads="SiglipVisionModel"),
    "PixioModel": _PIXIO,
    "PixioBackbone": replace(_PIXIO, output="feature_maps"),
    "Sapiens2Model": _SAPIENS2,
    "Sapiens2Backbone": replace(_SAPIENS2, output="feature_maps"),
    "Sapiens2ForSemanticSegmentation": _semantic("Sapiens2", "Sapiens2ImageProcessor"),
    "SamModel": replace(_SAM, part="vision_encoder"),
    "SamVisionModel": _SAM,
    "SamHQModel": replace(_SAM, title="SAM-HQ", part="vision_encoder"),
    "SamHQVisionModel": replace(_SAM, title="SAM-HQ"),
    "Sam2Model": replace(_SAM2, part="vision_encoder"),
    "Sam2VisionModel": _SAM2,
    "Sam3Model": replace(_SAM3, part="vision_encoder"),
    "Sam3VisionModel": _SAM3,
    "DPTForDepthEstimation": _depth("DPT", "DPTImageProcessor", "inverse"),
    "DPTForSemanticSegmentation": _semantic("DPT", "DPTImageProcessor"),
    "DepthAnythingForDepthEstimation": _depth("Depth Anything", "DPTImageProcessor", "inverse"),
    "PromptDepthAnythingForDepthEstimation": _depth("Prompt Depth Anything", "PromptDepthAnythingImageProcessor"),
    "ZoeDepthForDepthEstimation": _depth("ZoeDepth", "ZoeDepthImageProcessor"),
    "BeitForSemanticSegmentation": _semantic("BEiT", "BeitImageProcessor"),
    "UperNetForSemanticSegmentation": _semantic("UperNet", "SegformerImageProcessor"),
    "EomtForUniversalSegmentation": _queries("EoMT", "EomtImageProcessor", "patch_offsets"),
    "EomtDinov3ForUniversalSegmentation": _queries("EoMT with DINOv3", "EomtImageProcessor", "patch_offsets"),
    "OneFormerForUniversalSegmentation": _queries("OneFormer", "OneFormerImageProcessor", "pixel_mask", asks=True),
    "MaskFormerForInstanceSegmentation": _queries("MaskFormer", "MaskFormerImageProcessor", "pixel_mask"),
    "Mask2FormerForUniversalSegmentation": _queries("Mask2Former", "Mask2FormerImageProcessor", "pixel_mask"),
}
"""By the name of the class, as ``architectures`` in ``config.json`` says it."""

ONLY_ACCELERATED: Mapping[str, str] = {
    "VideomtForUniversalSegmentation": "looks at clips",
    "VitPoseForPoseEstimation": "looks at crops of persons",
    "VitPoseBackbone": "looks at crops of persons",
    "Sapiens2ForPoseEstimation": "looks at crops of persons",
    "Sapiens2ForNormalEstimation": "returns surface normals",
    "Sapiens2ForPointmapEstimation": "returns points in space",
    "Sapiens2ForImageMatting": "returns mattes",
    "CHMv2ForDepthEstimation": "returns heights of trees",
    "DepthProForDepthEstimation": "looks at crops of the image in three encoders",
}
"""Classes that ``accelerate`` takes and ``predict`` has no result for, and why."""

CONVOLUTIONAL = frozenset(
    (
        *("bit", "convnext", "convnextv2", "cvt", "dinov3_convnext", "efficientnet", "hgnet_v2", "levit"),
        *("mobilenet_v1", "mobilenet_v2", "poolformer", "regnet", "resnet", "textnet"),
    )
)
"""Kinds of networks without tokens to reduce."""

NOT_REDUCIBLE: Mapping[str, str] = {
    "segformer": "its MLPs hold convolutions and its keys are strided convolutions over the whole picture",
    "glpn": "its encoder is SegFormer's, whose MLPs and keys are convolutions over the whole picture",
    "mobilevit": "its transformer stages stand between convolutions",
    "mobilevitv2": "its transformer stages stand between convolutions",
    "hiera": "it pools its tokens between all stages",
    "vitdet": "it has convolutions between its blocks",
    "swinv2": "its attention is a cosine with a continuous bias, which no adapter here knows",
    "rf_detr": "its windows are items of the batch",
    "lw_detr": "its windows are items of the batch",
    "seggpt": "it looks at two images in one map of tokens",
}
"""Transformers for images whose tokens cannot be reduced, by kind, and why."""


def family_of(name: str, kind: str, sees: bool) -> Family:
    """The row of class ``name``; ValueError says why there is none, and what works.

    Args:
        name: of the class.
        kind: ``model_type`` of its configuration.
        sees: whether the library says that its main input is pixels.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    if name in ONLY_ACCELERATED:
        raise ValueError(
            f"{name} {ONLY_ACCELERATED[name]}, for which expedit.predict has no result: load it with transformers and "
            "give it to expedit.accelerate"
        )
    works = "what works: " + ", ".join(dict.fromkeys(family.title for family in FAMILIES.values()))
    if not sees:
        raise ValueError(f"{name} does not take images: expected a vision transformer for dense prediction; {works}")
    if kind in CONVOLUTIONAL:
        raise ValueError(f"{name} is a convolutional network, it has no tokens to reduce; {works}")
    if kind in NOT_REDUCIBLE:
        raise ValueError(f"the tokens of {name} cannot be reduced: {NOT_REDUCIBLE[kind]}; {works}")
    raise ValueError(f"{name} is none of the networks that expedit knows; {works}")
