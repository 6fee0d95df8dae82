"""The neutral tables: what methods lose at equal multiply-adds, settings chosen on training images.

    python benchmarks/frontier.py camvid WEIGHTS CAMVID [-m SPEC …] [--device cuda] [-o FILE.csv]
    python benchmarks/frontier.py saliency WEIGHTS CAMVID
    python benchmarks/frontier.py toy
    python benchmarks/frontier.py toy --split train --every 8 --choose

``camvid``: a pre-trained DINOv2 with a linear head; WEIGHTS and CAMVID are as in benchmarks/dinov2.py. ``saliency``:
the same network and pictures with the decoder in ``WEIGHTS/saliency_decoder.safetensors``, judged by the dense mask
(above 0.5). ``toy``: segmenter-mini on the pictures it draws itself. Without ``-m`` the settings of frontier.yaml; with
``--choose`` its families, each turned until it fits a share, of which the best are printed as YAML.

Every image runs once through every model, the dense one first. Columns: multiply-adds, operators included, as a share
of the dense ones (DINOv2: of the backbone); mIoU (saliency: IoU of the mask) and its difference to the dense network's
with a 95 % interval (paired bootstrap over blocks of ``--block`` neighbouring frames); share of pixels whose class is
the dense network's; milliseconds per image and how much faster that is (``--rounds``, models in turn, on one image of
noise).
"""

import argparse
import csv
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import yaml
from dinov2 import CAMVID, PATCH, VOID, pixels_of, tokens_of
from PIL import Image
from rich.progress import Progress
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import Dinov2Model

from expedit import accelerate, load, predict
from expedit.cost.macs import cost, noise
from expedit.cost.speed import environment, interleave, threads
from expedit.data import open_dataset
from expedit.metrics import SemanticScores, confusion
from expedit.spec import parse
from expedit.surgery import DTYPES, optimized
from expedit.tuning.budget import Family

TABLES = yaml.safe_load(Path(__file__).with_name("frontier.yaml").read_text(encoding="utf-8"))
SHARES, WITHIN = (0.85, 0.67, 0.5, 0.4), 0.02
DRAWS = 2000


class Subject(NamedTuple):
    """A network, its pictures and what is judged.

    Attributes:
        model: dense.
        settings: key of frontier.yaml.
        size: (height, width) in pixels that multiply-adds and times are of.
        pictures: whatever ``labels`` takes first, with the true class of every pixel; ``None`` where the dense
            network's are the truth.
        labels: of a model on a picture, class of every pixel.
        classes: how many.
        score: percent, of a confusion matrix ``(images, classes, classes)``.
    """

    model: torch.nn.Module
    settings: str
    size: tuple[int, int]
    pictures: list
    labels: Callable
    classes: int
    score: Callable


def miou(counts):
    return 100 * SemanticScores(counts.sum(0)).miou()


def iou_of_mask(counts):
    (_, more), (less, both) = counts.sum(0)
    return 100 * both / max(both + more + less, 1)


def dinov2_of(args):
    """The network, and pairs of picture and label file."""
    base = Dinov2Model.from_pretrained(args.weights, dtype=torch.float32).eval()
    lines = (args.camvid / f"{args.split}.txt").read_text().split("\n")
    return base, [[args.camvid / name for name in line.split()] for line in lines if line][:: args.every][: args.limit]


def tensors_of(args, name):
    return {key: value.float().to(args.device) for key, value in load_file(args.weights / name).items()}


def as_map(tokens):
    return tokens[0].T.unflatten(1, (CAMVID[0] // PATCH, CAMVID[1] // PATCH))[None]


def camvid(args):
    base, pairs = dinov2_of(args)
    head = tensors_of(args, "camvid_linear_392x504.safetensors")

    def labels(model, picture):
        pixels, size = picture
        logits = as_map(tokens_of(model, pixels.to(next(model.parameters()))).float() @ head["weight"].T + head["bias"])
        return F.interpolate(logits, size, mode="bilinear", align_corners=False)[0].argmax(0).cpu().numpy()

    def picture(image, label):
        want = np.asarray(Image.open(label))
        return (pixels_of(image, CAMVID), want.shape), np.where(want == VOID, 255, want)

    pictures = [lambda pair=pair: picture(*pair) for pair in pairs]
    return Subject(base, "dinov2", CAMVID, pictures, labels, len(head["bias"]), miou)


def saliency(args):
    base, pairs = dinov2_of(args)
    decoder = tensors_of(args, "saliency_decoder.safetensors")

    def labels(model, pixels):
        x = as_map(tokens_of(model, pixels.to(next(model.parameters()))).float())
        for layer in (1, 2, 3):
            x = F.conv_transpose2d(x, decoder[f"upconv{layer}.weight"], decoder[f"upconv{layer}.bias"], 2, 1)
            scale, shift, mean, variance = (
                decoder[f"bn{layer}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
            )
            x = F.batch_norm(x, mean, variance, scale, shift).relu()
        logits = F.conv2d(x, decoder["final_conv.weight"], decoder["final_conv.bias"])
        return (logits[0, 0] > 0).long().cpu().numpy()

    pictures = [lambda image=image: (pixels_of(image, CAMVID), None) for image, _ in pairs]
    return Subject(base, "dinov2", CAMVID, pictures, labels, 2, iou_of_mask)


def toy(args):
    model, data = load("segmenter-mini"), open_dataset("toy", args.split)
    places = range(len(data))[:: args.every][: args.limit]
    pictures = [lambda place=place: (data[place].image, data[place].label) for place in places]
    return Subject(
        model, "toy", (256, 256), pictures, lambda m, image: predict(m, image).labels, len(data.classes), miou
    )


SUBJECTS = {"camvid": camvid, "saliency": saliency, "toy": toy}


def candidates(subject):
    """By method and share of the multiply-adds: settings of its families that just fit."""
    dense = cost(subject.model, None, subject.size).true_macs

    @cache
    def share(method):
        return cost(subject.model, method, subject.size).true_macs / dense

    def build(spec, left):
        values = {"left": left, "gone": 1 - left, "half": (1 - left) / 2, "most": (1 + left) / 2}
        return (parse(spec.format(**{name: round(value, 4) for name, value in values.items()})),)

    found = {}
    for name, specs in TABLES["families"].items():
        for spec in specs:
            family = Family(lambda left, spec=spec: build(spec, left))
            for goal in SHARES:
                for method in family.within(goal, share):
                    if share(method) > goal - WITHIN:
                        found.setdefault((name, goal), []).append(method)
    return found


def chosen(found, quality):
    """YAML of the best of every method and share."""
    table = {}
    for (name, goal), methods in found.items():
        table.setdefault(name, {})[goal] = repr(max(methods, key=lambda method: quality[repr(method)]))
    return yaml.safe_dump(table, sort_keys=False, width=200)


@torch.inference_mode()
def run(subject, models, advance):
    """Per model: confusion of every image ``(images, classes, classes)`` and its agreement with the dense network."""
    images, classes = len(subject.pictures), subject.classes
    counts = {name: np.zeros((images, classes, classes), np.int64) for name in models}
    same = {name: np.zeros(images) for name in models}
    for number, read in enumerate(subject.pictures):
        (picture, want), dense = read(), None
        for name, model in models.items():
            labels = subject.labels(model, picture)
            dense = labels if dense is None else dense
            counts[name][number] = confusion(labels, dense if want is None else want, classes)
            same[name][number] = (labels == dense).mean()
            advance()
    return counts, same


def interval(counts, dense, block, score=miou, seed=0):
    """95 % interval of the difference in mIoU: images are drawn in blocks of neighbours, the same for both networks."""
    generator, images = np.random.default_rng(seed), len(counts)
    blocks = [np.arange(first, min(first + block, images)) for first in range(0, images, block)]
    draws = generator.integers(len(blocks), size=(DRAWS, len(blocks)))
    drawn = [np.concatenate([blocks[i] for i in draw]) for draw in draws]
    return np.percentile([score(counts[places]) - score(dense[places]) for places in drawn], [2.5, 97.5])


def timings(models, size, rounds, device):
    """Seconds of each model on one image of noise, in turn; empty without rounds."""
    pixels = noise(size, next(models["dense"].parameters()))
    runs = {name: lambda model=model: model(pixels) for name, model in models.items()}
    with torch.inference_mode():
        return interleave(runs, rounds, 1 if device == "cpu" else 3, device) if rounds else {}


def rows_of(models, macs, counts, same, timed, block, score):
    """One row per model, dense first."""
    for name, count in zip(models, macs, strict=True):
        value, low, high = score(counts[name]), *interval(counts[name], counts["dense"], block, score)
        row = {
            "method": name,
            "mac_ratio": f"{count / macs[0]:.3f}",
            "gmacs": f"{count / 1e9:.2f}",
            "miou": f"{value:.2f}",
            "delta": f"{value - score(counts['dense']):+.2f}",
            "delta_low": f"{low:+.2f}",
            "delta_high": f"{high:+.2f}",
            "agreement": f"{100 * same[name].mean():.2f}",
        }
        if timed:
            row["ms"] = f"{1e3 * timed[name].median:.2f}"
            row["speedup"] = f"{timed[name].speedup_over(timed['dense']):.3f}"
        yield row


def write(rows, facts, file):
    """A CSV whose first line says how it was made; standard output without a file."""
    with open(file, "w", newline="") if file else nullcontext(sys.stdout) as stream:
        print("#", ", ".join(f"{key} {value}" for key, value in facts.items()), file=stream)
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument("camvid", type=Path, nargs="?")
    parser.add_argument("-m", "--method", action="append", metavar="SPEC")
    parser.add_argument("--choose", action="store_true", help="try the families of frontier.yaml")
    parser.add_argument("--split", default="val")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th picture")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N pictures")
    parser.add_argument("--block", type=int, default=5, metavar="N", help="frames drawn together (default: 5)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="fp32", choices=DTYPES)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=0, metavar="N", help="timed rounds (default: no times)")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE")
    args = parser.parse_args()
    if args.subject != "toy" and args.camvid is None:
        parser.error(f"{args.subject}: expected WEIGHTS and CAMVID")
    return args


def main():
    args = arguments()
    subject = SUBJECTS[args.subject](args)
    found = candidates(subject) if args.choose else {}
    specs = args.method or [spec for row in TABLES[subject.settings].values() for spec in row.values()]
    methods = [method for row in found.values() for method in row] or list(map(parse, specs))
    dense = optimized(subject.model, dtype=args.dtype).to(args.device)
    models = {"dense": dense, **{repr(method): accelerate(dense, method) for method in methods}}
    macs = [cost(subject.model, method, subject.size).true_macs for method in (None, *map(parse, list(models)[1:]))]
    started = time.time()
    with threads(args.threads) as number, Progress(transient=True) as progress:
        task = progress.add_task("images", total=len(subject.pictures) * len(models))
        counts, same = run(subject, models, lambda: progress.advance(task))
        timed = timings(models, subject.size, args.rounds, args.device)
        facts = {
            "images": f"{len(subject.pictures)} of {args.split}",
            "size": " x ".join(map(str, subject.size)),
            "interval": f"95 %, {DRAWS} draws of blocks of {args.block} frames",
            "seconds": round(time.time() - started),
            **environment(args.device, DTYPES[args.dtype]),
            "threads": number,
        }
    if found:
        print(chosen(found, {name: subject.score(counts[name]) for name in models}))
    write(list(rows_of(models, macs, counts, same, timed, args.block, subject.score)), facts, args.out)


if __name__ == "__main__":
    main()
