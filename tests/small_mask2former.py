"""Small Mask2Formers with random weights, and real pictures in the layout of the whole data set."""

import shutil
from dataclasses import replace

import torch

from expedit.checkpoints import mask2former, safetensors_format
from expedit.models.mask2former import Architecture, Mask2Former

SPEC = "expedit(alpha=5, grid=(4, 4), top_k=6)"


def small_architecture(**changes):
    """Sizes of a network that runs in milliseconds, with ``changes``."""
    sizes = {"classes": 5, "queries": 12, "embed": 16, "depths": (2, 2, 4, 2), "swin_heads": (1, 2, 4, 8), "window": 6}
    sizes |= {"conv_dim": 32, "hidden_dim": 32, "mask_dim": 32, "heads": 2}
    sizes |= {"encoder_layers": 1, "encoder_ffn": 32, "decoder_layers": 2, "decoder_ffn": 32}
    return Architecture(**(sizes | changes))


def network(task, categories, seed=0):
    """A small network with random weights whose answers are sure enough to make segments."""
    torch.manual_seed(seed)
    architecture = small_architecture(classes=len(categories.names))
    card = mask2former.protocol(task, (128, 96), categories.names, categories.palette, categories.things)
    model = Mask2Former(architecture, replace(card, score_threshold=0.05, overlap_threshold=0.1)).eval()
    torch.nn.init.normal_(model.network.class_predictor.weight, std=2)
    return model


def saved(model, folder):
    path = folder / "model.safetensors"
    safetensors_format.save(model, path)
    return path


def coco_tree(shared, root):
    """The sample of the COCO panoptic tools in the layout of the whole data set; returns ``root``."""
    sample = shared / "data/coco_panoptic/panopticapi_sample"
    (root / "annotations").mkdir()
    shutil.copy(sample / "panoptic_examples.json", root / "annotations/panoptic_val2017.json")
    shutil.copytree(sample / "panoptic_examples", root / "panoptic_val2017")
    shutil.copytree(sample / "input_images", root / "val2017")
    return root
