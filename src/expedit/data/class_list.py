"""Class lists: one name per line, if wanted with a colour after a comma or a tab ("sky, 70 130 180").

A line with "-" alone stands for a label value that is no class and does not count.
"""

from __future__ import annotations

import re
from pathlib import Path

Color = tuple[int, int, int]
ClassList = tuple[tuple[str, ...], tuple[Color, ...]]

NO_CLASS = "-"
LINE = re.compile(r"(?P<name>.*?)\s*[,\t]\s*(?P<r>\d{1,4})[\s,]+(?P<g>\d{1,4})[\s,]+(?P<b>\d{1,4})")


def parse_class_list(text: str, source: str) -> ClassList:
    """Names and colours (RGB, 0..255) by label value; blank lines are skipped, missing colours are `voc_color`.

    Raises:
        ValueError: no class, an empty or repeated name, or a colour above 255; ``source`` is named.
    """
    names: list[str] = []
    colors: list[Color] = []
    for line in (line.strip() for line in text.lstrip("\ufeff").splitlines()):
        if not line:
            continue
        match = LINE.fullmatch(line)
        name = match["name"] if match else line
        color = (int(match["r"]), int(match["g"]), int(match["b"])) if match else voc_color(len(names))
        if not name or (name in names and name != NO_CLASS) or max(color) > 255:
            raise ValueError(f"{source}: expected a new class name, if wanted with 'r g b' in 0..255, got {line!r}")
        names.append(name)
        colors.append(color)
    if not names:
        raise ValueError(f"{source}: expected one class name per line, got none")
    return tuple(names), tuple(colors)


def shipped_class_list(name: str) -> ClassList:
    """The list ``classes/<name>.txt`` of this package."""
    path = Path(__file__).parent / "classes" / f"{name}.txt"
    return parse_class_list(path.read_text(encoding="utf-8"), str(path))


def voc_color(index: int) -> Color:
    """Colour ``index`` of the PASCAL VOC colour map: bits 0, 3, 6 of the index are the high bits of red, and so on."""
    channels = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            channels[channel] |= (index >> (3 * place + channel) & 1) << (7 - place)
    return channels[0], channels[1], channels[2]
