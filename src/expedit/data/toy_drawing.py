"""Pencils for the `toy` data set: a canvas that paints picture and label together, and the things that stand in it.

Lengths are pixels of a 256x256 picture (reference pixels). A tone in 0..1 mixes a dark and a light ink.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from .class_list import Color

SKY, WATER, GRASS, SAND, ROAD, BRICK, BALL, BOX, STAR, TREE, POLE, FENCE = range(12)

Inks = tuple[Color, Color]  # dark and light RGB
Point = tuple[float, float]

TOY_INKS: tuple[Inks, ...] = (
    ((160, 30, 40), (250, 120, 110)),
    ((30, 70, 160), (120, 180, 250)),
    ((200, 130, 10), (255, 232, 110)),
    ((96, 40, 130), (208, 150, 236)),
    ((150, 80, 50), (226, 160, 120)),
    ((20, 110, 100), (120, 220, 196)),
)
TREE_INKS: tuple[Inks, ...] = (
    ((36, 86, 44), (124, 168, 76)),
    ((72, 92, 30), (176, 178, 80)),
    ((24, 84, 72), (96, 160, 120)),
)
TRUNK_INKS: Inks = ((84, 56, 40), (146, 106, 76))
THIN_INKS: tuple[Inks, ...] = (
    ((96, 64, 40), (196, 150, 104)),
    ((176, 172, 168), (252, 250, 244)),
    ((52, 54, 62), (140, 144, 152)),
)


class Thing(NamedTuple):
    """One object. (x, y) is its foot in reference pixels; `scale` is 1 in the foreground and smaller further away."""

    kind: int
    x: float
    y: float
    scale: float


class Pen:
    """ImageDraw in reference pixels and tones."""

    def __init__(self, draw: ImageDraw.ImageDraw, unit: float) -> None:
        self.draw, self.unit = draw, unit

    def polygon(self, points: list[Point], tone: float) -> None:
        """A filled polygon through (x, y) corners."""
        self.draw.polygon([(x * self.unit, y * self.unit) for x, y in points], fill=_byte(tone))

    def disc(self, x: float, y: float, radius: float, tone: float) -> None:
        """A filled disc."""
        corners = (x - radius, y - radius, x + radius, y + radius)
        self.draw.ellipse([corner * self.unit for corner in corners], fill=_byte(tone))

    def bar(self, start: Point, end: Point, width: float, tone: float) -> None:
        """A straight bar, `width` wide, with one half in shade."""
        (x0, y0), (x1, y1) = start, end
        length = math.hypot(x1 - x0, y1 - y0)
        nx, ny = (y1 - y0) / length * width / 2, (x0 - x1) / length * width / 2
        self.polygon([(x0 - nx, y0 - ny), (x1 - nx, y1 - ny), (x1 + nx, y1 + ny), (x0 + nx, y0 + ny)], tone)
        self.polygon([start, end, (x1 - nx, y1 - ny), (x0 - nx, y0 - ny)], 0.5 * tone)


def _byte(tone: float) -> int:
    return max(1, min(255, round(255 * tone)))  # 0 means: nothing drawn here


def mix(inks: Inks, tone: np.ndarray) -> np.ndarray:
    """(...) float32 tones to (..., 3) float32 colours between the two inks."""
    dark, light = np.asarray(inks, dtype=np.float32)
    colours: np.ndarray = tone[..., None] * (light - dark)
    colours += dark
    return colours


class Canvas:
    """Picture and label, painted back to front.

    label: (S, S) uint8 class index; image: (S, S, 3) float32 in 0..255; one reference pixel is `unit` = S / 256 pixels
    """

    def __init__(self, label: np.ndarray, image: np.ndarray) -> None:
        self.label, self.image, self.unit = label, image, label.shape[0] / 256

    def paint(self, kind: int, inks: Inks, draw: Callable[[Pen], None], grain: np.ndarray | None = None) -> None:
        """Lays what `draw` draws over the picture; `grain` (S, S) float32 is added to the tones."""
        tones = Image.new("L", self.label.shape)
        draw(Pen(ImageDraw.Draw(tones), self.unit))
        bounds = tones.getbbox()
        if bounds is None:
            return
        window = np.s_[bounds[1] : bounds[3], bounds[0] : bounds[2]]
        inside = np.asarray(tones)[window] > 0
        tone = np.asarray(tones)[window][inside].astype(np.float32) / 255
        if grain is not None:
            tone += grain[window][inside]
        self.label[window][inside] = kind
        self.image[window][inside] = mix(inks, tone)


def draw_thing(canvas: Canvas, thing: Thing, grain: np.ndarray, rng: np.random.Generator) -> None:
    """Paints one thing; `grain` (S, S) float32 is the fine texture shared by the whole picture."""
    if thing.kind == TREE:
        _tree(canvas, thing, grain, rng)
    elif thing.kind in (POLE, FENCE):
        inks = THIN_INKS[rng.integers(len(THIN_INKS))]
        draw_thin = _pole if thing.kind == POLE else _fence
        canvas.paint(thing.kind, inks, lambda pen: draw_thin(pen, thing, rng))
    else:
        inks = TOY_INKS[rng.integers(len(TOY_INKS))]
        draw_toy = {BALL: _ball, BOX: _box, STAR: _star}[thing.kind]
        canvas.paint(thing.kind, inks, lambda pen: draw_toy(pen, thing, rng), 0.15 * grain)


def _ball(pen: Pen, thing: Thing, rng: np.random.Generator) -> None:
    radius = thing.scale * rng.uniform(14, 30)
    x, y = thing.x, thing.y - radius
    striped = rng.random() < 0.5
    for step in range(8):
        shrink = 1 - step / 8
        tone = 0.1 + 0.9 * step / 7
        if striped and step in (3, 4):
            tone = 0.05
        pen.disc(x - 0.3 * radius * (1 - shrink), y - 0.35 * radius * (1 - shrink), radius * shrink, tone)


def _box(pen: Pen, thing: Thing, rng: np.random.Generator) -> None:
    width, height = thing.scale * rng.uniform(26, 52), thing.scale * rng.uniform(24, 50)
    depth = 0.35 * thing.scale * rng.uniform(14, 34) * rng.choice((-1, 1))
    left, right, top, foot = thing.x - width / 2, thing.x + width / 2, thing.y - height, thing.y
    lift = 0.6 * abs(depth)
    near = right if depth > 0 else left
    pen.polygon([(left, top), (right, top), (right + depth, top - lift), (left + depth, top - lift)], 0.95)
    pen.polygon([(near, top), (near + depth, top - lift), (near + depth, foot - lift), (near, foot)], 0.12)
    pen.polygon([(left, top), (right, top), (right, foot), (left, foot)], 0.55)
    if rng.random() < 0.5:
        pen.bar((thing.x, top), (thing.x, foot), 0.2 * width, 0.95)


def _star(pen: Pen, thing: Thing, rng: np.random.Generator) -> None:
    radius, points = thing.scale * rng.uniform(20, 34), int(rng.integers(5, 8))
    inner, turn = radius * rng.uniform(0.45, 0.6), rng.uniform(0, 2 * math.pi)
    x, y = thing.x, thing.y - 0.85 * radius
    rim = []
    for corner in range(2 * points):
        reach, angle = (inner if corner % 2 else radius), turn + math.pi * corner / points
        rim.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    pen.polygon(rim, 0.5)
    for corner in range(2 * points):
        pen.polygon([(x, y), rim[corner], rim[(corner + 1) % (2 * points)]], 0.9 if corner % 2 else 0.3)


def _tree(canvas: Canvas, thing: Thing, grain: np.ndarray, rng: np.random.Generator) -> None:
    height, spread = thing.scale * rng.uniform(60, 100), thing.scale * rng.uniform(20, 34)
    x, y, crown = thing.x, thing.y, thing.y - height
    conifer = rng.random() < 0.4
    canvas.paint(TREE, TRUNK_INKS, lambda pen: pen.bar((x, y), (x, crown + spread / 2), 0.3 * spread, 0.9))

    def leaves(pen: Pen) -> None:
        if conifer:
            for tier, tone in enumerate((0.3, 0.5, 0.7)):
                foot, half = y - height * (0.22 + 0.22 * tier), spread * (1 - 0.22 * tier)
                pen.polygon([(x - half, foot), (x + half, foot), (x, foot - 0.45 * height)], tone)
            return
        for tone in (0.15, 0.35, 0.55, 0.75):
            angle, reach = rng.uniform(0, 2 * math.pi), spread * rng.uniform(0.2, 0.55)
            lift = spread * (0.9 - tone)
            pen.disc(
                x + reach * math.cos(angle), crown + lift + reach * math.sin(angle), spread * (1.05 - 0.5 * tone), tone
            )

    canvas.paint(TREE, TREE_INKS[rng.integers(len(TREE_INKS))], leaves, 0.35 * grain)


def _pole(pen: Pen, thing: Thing, rng: np.random.Generator) -> None:
    height, width = thing.scale * rng.uniform(110, 190), max(5.0, thing.scale * rng.uniform(6.5, 9.5))
    x, top, lean = thing.x, thing.y - height, height * rng.uniform(-0.08, 0.08)
    pen.bar((x, thing.y), (x + lean, top), width, 0.85)
    for arm in range(int(rng.integers(0, 3))):
        across, reach = top + width * (1.2 + 3 * arm), width * rng.uniform(2.2, 3.6)
        pen.bar((x + lean - reach, across), (x + lean + reach, across), 0.9 * width, 0.85)


def _fence(pen: Pen, thing: Thing, rng: np.random.Generator) -> None:
    posts, gap = int(rng.integers(4, 8)), thing.scale * rng.uniform(30, 44)
    height, width = thing.scale * rng.uniform(34, 48), max(5.0, thing.scale * rng.uniform(6, 8))
    slope, left = rng.uniform(-0.12, 0.12), thing.x - gap * (posts - 1) / 2
    right = left + gap * (posts - 1)
    for level in (0.35, 0.8):
        rail = thing.y - level * height
        pen.bar((right, rail + slope * (right - thing.x)), (left, rail + slope * (left - thing.x)), width, 0.7)
    for post in range(posts):
        x = left + gap * post
        foot = thing.y + slope * (x - thing.x)
        pen.bar((x, foot), (x, foot - height), 1.1 * width, 0.95)
