"""Pace of ``expedit predict`` over a folder, and of the model alone over the same images prepared in memory.

Command: python benchmarks/predict_throughput.py segmenter-mini FOLDER --rounds 3 --batch 1

The two run by turns in one process; prints images per second of every round and the median of their ratios.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from pathlib import Path

import torch

import expedit
from expedit import cli
from expedit.cost.speed import environment
from expedit.inference import predict_batch
from expedit.predicting.reading import Reader
from expedit.predicting.sources import find
from expedit.prepare import views_of


def bare(model, views, sizes, batch):
    start = time.perf_counter()
    for first in range(0, len(views), batch):
        predict_batch(model, views[first : first + batch], sizes[first : first + batch], batch)
    return len(views) / (time.perf_counter() - start)


def verb(name, folder, images, batch):
    """Pace without the start: that of all images, less the time that one image takes."""
    paces = []
    for paths in ([images[0].path], [str(folder)]):
        with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
            start = time.perf_counter()
            assert cli.main(["predict", name, *paths, "-o", out, "--write", "labels,json", "--batch", str(batch)]) == 0
            paces.append(time.perf_counter() - start)
    return (len(images) - 1) / (paces[1] - paces[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1)
    args = parser.parse_args()
    model, images, read = expedit.load(args.model), find([str(args.folder)]).sources, Reader()
    print(environment(), f"{torch.get_num_threads()} threads, {len(images)} images, batch {args.batch}")
    pictures = [read(image) for image in images]
    views, sizes = [views_of(model, picture) for picture in pictures], [picture.shape[:2] for picture in pictures]
    del pictures
    ratios = []
    for _ in range(args.rounds):
        alone, whole = bare(model, views, sizes, args.batch), verb(args.model, args.folder, images, args.batch)
        ratios.append(whole / alone)
        print(f"model alone {alone:.2f} images/s, predict {whole:.2f} images/s, ratio {ratios[-1]:.3f}", flush=True)
    print(f"median of the ratios {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
