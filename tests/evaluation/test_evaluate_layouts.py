"""Tiny data sets in every official layout, as folders and as archives, evaluated to mIoUs worked out by hand."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from data_files import write
from expedit.data import open_dataset
from expedit.evaluation.evaluate import evaluate
from expedit.evaluation.semantic import SemanticJudge
from expedit.models.card import Card, distinct_colors


class Brightness(nn.Module):
    """Predicts class k where the picture has grey value k."""

    def __init__(self, classes):
        super().__init__()
        count = len(classes)
        self.card = Card("semantic", classes, distinct_colors(count), mean=(0, 0, 0), std=(1, 1, 1))
        self.classes = nn.Parameter(torch.arange(count, dtype=torch.float32)[None, :, None, None])

    def forward(self, pixels):
        return -(pixels[:, :1] - self.classes).abs()


def evaluated(data):
    model = Brightness(data.classes)
    return evaluate({"model": model}, data, SemanticJudge(model.card, data))["model"]


def grey(values):
    """A picture of grey values."""
    return np.repeat(np.array(values, np.uint8)[:, :, None], 3, 2)


def png(path, values):
    """Images of these layouts end in .jpg; a PNG inside keeps its pixels, and Pillow goes by the content."""
    buffer = io.BytesIO()
    Image.fromarray(grey(values)).save(buffer, "PNG")
    return {path: buffer.getvalue()}


# Class by class over both pictures, by hand: the model says 0 0 1 1 / 2 2 2 2, and 2 2 / 0 0.
SAID = [[[0, 0, 1, 1], [2, 2, 2, 2]], [[2, 2], [0, 0]]]
TRUE = [[[0, 1, 1, 255], [2, 2, 0, 2]], [[2, 2], [1, 255]]]
# class 0: right 1, said 3 (one more at an ignored pixel), true 2 -> 1 / 4
# class 1: right 1, said 1 (one more at an ignored pixel), true 3 -> 1 / 3
# class 2: right 5, said 6, true 5 -> 5 / 6
MIOU = (1 / 4 + 1 / 3 + 5 / 6) / 3


def ade20k(split="validation"):
    shifted = [np.where(np.array(t) == 255, 0, np.array(t) + 1).astype(np.uint8) for t in TRUE]
    files = {}
    for number, (said, label) in enumerate(zip(SAID, shifted, strict=True)):
        files |= png(f"ADEChallengeData2016/images/{split}/ADE_val_{number}.jpg", said)
        files[f"ADEChallengeData2016/annotations/{split}/ADE_val_{number}.png"] = label
    return files


def cityscapes():
    ids = np.zeros(256, np.uint8)
    ids[[0, 1, 2, 255]] = 7, 8, 11, 4  # road, sidewalk, building, static (ignored)
    files = {}
    for number, (said, true) in enumerate(zip(SAID, TRUE, strict=True)):
        stem = f"ulm_00000{number}_000019"
        files[f"leftImg8bit/val/ulm/{stem}_leftImg8bit.png"] = grey(said)
        files[f"gtFine/val/ulm/{stem}_gtFine_labelIds.png"] = ids[np.array(true)]
    return files


def pascal_context():
    base, stems, files = "VOCdevkit/VOC2010", ["2008_000002", "2010_000001"], {}
    for stem, said, true in zip(stems, SAID, TRUE, strict=True):
        files |= png(f"{base}/JPEGImages/{stem}.jpg", said)
        files[f"{base}/SegmentationClassContext/{stem}.png"] = np.array(true, np.uint8)
    return {**files, f"{base}/ImageSets/SegmentationContext/val.txt": "\n".join(stems)}


def folder():
    files = {"classes.txt": "sky\ntree\nroad\n"}
    for number, (said, true) in enumerate(zip(SAID, TRUE, strict=True)):
        files[f"images/val/{number}.png"] = grey(said)
        files[f"labels/val/{number}.png"] = np.array(true, np.uint8)
    return files


LAYOUTS = {"ade20k": ade20k, "cityscapes": cityscapes, "pascal-context": pascal_context, "folder": folder}


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_miou_by_hand(name, packed, tmp_path):
    root = write(tmp_path / ("data.zip" if packed else "data"), LAYOUTS[name]())
    data = open_dataset(f"{name}:{root}")
    result = evaluated(data)
    assert result.pace.images == 2
    assert result.value == pytest.approx(MIOU)
    found = [scores["IoU"] for scores in result.scores.per_class.values()]
    assert found == pytest.approx([1 / 4, 1 / 3, 5 / 6])
    assert result.scores.overall["pixel_accuracy"] == pytest.approx(7 / 10)


def test_pascal_context_with_59_classes(tmp_path):
    """Background is ignored there and every class moves up by one."""
    data = open_dataset(f"pascal-context-59:{write(tmp_path / 'data', pascal_context())}")
    result = evaluated(data)
    counts = np.zeros((59, 59), int)
    for said, true in zip(SAID, TRUE, strict=True):
        for s, t in zip(np.ravel(said), np.ravel(true), strict=True):
            if t not in (0, 255):
                counts[t - 1, s] += 1
    assert result.scores.details["confusion"] == counts.tolist()
