"""The pictures of README and documentation, drawn by the small model that ships with the package on pictures it draws.

    python benchmarks/pictures.py [--output docs/pictures]

``comparison.png``: picture, dense, reduced, difference and clusters. ``clusters_METHOD.png``: the clusters of every
method that has a single token map. ``toy.svg``: quality against measured time, out of the newest results/toy-*.csv.
``frontier.svg``: quality against multiply-adds, DINOv2-small and a linear head on CamVid, out of
results/frontier_dinov2_camvid-*.csv: settings up to 6 points below dense that no cheaper setting of their method beats.
"""

import argparse
import base64
import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import expedit
from expedit import METHODS, draw
from expedit.comparison.compare import image_view
from expedit.comparison.explorer import Explorer
from expedit.comparison.gallery import change, groups
from expedit.comparison.plots import trade_offs
from expedit.comparison.result import Comparison, Row
from expedit.cost.macs import cost
from expedit.data import open_dataset
from expedit.evaluation.judge import Metric
from expedit.spec import parse

ROOT = Path(__file__).resolve().parents[1]
SPEC, INDEX = "expedit(alpha=3, grid=(20, 20))", 1
GAP, CAPTION = 12, 30


def strip(panels):
    """Pictures of one size side by side, each over its caption."""
    height, width = panels[0][1].shape[:2]
    sheet = Image.new("RGB", (len(panels) * (width + GAP) - GAP, height + CAPTION), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    for place, (caption, picture) in enumerate(panels):
        sheet.paste(Image.fromarray(picture), (place * (width + GAP), 0))
        pen.text((place * (width + GAP) + width // 2, height + CAPTION // 2), caption, draw.INK, font, anchor="mm")
    return sheet


def comparison(model, image):
    """Five panels: what is given, what the dense and the reduced model make of it, and how."""
    fast = expedit.accelerate(model, SPEC)
    dense, reduced = expedit.predict(model, image), expedit.predict(fast, image)
    equal = (dense.labels == reduced.labels).mean()
    [before, after] = (cost(model, method, image.shape[:2]).true_macs for method in (None, parse(SPEC)))
    panels = [("picture", image)]
    for name, found in (("dense", dense), (f"reduced: {before / after:.1f} x fewer MACs", reduced)):
        panels.append((name, draw.overlay(image, found.labels, found.palette)))
    panels.append((f"difference: {1 - equal:.1%} of pixels", change(reduced, dense)[1]))
    panels.append(groups(image, image_view(fast, SPEC, reduced, image)))
    return strip(panels)


def clusters(model, image):
    """Method name and the picture of its clusters at a setting that shows them."""
    explorer = Explorer(model, "segmenter-mini")
    values = {name: knob.start for name, knob in explorer.knobs.items()}
    for name in METHODS:
        fast = expedit.accelerate(model, explorer.spec(name, values))
        picture = groups(image, image_view(fast, name, expedit.predict(fast, image), image))[1]
        if picture is not None:
            yield name, Image.fromarray(picture)


def rows_of(pattern, scale):
    """Of the newest file of results; ``scale`` makes a share of its mIoU."""
    path = max(ROOT.glob(f"results/{pattern}"), key=lambda path: path.name)
    lines = (line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    for line in csv.DictReader(lines):
        ms = float(line["ms"]) if "ms" in line else None
        yield Row(
            line.get("spec") or line["method"], 0, float(line["gmacs"]), 1, ms=ms, value=scale * float(line["miou"])
        )


def plot(rows):
    """SVG of mIoU against time where there is one, else against multiply-adds."""
    miou = Metric("miou", "mIoU", "mean intersection over union")
    source = trade_offs(Comparison("", miou, None, tuple(rows), {}))[0]["src"]
    return base64.b64decode(source.partition(",")[2])


def frontier():
    """Rows worth a place in the plot."""
    dense, *rows = rows_of("frontier_dinov2_camvid-*.csv", 0.01)
    name = {row: row.spec.partition("(")[0] + " +" * (" + " in row.spec) for row in rows}

    def beaten(row):
        rivals = (other for other in rows if other is not row and name[other] == name[row])
        return any(other.gmacs <= 1.01 * row.gmacs and other.value >= row.value for other in rivals)

    return [dense, *(row for row in rows if row.value > dense.value - 0.06 and not beaten(row))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs/pictures")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    model, image = expedit.load("segmenter-mini"), np.asarray(open_dataset("toy", "val", length=INDEX + 1)[INDEX].image)
    comparison(model, image).save(folder / "comparison.png", optimize=True)
    for name, picture in clusters(model, image):
        picture.quantize(256).save(folder / f"clusters_{name}.png", optimize=True)
    (folder / "toy.svg").write_bytes(plot(rows_of("toy-*.csv", 1)))
    (folder / "frontier.svg").write_bytes(plot(frontier()))


if __name__ == "__main__":
    main()
