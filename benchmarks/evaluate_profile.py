"""Where the evaluation loop spends its time: reading and scoring must hide behind the model.

    python benchmarks/evaluate_profile.py           (about 1 minute on two cores)

Segmenter ViT-L/16 with random weights on ADE20K-sized pictures (683 x 512, JPEG, 150 classes) written to a temporary
folder; fp32, batch 1. Prints seconds per image, the share of wall time in which the model waited for an image, and what
reading and scoring would cost one thread.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from expedit.checkpoints.zoo import build
from expedit.data import open_dataset
from expedit.evaluation.evaluate import evaluate
from expedit.evaluation.semantic import SemanticJudge
from expedit.metrics import confusion
from expedit.prepare import prepared

IMAGES, CLASSES = 3, 150


def write_pictures(root: Path) -> None:
    """Smooth random photographs and blocky labels of ADE20K's typical size."""
    random = np.random.default_rng(0)
    for folder in ("images/val", "labels/val"):
        (root / folder).mkdir(parents=True)
    for index in range(IMAGES):
        noise = Image.fromarray(random.integers(0, 256, (64, 86, 3), dtype=np.uint8))
        photo = noise.resize((683, 512), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(1))
        photo.save(root / f"images/val/{index}.jpg", quality=92)
        blocks = np.kron(random.integers(0, CLASSES, (16, 22)), np.ones((32, 32), int))[:512, :683]
        Image.fromarray(blocks.astype(np.uint8)).save(root / f"labels/val/{index}.png")
    (root / "classes.txt").write_text("\n".join(f"class {index}" for index in range(CLASSES)))


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder))
        data, model = open_dataset(f"folder:{folder}"), build("segmenter-vit-l16-ade20k")
        start = time.thread_time()
        for index in range(IMAGES):
            sample = data[index]
            prepared(sample.image, model.card)
            confusion(np.zeros(sample.label.shape, np.int32), sample.label, CLASSES)
        aside = (time.thread_time() - start) / IMAGES
        pace = evaluate({"dense": model}, data, SemanticJudge(model.card, data))["dense"].pace
    print(f"{pace.seconds / IMAGES:.2f} s per image")
    print(f"the model waited {100 * pace.waiting / pace.seconds:.2f} % of the wall time for images")
    print(f"reading and scoring: {1e3 * aside:.1f} ms of one thread per image, in the background,")
    print(f"  {100 * aside * IMAGES / pace.seconds:.2f} % of the wall time")


if __name__ == "__main__":
    main()
