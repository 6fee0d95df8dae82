"""What methods cost and keep on a pre-trained DINOv2: features of photographs, and a linear head on CamVid.

    python benchmarks/dinov2.py features WEIGHTS PHOTO… -m SPEC -m SPEC
    python benchmarks/dinov2.py camvid WEIGHTS CAMVID -m SPEC [--split train --every 24]

WEIGHTS is a folder that transformers wrote; for CamVid with the head ``camvid_linear_392x504.safetensors`` beside it,
one linear layer on the normed patch tokens. CAMVID holds ``SPLIT.txt``, a picture and its label a line. Features: mean
and 10th percentile over the tokens of the cosine to the dense ones. CamVid: mIoU, its difference to the dense network,
and the share of pixels whose class is that of the dense network. Multiply-adds are those of the backbone, operators
included.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import Dinov2Model

from expedit import accelerate
from expedit.cost.macs import cost
from expedit.metrics import SemanticScores, confusion
from expedit.spec import parse

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
PHOTO, CAMVID, PATCH = (518, 700), (392, 504), 14
VOID = 11


def pixels_of(path, size):
    """``(1, 3, h, w)`` normalised."""
    with Image.open(path) as photograph:
        picture = photograph.convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC)
    values = torch.from_numpy(np.asarray(picture, np.float32) / 255)
    return ((values - MEAN) / STD).permute(2, 0, 1)[None]


def tokens_of(model, pixels):
    return model(pixels).last_hidden_state[:, 1:]


@torch.inference_mode()
def features(models, paths):
    """Cosine of every token to the dense one: mean and 10th percentile."""
    found = {name: [] for name in models}
    for path in paths:
        pixels = pixels_of(path, PHOTO)
        dense = tokens_of(models["dense"], pixels)
        for name, model in models.items():
            found[name].append(F.cosine_similarity(tokens_of(model, pixels), dense, dim=2).flatten())
    together = {name: torch.cat(values) for name, values in found.items()}
    return {
        name: {"cosine": f"{values.mean():.4f}", "cosine_p10": f"{values.quantile(0.1):.4f}"}
        for name, values in together.items()
    }


@torch.inference_mode()
def camvid(models, head, pairs):
    """The linear head's mIoU, and its agreement with the dense network."""
    classes = len(head["bias"])
    truth = {name: np.zeros((classes, classes), np.int64) for name in models}
    same = dict.fromkeys(models, 0.0)
    for image, label in pairs:
        want, dense = np.asarray(Image.open(label)), None
        for name, model in models.items():
            tokens = tokens_of(model, pixels_of(image, CAMVID)) @ head["weight"].float().T + head["bias"].float()
            logits = tokens[0].T.unflatten(1, (CAMVID[0] // PATCH, CAMVID[1] // PATCH))[None]
            labels = F.interpolate(logits, want.shape, mode="bilinear", align_corners=False)[0].argmax(0).numpy()
            dense = labels if dense is None else dense
            truth[name] += confusion(labels, want, classes, ignore=VOID)
            same[name] += float((labels == dense).mean()) / len(pairs)
    miou = {name: 100 * SemanticScores(counts).miou() for name, counts in truth.items()}
    return {
        name: {"miou": f"{value:.2f}", "delta": f"{value - miou['dense']:+.2f}", "agreement": f"{100 * same[name]:.2f}"}
        for name, value in miou.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("features", "camvid"))
    parser.add_argument("weights", type=Path)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("-m", "--method", action="append", default=[], metavar="SPEC")
    parser.add_argument("--split", default="val")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th picture")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N pictures")
    args = parser.parse_args()
    model = Dinov2Model.from_pretrained(args.weights, dtype=torch.float32).eval()
    methods = [parse(spec) for spec in args.method]
    models = {"dense": model, **{repr(method): accelerate(model, method) for method in methods}}
    size = PHOTO if args.what == "features" else CAMVID
    macs = [cost(model, method, size).true_macs for method in (None, *methods)]
    if args.what == "features":
        rows = features(models, args.data)
    else:
        [root] = args.data
        lines = (root / f"{args.split}.txt").read_text().split("\n")
        pairs = [[root / name for name in line.split()] for line in lines if line][:: args.every][: args.limit]
        rows = camvid(models, load_file(args.weights / "camvid_linear_392x504.safetensors"), pairs)
    table = csv.writer(sys.stdout)
    table.writerow(["method", "gmacs", "mac_ratio", *rows["dense"]])
    for name, count in zip(models, macs, strict=True):
        table.writerow([name, f"{count / 1e9:.2f}", f"{macs[0] / count:.3f}", *rows[name].values()])


if __name__ == "__main__":
    main()
