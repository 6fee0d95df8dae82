"""A small video model with random weights, and clips for it."""

import numpy as np
import torch

from expedit.checkpoints import mask2former
from expedit.data.video_writing import video_writer
from expedit.models.video_mask2former import VideoMask2Former
from small_mask2former import small_architecture


def small_model(seed=0, resize=(160, 64), queries=12, classes=40, names=None):
    torch.manual_seed(seed)
    architecture = small_architecture(classes=classes, queries=queries, embed=8, depths=(1, 1, 4, 1), decoder_layers=3)
    names = names or tuple(f"class {index}" for index in range(classes))
    model = VideoMask2Former(architecture, mask2former.protocol("video", resize, names)).eval()
    torch.nn.init.normal_(model.network.class_predictor.weight, std=2)
    return model


def clip(frames=5, height=45, width=90, seed=0):
    """A bright square that moves over noise."""
    rng = np.random.default_rng(seed)
    video = rng.integers(0, 90, (frames, height, width, 3), dtype=np.uint8)
    for t in range(frames):
        video[t, 10:30, 5 * t + 5 : 5 * t + 25] = (250, 180, 30)
    return video


def write_clip(path, video, rate=10):
    with video_writer(path, rate) as write:
        for frame in video:
            target = write(frame)
    return target
