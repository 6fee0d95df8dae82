"""Mask2Formers of the reference tensors beside the checkout."""

import json

from safetensors import safe_open
from safetensors.torch import load_file

import expedit
from expedit.checkpoints import mask2former
from expedit.checkpoints.contents import read_tensors
from expedit.models.mask2former import Architecture, Mask2Former

OFFICIAL = {"official_shift_mask": True, "official_padding": True}


def folder_of(shared):
    return shared / "goldens" / "mask2former"


def metadata_of(path):
    with safe_open(path, "pt") as file:
        return {key: json.loads(value) for key, value in file.metadata().items() if key != "note"}


def architecture_of(config):
    same = (
        "classes",
        "queries",
        "embed",
        "window",
        "mlp_ratio",
        "conv_dim",
        "hidden_dim",
        "mask_dim",
        "heads",
        "points",
    )
    same += ("levels", "encoder_layers", "encoder_ffn", "decoder_layers", "decoder_ffn")
    return Architecture(
        **{name: config[name] for name in same}, depths=tuple(config["depths"]), swin_heads=tuple(config["swin_heads"])
    )


def card_of(architecture, task="panoptic", resize=None, things=(0, 1, 2)):
    names = tuple(f"class {index}" for index in range(architecture.classes))
    return mask2former.protocol(task, resize, names, things=things)


def weights_of(folder, tag):
    if tag == "t":
        return read_tensors(folder / "mask2former_t_detectron2.pkl")
    state = {}
    for shard in sorted(folder.glob(f"mask2former_{tag}_weights_*")):
        state |= load_file(shard)
    return state


def method_of(config):
    side = config["cluster_window"]
    return expedit.Expedit(
        alpha=config["blocks_before_clustering"],
        grid=(side, side),
        iterations=config["iterations"],
        neighbourhood=config["neighbourhood"],
        temperature=config["temperature_cluster"],
        top_k=config["top_k"],
        restore_temperature=config["temperature_reconstruct"],
        normalize="l2",
        official_weights=True,
    )


def golden_model(folder, path, kind=Mask2Former, **card):
    config = metadata_of(path)["config"]
    architecture = architecture_of(config)
    model = kind.from_detectron2(
        weights_of(folder, path.name.split("_")[1]), architecture, card_of(architecture, **card)
    )
    if "cluster_window" in config:
        model = expedit.accelerate(model, method_of(config), **OFFICIAL)
    return model, config
