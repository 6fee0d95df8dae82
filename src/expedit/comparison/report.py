"""One self-contained HTML page of a comparison: table, trade-off plots and pictures, no network needed to read it."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import draw
from ..data.class_list import Color
from ..data.writing import write_text
from . import plots
from .result import Example, Row, View

LONGEST = 800  # pixels of a picture's longer side on the page


@dataclass(frozen=True)
class Column:
    """How a field of ``Row`` is shown: ``scale`` times its value in ``form``; ``best`` picks the value to highlight."""

    field: str
    title: str
    hint: str
    form: str
    best: Callable[[Sequence[float]], float] | None
    scale: float = 1.0


COLUMNS = (
    Column("tokens", "tokens", "mean number of tokens per block", "{:,.0f}", None),
    Column("clusters", "clusters", "mean number of clusters a data-dependent method used", "{:,.1f}", None),
    Column(
        "gmacs", "GMACs", "10⁹ multiply-adds per image, every convolution and matrix product counted", "{:,.2f}", min
    ),
    Column("mac_ratio", "MAC ratio", "dense GMACs ÷ GMACs", "{:.2f}×", max),
    Column("ms", "ms / image", "median milliseconds per image of interleaved runs", "{:,.1f}", min),
    Column("speedup", "speed-up", "dense time ÷ time, median of pairs", "{:.2f}×", max),
    Column(
        "efficiency", "efficiency", "speed-up ÷ MAC ratio: how much of the saved work becomes saved time", "{:.2f}", max
    ),
    Column("miou", "mIoU %", "mean intersection over union with the ground truth", "{:.2f}", max, 100),
    Column("delta_miou", "ΔmIoU", "percentage points against the dense model", "{:+.2f}", max, 100),
    Column("agreement", "agreement %", "pixels that get the dense model's class, right or wrong", "{:.2f}", max, 100),
)


def write_report(
    path: Path,
    title: str,
    rows: Sequence[Row],
    examples: Sequence[Example],
    classes: Sequence[str],
    palette: Sequence[Color],
    facts: Mapping[str, str],
    ignore: int = 255,
) -> None:
    """Write a comparison as one HTML file with every picture inside it.

    Args:
        path: the file; its folder is made where missing. It appears whole or not at all.
        title: heading of the page.
        rows: one per setting, in the order of their ladders; the settings of a method are joined in the plots.
        examples: pictures to show, with the results of each method.
        classes, palette: names and RGB colours by class index.
        facts: what was measured on what: machine, threads, dtype, versions, number of images, command.
        ignore: label of pixels that do not count.

    Raises:
        ValueError: where there are no rows, or a label map or picture has another size than its image.
    """
    if not rows:
        raise ValueError("write_report: expected at least one row, got none")
    _check_examples(examples)
    page = _render(
        title=title,
        facts=facts,
        tints={row.spec: tint for row, tint in zip(rows, plots.tints(rows), strict=True)},
        columns=_columns(rows),
        table=_table(rows),
        plots=plots.trade_offs(rows),
        truth=any(example.truth is not None for example in examples) or any(row.miou is not None for row in rows),
        examples=[_gallery(example, palette, ignore) for example in examples],
        legend=_legend(examples, classes, palette),
    )
    write_text(path, page)


def _render(**content: Any) -> str:
    """Fill the template; every text is escaped."""
    from jinja2 import Environment, StrictUndefined

    source = files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source).render(content)


def _check_examples(examples: Sequence[Example]) -> None:
    for example in examples:
        if not example.views:
            raise ValueError(f"{example.name}: expected the dense view first, got no views")
        size = example.image.shape[:2]
        maps = {"truth": example.truth, **{view.spec: view.labels for view in example.views}}
        for name, labels in maps.items():
            if labels is not None and labels.shape != size:
                raise ValueError(f"{example.name}, {name}: expected labels of shape {size}, got {labels.shape}")


def _value(row: Row, column: Column) -> float | None:
    """The field's number, ``None`` where there is none to show."""
    value = getattr(row, column.field)
    return None if value is None or not math.isfinite(value) else column.scale * value


def _text(value: float | None, column: Column) -> str | None:
    """The number as it is read, with a true minus sign."""
    return None if value is None else column.form.format(value).replace("-", "−")


def _columns(rows: Sequence[Row]) -> list[Column]:
    """The columns in which some row has a number."""
    return [column for column in COLUMNS if any(_value(row, column) is not None for row in rows)]


def _table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows of cells (value, text, whether it is the best of its column among the methods)."""
    lines: list[dict[str, Any]] = [{"spec": row.spec, "cells": []} for row in rows]
    for column in _columns(rows):
        texts = [_text(_value(row, column), column) for row in rows]
        rivals = [v for row in rows if row.spec != "dense" and (v := _value(row, column)) is not None]
        best = _text(column.best(rivals), column) if column.best and len(rivals) > 1 else None
        for line, row, text in zip(lines, rows, texts, strict=True):
            winner = text is not None and text == best and row.spec != "dense"
            line["cells"].append({"value": _value(row, column), "text": text, "best": winner})
    return lines


def _gallery(example: Example, palette: Sequence[Color], ignore: int) -> dict[str, Any]:
    """Pictures of one example: what is given, then a card for each method."""
    dense, *others = example.views
    given = [("Picture", _photo(example.image))]
    if example.truth is not None:
        given.append(("Ground truth", _classes(example.truth, palette, ignore)))
    given.append(("Dense prediction", _classes(dense.labels, palette, ignore)))
    if example.truth is not None:
        share = _agreement(dense.labels, example.truth, ignore)
        wrong = _difference(dense.labels, example.truth, ignore)
        given.append((f"Dense against truth: {share:.1%} equal", wrong))
    cards = [_card(example, view, dense, palette, ignore) for view in others]
    height, width = example.image.shape[:2]
    return {"name": example.name, "shape": f"{width} / {height}", "given": given, "cards": cards}


def _card(example: Example, view: View, dense: View, palette: Sequence[Color], ignore: int) -> dict[str, Any]:
    """Prediction, difference from dense and clusters of one method on one picture."""
    pictures = [
        ("Prediction", _classes(view.labels, palette, ignore)),
        ("Difference", _difference(view.labels, dense.labels, ignore)),
    ]
    if view.owner is not None:
        name = f"{len(np.unique(view.owner))} clusters"
        pictures.append((name, _mask(draw.clusters(_small(example.image), view.owner))))
    return {"spec": view.spec, "agreement": _agreement(view.labels, dense.labels, ignore), "pictures": pictures}


def _agreement(labels: np.ndarray, reference: np.ndarray, ignore: int) -> float:
    """Share of equal pixels in 0..1 where the reference counts; nan where it never does."""
    counts = reference != ignore
    return float((labels == reference)[counts].mean()) if counts.any() else math.nan


def _legend(examples: Sequence[Example], classes: Sequence[str], palette: Sequence[Color]) -> list[tuple[str, str]]:
    """Name and CSS colour of every class that some picture shows."""
    present: set[int] = set()
    for example in examples:
        for labels in (example.truth, *(view.labels for view in example.views)):
            present.update([] if labels is None else np.unique(labels).tolist())
    return [(name, "#" + bytes(palette[i]).hex()) for i, name in enumerate(classes) if i in present]


def _small(array: np.ndarray) -> np.ndarray:
    """Every n-th row and column of a picture or label map, so that the page stays light."""
    step = -(-max(array.shape[:2]) // LONGEST)
    return array[::step, ::step]


def _classes(labels: np.ndarray, palette: Sequence[Color], ignore: int) -> str:
    return _mask(draw.colorize(_small(labels), palette, ignore))


def _difference(labels: np.ndarray, reference: np.ndarray, ignore: int) -> str:
    return _mask(draw.difference(_small(labels), _small(reference), ignore))


def _photo(image: np.ndarray) -> str:
    """JPEG data URI."""
    photo, file = Image.fromarray(image), io.BytesIO()
    photo.thumbnail((LONGEST, LONGEST))
    photo.save(file, "JPEG", quality=88, subsampling=0)
    return plots.data_uri("image/jpeg", file.getvalue())


def _mask(picture: np.ndarray) -> str:
    """PNG data URI, with a palette where there are at most 256 colours."""
    packed = picture.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colors, places = np.unique(packed, return_inverse=True)
    image = Image.fromarray(picture)
    if len(colors) <= 256:
        image = Image.fromarray(places.reshape(packed.shape).astype(np.uint8))
        image.putpalette(np.stack((colors >> 16, colors >> 8 & 255, colors & 255), 1).astype(np.uint8).tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return plots.data_uri("image/png", file.getvalue())
