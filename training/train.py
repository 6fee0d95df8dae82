"""Trains a small Segmenter from scratch on any `SemanticData` and writes it as safetensors.

    python training/train.py

gives `src/expedit/checkpoints/weights/segmenter-mini.safetensors`: see training/README.md for its run time and result.
Most steps see crops with a quarter of the tokens; the last ones see whole pictures. Every batch is a function of
(seed, phase, step), so a run that was interrupted continues from its last checkpoint as if nothing had happened.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import expedit
from expedit.checkpoints import safetensors_format
from expedit.data import open_dataset
from expedit.data.samples import IGNORE, Sample, SemanticData
from expedit.data.toy import Toy
from expedit.models.card import Card
from expedit.models.segmenter import Segmenter

ROOT = Path(__file__).resolve().parents[1]
MEAN = STD = 127.5
log = logging.getLogger("train")


@dataclass(frozen=True)
class Phase:
    """`steps` batches of `batch` square crops; the learning rate warms up to `peak` and follows a cosine towards `end`.

    The cosine reaches `end` after `cosine` steps: a phase that another one follows stops on the way.
    """

    crop: int
    batch: int
    steps: int
    warmup: int
    cosine: int
    peak: float
    end: float

    def rate(self, step: int) -> float:
        """Learning rate of 0-based `step`."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        progress = (step - self.warmup) / (self.cosine - self.warmup)
        return self.end + (self.peak - self.end) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class Architecture:
    """Arguments of `Segmenter`; the image size is that of the phase."""

    classes: int
    image_size: tuple[int, int]
    patch: int = 8
    width: int = 128
    depth: int = 12
    heads: int = 2
    head_layers: int = 1


@dataclass(frozen=True)
class Recipe:
    """One run; the last phase gives the model its size."""

    data: Callable[[str], SemanticData]  # "train" or "val"
    out: Path
    phases: tuple[Phase, ...]
    seed: int = 0
    weight_decay: float = 0.05
    clip: float = 1.0
    jaccard: float = 0.5
    evaluate_every: int = 250
    resize: tuple[int, int] | None = (1024, 256)  # long side at most, short side, when it predicts; None: as they are


def toy(split: str) -> SemanticData:
    """Pictures whose seeds are disjoint between "train" and "val"."""
    return Toy("train", 6000) if split == "train" else Toy("val", 200)


RECIPES = {
    "toy": Recipe(
        data=toy,
        out=ROOT / "src/expedit/checkpoints/weights/segmenter-mini.safetensors",
        phases=(
            Phase(crop=128, batch=16, steps=2000, warmup=200, cosine=4000, peak=1e-3, end=3e-4),
            Phase(crop=256, batch=4, steps=900, warmup=30, cosine=900, peak=6e-4, end=1e-6),
        ),
    )
}


def folder(path: str, classes: Path | None, out: Path) -> Recipe:
    """Anyone's images and label pictures (docs/datasets.md), at their own size; about 480 x 360 pixels fit well."""
    return Recipe(
        data=lambda split: open_dataset(path, split, **({} if classes is None else {"classes": classes})),
        out=out,
        phases=(
            Phase(crop=120, batch=16, steps=1200, warmup=100, cosine=2000, peak=1e-3, end=3e-4),
            Phase(crop=240, batch=4, steps=600, warmup=30, cosine=600, peak=6e-4, end=1e-6),
        ),
        resize=None,
    )


def load_all(data: SemanticData, workers: int) -> list[Sample]:
    """Every sample, made once and kept in memory."""
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(data.__getitem__, range(len(data)), chunksize=16))


def to_input(images: np.ndarray) -> Tensor:
    """(b, H, W, 3) uint8 to normalised (b, 3, H, W) float32."""
    return ((torch.from_numpy(images).float() - MEAN) / STD).permute(0, 3, 1, 2).contiguous()


def random_crop(sample: Sample, crop: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A square crop, mirrored half of the time; beyond the picture it is grey and ignored."""
    assert sample.label is not None, f"{sample.name}: training needs labels"
    height, width = sample.label.shape
    pad = (0, max(0, crop - height)), (0, max(0, crop - width))
    image = np.pad(sample.image, (*pad, (0, 0)), constant_values=round(MEAN))
    label = np.pad(sample.label, pad, constant_values=IGNORE)
    top, left = (int(rng.integers(0, side - crop + 1)) for side in label.shape)
    image, label = image[top : top + crop, left : left + crop], label[top : top + crop, left : left + crop]
    return (image[:, ::-1], label[:, ::-1]) if rng.random() < 0.5 else (image, label)


def draw_batch(samples: Sequence[Sample], phase: Phase, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Normalised (b, 3, crop, crop) float32 and (b, crop, crop) int64."""
    chosen = rng.integers(0, len(samples), phase.batch)
    images, labels = zip(*(random_crop(samples[i], phase.crop, rng) for i in chosen), strict=True)
    return to_input(np.stack(images)), torch.from_numpy(np.stack(labels)).long()


def loss_of(logits: Tensor, label: Tensor, jaccard: float) -> Tensor:
    """Cross-entropy plus `jaccard` times the soft Jaccard distance of the batch, which keeps thin classes alive.

    logits: (b, c, H, W) float32; label: (b, H, W) int64, `IGNORE` counts in neither term
    """
    valid = label != IGNORE
    target = F.one_hot(label.where(valid, 0), logits.shape[1]).movedim(-1, 1) * valid[:, None]
    chance = logits.softmax(1) * valid[:, None]
    both = (chance * target).sum((0, 2, 3))
    either = chance.sum((0, 2, 3)) + target.sum((0, 2, 3)) - both
    present = target.sum((0, 2, 3)) > 0
    return F.cross_entropy(logits, label, ignore_index=IGNORE) + jaccard * (1 - both / either)[present].mean()


@torch.inference_mode()
def evaluate(model: nn.Module, samples: Sequence[Sample], classes: int) -> np.ndarray:
    """(classes,) intersection over union on whole pictures, NaN for a class that never occurs."""
    confusion = np.zeros((classes, classes), np.int64)
    model.eval()
    for sample in samples:
        assert sample.label is not None
        predicted = model(to_input(sample.image[None])).argmax(1)[0].numpy()
        valid = sample.label != IGNORE
        pairs = classes * sample.label[valid].astype(np.int64) + predicted[valid]
        confusion += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    model.train()
    hits = confusion.diagonal()
    with np.errstate(invalid="ignore"):
        return hits / (confusion.sum(0) + confusion.sum(1) - hits)


def resized_positions(state: dict[str, Tensor], crop: int, patch: int) -> dict[str, Tensor]:
    """The weights with their positional embedding resampled (bicubic) to the token map of `crop` pixels."""
    first, table = state["encoder.pos_embed"].split((1, state["encoder.pos_embed"].shape[1] - 1), dim=1)
    side = math.isqrt(table.shape[1])
    table = table.transpose(1, 2).unflatten(2, (side, side))
    table = F.interpolate(table, size=(crop // patch, crop // patch), mode="bicubic", align_corners=False)
    return {**state, "encoder.pos_embed": torch.cat((first, table.flatten(2).transpose(1, 2)), 1)}


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW that decays matrices only: no biases, norms, positions or class embeddings."""
    decayed = [p for name, p in model.named_parameters() if p.ndim > 1 and not name.endswith(("embed", "emb", "token"))]
    kept = {id(p) for p in decayed}
    others = [p for p in model.parameters() if id(p) not in kept]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.99))


def train_phase(
    recipe: Recipe, number: int, model: Segmenter, train: list[Sample], val: list[Sample], checkpoint: Path
) -> None:
    """Runs one phase from its last checkpoint, if there is one, to its end."""
    phase, optimizer, first = recipe.phases[number], optimizer_of(model, recipe), 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    model.train()
    began, losses = time.perf_counter(), []
    for step in range(first, phase.steps):
        for group in optimizer.param_groups:
            group["lr"] = phase.rate(step)
        rng = np.random.default_rng((recipe.seed, number, step))
        image, label = draw_batch(train, phase, rng)
        row, column = rng.integers(0, 2, 2)  # a random quarter of the pixels carries the loss, to save time
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(image)
        loss = loss_of(logits[:, :, row::2, column::2].float(), label[:, row::2, column::2], recipe.jaccard)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            speed = 50 * phase.batch / (time.perf_counter() - began)
            log.info("phase %d step %d loss %.4f, %.1f images/s", number, step + 1, np.mean(losses), speed)
            began, losses = time.perf_counter(), []
        if (step + 1) % recipe.evaluate_every == 0 or step + 1 == phase.steps:
            save_checkpoint(checkpoint, step + 1, model, optimizer)
            iou = evaluate(model, val[:40], len(model.card.classes))
            log.info("phase %d step %d val mIoU %.4f  %s", number, step + 1, np.nanmean(iou), np.round(iou, 2))
            began = time.perf_counter()


def save_checkpoint(path: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Replaces the checkpoint in one step, so that an interruption leaves the old one."""
    partial = path.with_suffix(".partial")
    torch.save({"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, partial)
    os.replace(partial, path)


def write_weights(recipe: Recipe, model: Segmenter, data: SemanticData, miou: float) -> None:
    """float16 safetensors with the card that says how to feed the model."""
    crop = recipe.phases[-1].crop
    model.card = Card(
        task="semantic",
        classes=data.classes,
        palette=data.palette,
        mean=(MEAN, MEAN, MEAN),
        std=(STD, STD, STD),
        resize=recipe.resize,
        crop=crop,
        stride=crop,
        source="training/train.py",
    )
    safetensors_format.save(model, recipe.out, torch.float16, {"miou": f"{miou:.4f}"})


def run(recipe: Recipe, work: Path, workers: int) -> None:
    """All phases, the final evaluation in float32 of the weights as stored, and the file."""
    began = time.perf_counter()
    data = recipe.data("val")
    train, val = load_all(recipe.data("train"), workers), load_all(data, workers)
    log.info("%d + %d pictures after %.0f s", len(train), len(val), time.perf_counter() - began)
    torch.manual_seed(recipe.seed)
    weights: dict[str, Tensor] | None = None
    for number, phase in enumerate(recipe.phases):
        architecture = Architecture(classes=len(data.classes), image_size=(phase.crop, phase.crop))
        model = Segmenter(**asdict(architecture))
        if weights is not None:
            model.load_state_dict(resized_positions(weights, phase.crop, architecture.patch))
        train_phase(recipe, number, model, train, val, work / f"phase{number}.pt")
        weights = model.state_dict()
    write_weights(recipe, model, data, math.nan)
    iou = evaluate(expedit.load(recipe.out), val, len(data.classes))
    write_weights(recipe, model, data, float(np.nanmean(iou)))
    for name, value in zip(data.classes, iou, strict=True):
        log.info("%-12s %.4f", name, value)
    log.info("mIoU %.4f on %d pictures, %.0f s in all", np.nanmean(iou), len(val), time.perf_counter() - began)


def main() -> None:
    """Reads the arguments and runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="toy", help="toy, or a folder of images and labels (docs/datasets.md)")
    parser.add_argument("--classes", type=Path, help="class list of a folder that has no classes.txt")
    parser.add_argument("--out", type=Path, help="file to write, needed for a folder")
    parser.add_argument("--work", type=Path, default=ROOT / "training/runs", help="folder for checkpoints and the log")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    if arguments.data not in RECIPES and arguments.out is None:
        parser.error("--data: a folder needs --out FILE; weights of other data do not belong into the package")
    recipe = RECIPES.get(arguments.data) or folder(arguments.data, arguments.classes, arguments.out)
    work = arguments.work / Path(arguments.data).name
    work.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [logging.StreamHandler(), logging.FileHandler(work / "training.log")]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers)
    torch.set_num_threads(arguments.threads)
    run(recipe, work, arguments.threads)


if __name__ == "__main__":
    main()
