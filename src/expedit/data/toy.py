"""A procedurally generated picture book: a semantic data set that needs no download.

Every picture is a landscape under a sky. Six textured *stuff* classes fill it, four kinds of *things* stand in it from
far (small) to near (large), and two *thin* classes, poles and fences, cross it. Colours overlap on purpose: sky and
water, grass and trees, poles and fences share inks, and balls, boxes and stars differ by shape alone, so context and
detail both matter. It shows what losing tokens does to a prediction; it says nothing about photographs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .class_list import Color
from .samples import Sample
from .toy_drawing import (
    BALL,
    BOX,
    BRICK,
    FENCE,
    GRASS,
    POLE,
    ROAD,
    SAND,
    SKY,
    STAR,
    TREE,
    WATER,
    Canvas,
    Inks,
    Pen,
    Thing,
    draw_thing,
    mix,
)

CLASSES = ("sky", "water", "grass", "sand", "road", "brick", "ball", "box", "star", "tree", "pole", "fence")
PALETTE = (
    (158, 202, 233),
    (58, 119, 178),
    (149, 193, 84),
    (240, 216, 150),
    (128, 126, 135),
    (178, 95, 72),
    (226, 63, 84),
    (247, 148, 50),
    (250, 213, 45),
    (38, 118, 67),
    (112, 66, 148),
    (232, 136, 190),
)
STUFF_INKS: dict[int, tuple[Inks, ...]] = {
    SKY: (((112, 168, 228), (252, 252, 250)), ((150, 172, 200), (240, 236, 230)), ((226, 158, 140), (252, 232, 206))),
    WATER: (((48, 112, 170), (140, 196, 226)), ((60, 132, 140), (160, 208, 200)), ((104, 136, 172), (190, 206, 220))),
    GRASS: (((82, 138, 56), (158, 194, 90)), ((108, 134, 62), (190, 196, 108))),
    SAND: (((212, 178, 116), (246, 226, 172)), ((190, 158, 112), (230, 206, 162))),
    ROAD: (((104, 104, 112), (166, 164, 164)), ((150, 126, 100), (196, 170, 136))),
    BRICK: (((164, 82, 60), (226, 204, 186)), ((132, 92, 84), (206, 190, 178))),
}


@dataclass(frozen=True)
class Toy:
    """Pictures of `size` x `size` pixels, a pure function of (seed, split, index); `size` does not change the scene.

    The split is part of the seed of every picture, so training and validation never share one. `data[i]` takes 0-based
    (or negative) indices and raises IndexError past the end.
    """

    split: Literal["train", "val"] = "val"
    length: int = 200
    size: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.split not in ("train", "val"):
            raise ValueError(f"expected split 'train' or 'val', got {self.split!r}")
        if self.length < 0 or self.seed < 0:
            raise ValueError(f"expected length and seed to be at least 0, got {self.length} and {self.seed}")
        if self.size < 16:
            raise ValueError(f"expected size to be at least 16 pixels, got {self.size}")

    @property
    def classes(self) -> tuple[str, ...]:
        """Twelve names, in the order of the label values."""
        return CLASSES

    @property
    def palette(self) -> tuple[Color, ...]:
        """One RGB colour per class."""
        return PALETTE

    @property
    def remarks(self) -> tuple[str, ...]:
        """Nothing is left out."""
        return ()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if not -self.length <= index < self.length:
            raise IndexError(f"expected an index below {self.length}, got {index}")
        index %= self.length
        rng = np.random.default_rng((self.seed, ("train", "val").index(self.split), index))
        image, label = _picture(rng, self.size)
        return Sample(f"toy-{self.split}-{index:05d}", image, label)


def _picture(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One (S, S, 3) uint8 picture and its (S, S) uint8 label."""
    (grains,) = rng.spawn(1)  # a stream of its own: the scene does not depend on the number of pixels
    grain = grains.standard_normal((size, size), dtype=np.float32)
    horizon = rng.uniform(60, 120)
    label = _landscape(rng, size, horizon)
    canvas = Canvas(label, _textured(rng, label, grain))
    things = _things(rng, horizon)
    canvas.image *= 1 - 0.4 * _shadows(size, things)[..., None]
    for thing in things:
        draw_thing(canvas, thing, grain, rng)
    return _photographed(rng, canvas.image), canvas.label


def _smooth(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """(S, S) float32 noise in about -1..1 with `cells` x `cells` knots."""
    knots = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(knots.resize((size, size), Image.Resampling.BICUBIC))


def _axes(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows y (S, 1) and columns x (1, S), float32, in reference pixels."""
    steps = (np.arange(size, dtype=np.float32) + 0.5) * (256 / size)
    return steps[:, None], steps[None, :]


def _landscape(rng: np.random.Generator, size: int, horizon: float) -> np.ndarray:
    """(S, S) uint8 label of the stuff: patches of ground with wavy borders, a road, the sky, a wall."""
    y, x = _axes(size)
    kinds = rng.permutation(np.array((WATER, GRASS, SAND, WATER, GRASS, SAND), dtype=np.uint8))[:4]
    warp = 40 * _smooth(rng, size, 6)
    sites = zip(rng.uniform(0, 256, 4).tolist(), rng.permutation(4).tolist(), strict=True)
    label, nearest = np.zeros((size, size), np.uint8), np.full((size, size), np.inf, np.float32)
    for kind, (across, row) in zip(kinds, sites, strict=True):
        down = horizon + (256 - horizon) * row / 4 + 20
        distance = (x - across + warp) ** 2 + (1.6 * (y - down) - warp) ** 2
        label[distance < nearest] = kind
        np.minimum(nearest, distance, out=nearest)
    if rng.random() < 0.75:
        near = (y - horizon) / (256 - horizon)
        middle = rng.uniform(60, 196) + near * rng.uniform(-60, 60) + 36 * near * np.sin(y / 28 + rng.uniform(0, 6))
        label[np.abs(x - middle) < 6 + rng.uniform(18, 34) * near] = ROAD
    skyline = horizon + 12 * np.sin(x / rng.uniform(25, 50) + rng.uniform(0, 6)) + 5 * np.sin(x / 11)
    label[y < skyline] = SKY
    if rng.random() < 0.7:
        _wall(rng, label, horizon)
    return label


def _wall(rng: np.random.Generator, label: np.ndarray, horizon: float) -> None:
    """A brick wall with battlements or a gable, at the back of the scene."""
    left, width, height = rng.uniform(-30, 170), rng.uniform(60, 130), rng.uniform(45, 90)
    foot = horizon + rng.uniform(15, 50)
    right, top = left + width, foot - height
    image = Image.fromarray(label)
    pen = Pen(ImageDraw.Draw(image), label.shape[0] / 256)
    fill = BRICK / 255
    pen.polygon([(left, foot), (left, top), (right, top), (right, foot)], fill)
    if rng.random() < 0.5:
        pen.polygon([(left, top), ((left + right) / 2, top - 0.4 * width), (right, top)], fill)
    else:
        teeth = 2 * int(width / 28) + 1
        for tooth in range(0, teeth, 2):
            a, b = left + width * tooth / teeth, left + width * (tooth + 1) / teeth
            pen.polygon([(a, top), (a, top - 12), (b, top - 12), (b, top)], fill)
    label[...] = np.asarray(image)


def _textured(rng: np.random.Generator, label: np.ndarray, grain: np.ndarray) -> np.ndarray:
    """(S, S, 3) float32 picture of the stuff: one tone field per class between its two inks."""
    size = label.shape[0]
    y, x = _axes(size)
    wavy, fine = _smooth(rng, size, 8), _smooth(rng, size, 40)
    blades = grain[: max(1, size // 6)].repeat(6, axis=0)
    blades = np.pad(blades, ((0, max(0, size - len(blades))), (0, 0)), mode="wrap")[:size]
    course = np.floor(y / 8)
    mortar = (y % 8 < 1.8) | ((x + 8 * (course % 2)) % 16 < 1.8)
    fields: dict[int, Callable[[], np.ndarray]] = {
        SKY: lambda: np.clip(0.1 + y / 400 + np.maximum(0, 1.6 * wavy + 0.4 * fine), 0, 1),
        WATER: lambda: 0.4 + 0.35 * np.sin(y / 2.6 + 1.5 * np.sin(x / 14) + 2 * wavy) + 0.1 * fine,
        GRASS: lambda: 0.45 + 0.2 * wavy + 0.22 * blades,
        SAND: lambda: 0.55 + 0.25 * np.sin((x + 2 * y) / 9 + 3 * wavy) + 0.12 * grain,
        ROAD: lambda: 0.45 + 0.35 * fine + 0.15 * grain,
        BRICK: lambda: np.where(mortar, 0.85, 0.18 + 0.2 * fine),
    }
    image = np.empty((*label.shape, 3), np.float32)
    for kind, texture in fields.items():
        inks = STUFF_INKS[kind][rng.integers(len(STUFF_INKS[kind]))]
        inside = label == kind
        if inside.any():
            image[inside] = mix(inks, texture()[inside])
    return image


def _things(rng: np.random.Generator, horizon: float) -> list[Thing]:
    """What stands in the picture, far to near."""
    common = (BALL, BOX, STAR, TREE, POLE, FENCE)
    kinds = [*rng.permutation(common), *rng.choice(common, int(rng.integers(1, 4)))]
    feet = np.sort(rng.uniform(horizon + 18, 262, len(kinds)))
    things = []
    for kind, foot in zip(kinds, feet, strict=True):
        scale = 0.55 + 0.6 * (foot - horizon) / (256 - horizon)
        things.append(Thing(int(kind), rng.uniform(8, 248), float(foot), float(scale)))
    return things


def _shadows(size: int, things: list[Thing]) -> np.ndarray:
    """(S, S) float32 in 0..1: a soft shadow to the right of every foot, drawn small and enlarged."""
    small = max(8, size // 4)
    shadow = Image.new("L", (small, small))
    draw, unit = ImageDraw.Draw(shadow), small / 256
    for thing in things:
        reach = (10 if thing.kind in (POLE, FENCE) else 26) * thing.scale
        box = (thing.x - 0.6 * reach, thing.y - 0.35 * reach, thing.x + 1.9 * reach, thing.y + 0.25 * reach)
        draw.ellipse([side * unit for side in box], fill=255)
    soft = shadow.filter(ImageFilter.GaussianBlur(4 * unit)).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(soft, dtype=np.float32) / 255


def _photographed(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Light falling across the picture, its tint, the lens and the sensor: (S, S, 3) float32 to uint8."""
    size = image.shape[0]
    y, x = _axes(size)
    angle, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0.05, 0.22)
    light = (
        1 + strength * (math.cos(angle) * (x - 128) + math.sin(angle) * (y - 128)) / 128 + 0.06 * _smooth(rng, size, 4)
    )
    tint = rng.uniform(0.93, 1.05, 3).astype(np.float32)
    lit = Image.fromarray(np.clip(image * light[..., None] * tint, 0, 255).astype(np.uint8))
    soft = np.asarray(lit.filter(ImageFilter.GaussianBlur(0.6)), dtype=np.float32)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noise *= rng.uniform(3, 7)
    noise += soft
    return np.clip(noise, 0, 255, out=noise).astype(np.uint8)
