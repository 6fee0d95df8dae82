"""Pictures of what a model says and of how its tokens were grouped.

Pure functions on arrays, numpy and Pillow only. Every picture in and out is ``(H, W, 3)`` uint8 RGB; labels are integer
arrays ``(H, W)`` of class indices. What is neither a class nor ``ignore`` is drawn like ``ignore``; ``ignore=None``
draws every class, which predictions of more than 255 classes need.
"""

from __future__ import annotations

import colorsys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from .data.class_list import Color
    from .prediction import Prediction

    Box = tuple[int, int, int, int]

NEUTRAL = (128, 128, 128)
PAPER = (246, 246, 243)
CONTOUR = (196, 196, 192)
WRONG = (214, 24, 94)
INK = (24, 26, 30)


def colorize(labels: np.ndarray, palette: Sequence[Color], ignore: int | None = 255) -> np.ndarray:
    """Class indices ``(H, W)`` as colours, neutral grey where there is no class."""
    _check_labels(labels, "labels")
    table = np.array([*palette, NEUTRAL], np.uint8)
    picture: np.ndarray = table[_known(labels, len(palette), ignore)]
    return picture


def overlay(
    image: np.ndarray, labels: np.ndarray, palette: Sequence[Color], alpha: float = 0.55, ignore: int | None = 255
) -> np.ndarray:
    """The colours of ``labels`` over ``image`` with opacity ``alpha``; the bare image where there is no class.

    A light line with a dark edge parts neighbouring segments, so that it shows on any picture.
    """
    _check_image(image)
    _check_labels(labels, "labels", image.shape[:2])
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected an opacity in 0..1, got {alpha}")
    places = _known(labels, len(palette), ignore)
    colors = np.array([*palette, (0, 0, 0)], np.uint16)
    opacity = np.full(len(colors), round(256 * alpha), np.uint16)
    opacity[-1] = 0
    return _outlined(_blend(image, places, colors, opacity), places)


def difference(labels: np.ndarray, reference: np.ndarray, ignore: int | None = 255) -> np.ndarray:
    """Where ``labels`` departs from ``reference``, both ``(H, W)``: strong colour on paper.

    The contours of the reference are traced faintly for orientation; pixels that it ignores are neutral grey.
    """
    _check_labels(reference, "reference")
    _check_labels(labels, "labels", reference.shape)
    kind = borders(reference).astype(np.uint8)
    kind[labels != reference] = 2
    kind[reference == ignore] = 3
    return np.array((PAPER, CONTOUR, WRONG, NEUTRAL), np.uint8)[kind]


def clusters(image: np.ndarray, owner: np.ndarray, grid: tuple[int, int] | None = None) -> np.ndarray:
    """Groups of tokens over the picture they were made from, each filled with its mean colour.

    Args:
        image: ``(H, W, 3)`` uint8; the token lattice is taken to cover it evenly.
        owner: integers, which reduced token each token reads most (``TokenMap.owner()`` of one image): ``(h, w)``, or
            ``(h * w,)`` with ``grid``.
        grid: ``(h, w)`` of the lattice, needed where ``owner`` is flat.
    """
    _check_image(image)
    lattice = owner if grid is None else owner.reshape(grid)
    _check_labels(lattice, "owner")
    (height, width), (h, w) = image.shape[:2], lattice.shape
    names, places = np.unique(lattice, return_inverse=True)
    rows, columns = np.arange(height) * h // height, np.arange(width) * w // width
    places = places.reshape(h, w)[rows[:, None], columns]
    count = np.maximum(np.bincount(places.ravel(), minlength=len(names)), 1)
    total = [np.bincount(places.ravel(), image[..., c].ravel(), len(names)) for c in range(3)]
    picture: np.ndarray = (np.stack(total, 1) / count[:, None]).round().astype(np.uint8)[places]
    edge = borders(places)
    picture[edge] = (0.65 * picture[edge]).astype(np.uint8)
    return picture


def borders(labels: np.ndarray) -> np.ndarray:
    """``(H, W)`` bool: pixels that differ from their right or lower neighbour, a line one pixel wide."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] = labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


def legend(
    classes: Sequence[str],
    palette: Sequence[Color],
    present: Collection[int] | None = None,
    font_size: int = 14,
    rows: int = 20,
) -> np.ndarray:
    """Swatches with class names, in columns of at most ``rows``; only the indices in ``present`` where given."""
    if len(classes) != len(palette):
        raise ValueError(f"legend: expected one colour for each of {len(classes)} classes, got {len(palette)}")
    shown = [i for i in range(len(classes)) if present is None or i in present]
    font = ImageFont.load_default(size=font_size)
    pad, pitch = font_size, round(1.6 * font_size)
    column = 3 * pad + round(max((font.getlength(classes[i]) for i in shown), default=0))
    columns, tallest = max(1, -(-len(shown) // rows)), min(rows, max(1, len(shown)))
    picture = Image.new("RGB", (columns * column + pad, tallest * pitch + pad), "white")
    pen = ImageDraw.Draw(picture)
    for place, index in enumerate(shown):
        x, y = pad + place // rows * column, pad // 2 + place % rows * pitch
        swatch = (x, y + pitch / 2 - font_size / 2, x + font_size, y + pitch / 2 + font_size / 2)
        pen.rounded_rectangle(swatch, 3, fill=tuple(palette[index]), outline=(90, 90, 90))
        pen.text((x + 1.5 * pad, y + pitch / 2), classes[index], INK, font, anchor="lm")
    return np.array(picture)


def segments(image: np.ndarray, prediction: Prediction, alpha: float = 0.55) -> np.ndarray:
    """A panoptic or instance result over its picture: every segment named, in a shade of its class colour.

    Labels stand at the most interior free point of their segment, or beside it where there is no room. Where instances
    overlap the one of higher score is on top.

    Raises:
        ValueError: for a task that has no segments of one picture, or a result of another size.
    """
    _check_image(image)
    places = _segment_places(prediction)
    _check_labels(places, "prediction", image.shape[:2])
    colors = _shades([segment.category for segment in prediction.segments], prediction.palette)
    opacity = np.append(np.full(len(colors), round(256 * alpha), np.uint16), np.uint16(0))
    blended = _blend(image, places, np.array([*colors, (0, 0, 0)], np.uint16), opacity)
    picture = Image.fromarray(_outlined(blended, places))
    names = [f"{prediction.classes[s.category]} {s.score:.2f}" for s in prediction.segments]
    _write_names(picture, places, names, colors)
    return np.array(picture)


def _segment_places(prediction: Prediction) -> np.ndarray:
    """``(H, W)`` int: the place in ``prediction.segments`` of the segment seen at each pixel, their number for none."""
    count = len(prediction.segments)
    if prediction.task == "panoptic" and prediction.labels is not None:
        order = np.argsort([segment.id for segment in prediction.segments])
        ids = np.array([segment.id for segment in prediction.segments], np.int64)[order]
        found = np.searchsorted(ids, prediction.labels)
        ids, order = np.append(ids, -1), np.append(order, count)
        return np.where(ids[found] == prediction.labels, order[found], count).astype(np.int64)
    if prediction.task == "instance" and prediction.masks is not None:
        places = np.full(prediction.masks.shape[1:], count, np.int64)
        for place in np.argsort([segment.score for segment in prediction.segments], kind="stable"):
            places[prediction.masks[place]] = place
        return places
    raise ValueError(
        f"segments: expected a panoptic or instance prediction, got task {prediction.task!r}; use overlay()"
    )


def _shades(categories: Sequence[int], palette: Sequence[Color]) -> list[Color]:
    """A colour for each segment: the class colour for the first of a class, then hues and values near it."""
    seen: dict[int, int] = {}
    shades = []
    for category in categories:
        turn = seen[category] = seen.get(category, -1) + 1
        hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in palette[category]))
        step = 0.618 * turn % 1
        hue += 0.06 * step if turn % 2 else -0.06 * step
        value += -0.4 * step * value if value > 0.5 else 0.4 * step
        r, g, b = colorsys.hsv_to_rgb(hue % 1, saturation, value)
        shades.append((round(255 * r), round(255 * g), round(255 * b)))
    return shades


def _write_names(picture: Image.Image, places: np.ndarray, names: Sequence[str], colors: Sequence[Color]) -> None:
    """Write every name inside its segment, the small segments first since they have the least room."""
    font = ImageFont.load_default(size=max(11, min(picture.size) // 40))
    pen = ImageDraw.Draw(picture)
    area = np.bincount(places.ravel(), minlength=len(names) + 1)[: len(names)]
    taken: list[Box] = []
    for place in np.argsort(area, kind="stable"):
        if not area[place]:
            continue
        left, top, right, bottom = pen.textbbox((0, 0), names[place], font, anchor="lt")
        width, height = round(right - left) + 8, round(bottom - top) + 6
        x, y = _place_box(_depth(places == place), width, height, taken)
        taken.append((x, y, x + width, y + height))
        fill = colors[place]
        ink = INK if 0.3 * fill[0] + 0.59 * fill[1] + 0.11 * fill[2] > 120 else (255, 255, 255)
        pen.rounded_rectangle(taken[-1], 3, fill=fill, outline=ink)
        pen.text((x + 4, y + 3), names[place], ink, font, anchor="lt")


def _place_box(depth: np.ndarray, width: int, height: int, taken: Sequence[Box]) -> tuple[int, int]:
    """Left and top of a box centred at the deepest free point, else at the free point nearest to the deepest one."""
    rows, columns = depth.shape
    deepest = np.unravel_index(depth.argmax(), depth.shape)
    y, x = np.ogrid[:rows, :columns]
    away = abs(y - deepest[0]) + abs(x - deepest[1])
    cost = np.where(depth > 0, -depth, away)
    free = (y >= height // 2) & (y < rows - height // 2) & (x >= width // 2) & (x < columns - width // 2)
    for left, top, right, bottom in taken:
        near_y, near_x = max(0, top - height // 2), max(0, left - width // 2)
        free[near_y : bottom + height // 2 + 2, near_x : right + width // 2 + 2] = False
    row, column = deepest
    if free.any():
        row, column = np.unravel_index(np.where(free, cost, rows + columns).argmin(), depth.shape)
    left, top = int(column) - width // 2, int(row) - height // 2
    return max(0, min(left, columns - width - 1)), max(0, min(top, rows - height - 1))


def _depth(mask: np.ndarray) -> np.ndarray:
    """City-block distance of every pixel of the mask ``(H, W)`` to the outside, which the picture's edge is, too."""
    depth = np.pad(np.where(mask, sum(mask.shape), 0).astype(np.int32), 1)
    for axis in (0, 1):
        ramp = np.arange(depth.shape[axis], dtype=np.int32).reshape((-1, 1) if axis == 0 else (1, -1))
        depth = np.minimum.accumulate(depth - ramp, axis) + ramp
        depth = np.flip(np.minimum.accumulate(np.flip(depth + ramp, axis), axis), axis) - ramp
    return depth[1:-1, 1:-1]


def _known(labels: np.ndarray, count: int, ignore: int | None) -> np.ndarray:
    """Labels with ``count`` in place of everything that is not a class."""
    return np.where((labels >= 0) & (labels < count) & (labels != ignore), labels, count).astype(np.int64)


def _blend(image: np.ndarray, places: np.ndarray, colors: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """``image`` under ``colors[places]``; ``opacity`` per colour in 0..256."""
    paint = (colors * opacity[:, None]).astype(np.uint16)[places]
    picture: np.ndarray = ((image * (256 - opacity)[places][..., None] + paint) >> 8).astype(np.uint8)
    return picture


def _outlined(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    """``picture`` with a light line and its dark edge where ``places`` changes."""
    line = borders(places)
    edge = np.zeros_like(line)
    edge[1:, 1:] = line[:-1, :-1]
    edge &= ~line
    picture[edge] = picture[edge] // 2
    picture[line] = picture[line] // 4 + 191
    return picture


def _check_image(image: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image: expected (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}")


def _check_labels(labels: np.ndarray, name: str, size: tuple[int, ...] | None = None) -> None:
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer) or (size and labels.shape != size):
        raise ValueError(f"{name}: expected integers of shape {size or '(H, W)'}, got {labels.shape} {labels.dtype}")
