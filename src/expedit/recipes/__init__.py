"""Tables, one YAML file each: settings and published figures of every row. The table is the configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml

from ..checkpoints.zoo import ARCHITECTURES, SHIPPED
from ..core import Method
from ..data import DATASETS
from ..data.object_data import INSTANCE, PANOPTIC, VIDEO
from ..models.vit import Interpolation
from ..spec import parse

FOLDER = Path(__file__).parent
LIMIT = 1 << 20
"""Bytes; ours have a few thousand."""

DENSE = "dense"
METRICS = ("miou", "pq", "ap")
TASK_DATA = (*DATASETS, *PANOPTIC, *INSTANCE, *VIDEO)
OURS = "ours"
SETTINGS = ("released", "inferred", "not identifiable", OURS)
T = TypeVar("T")


@dataclass(frozen=True)
class Published:
    """Figures of a row as printed.

    Attributes:
        gflops: multiply-adds counted once, in the official counter's convention.
        fps: images per second at batch 1, one crop each.
        throughput: images per second in batches, one crop each, where it was measured.
        miou, pq, ap: in per cent, the one of the task.
    """

    gflops: float
    fps: float
    throughput: float | None = None
    miou: float | None = None
    pq: float | None = None
    ap: float | None = None

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            absent = value is None and entry.default is None
            if not absent and (not _is_number(value) or value <= 0):
                raise ValueError(f"published.{entry.name}: expected a positive number, got {value!r}")
        given = [name for name in METRICS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"published: expected one of {', '.join(METRICS)}, got {', '.join(given) or 'none'}")


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        method: a method's spec string, or "dense" for the model as it is.
        settings: where the settings come from: "released", "inferred" or "not identifiable" for published rows,
            "ours" for others.
        published: the figures to compare with, if there are any.
        note: what one must know to compare them.
        counted: the spec string that has the published GFLOPs, where ``method`` has others.
    """

    method: str
    settings: str = OURS
    published: Published | None = None
    note: str = ""
    counted: str | None = None

    def __post_init__(self) -> None:
        if self.settings not in SETTINGS:
            raise ValueError(f"settings: expected one of {', '.join(SETTINGS)}, got {self.settings!r}")
        for name in ("method", "note", "counted"):
            if not isinstance(getattr(self, name) or "", str):
                raise ValueError(f"{name}: expected text, got {getattr(self, name)!r}")
        if (self.settings == OURS) != (self.published is None):
            raise ValueError(f"settings: {OURS!r} stands for rows without published figures and only for them")
        self.parsed()
        self.parsed_counted()

    def parsed(self) -> Method | None:
        """The method object; ``None`` for the dense row."""
        return None if self.method == DENSE else parse(self.method)

    def parsed_counted(self) -> Method | None:
        """The method object to count MACs of; ``None`` for the dense row."""
        return self.parsed() if self.counted is None else parse(self.counted)


@dataclass(frozen=True)
class Recipe:
    """A table.

    Attributes:
        name: of the file, without suffix.
        title: for people.
        architecture: name in ``zoo.ARCHITECTURES`` or, with its weights, in ``zoo.SHIPPED``.
        data: name in ``data.DATASETS`` or in ``data.object_data``.
        split: of the data.
        images: how many it has.
        weights: where they are published; empty for a model that ships.
        rows: the dense model first.
        norm_eps: Segmenter: epsilon of the encoder's LayerNorms that made the table; an argument of ``zoo.load``.
        pos_embed: Segmenter: how positions were resized, likewise.
        options: of the backbone's adapter, see ``accelerate``.
        measured_at: (frames, height, width) of the input that GFLOPs and FPS are of; ``None``: one crop of the model.
    """

    name: str
    title: str
    architecture: str
    data: str
    split: str
    images: int
    weights: str
    rows: tuple[Row, ...]
    norm_eps: float | None = None
    pos_embed: Interpolation | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    measured_at: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        for name, accepted in (("architecture", [*SHIPPED, *ARCHITECTURES]), ("data", TASK_DATA)):
            if getattr(self, name) not in accepted:
                raise ValueError(f"{name}: expected one of {', '.join(accepted)}, got {getattr(self, name)!r}")
        if self.pos_embed not in (None, *get_args(Interpolation)):
            raise ValueError(f"pos_embed: expected one of {get_args(Interpolation)}, got {self.pos_embed!r}")
        if self.norm_eps is not None and (not _is_number(self.norm_eps) or not 0 < self.norm_eps < 1):
            raise ValueError(f"norm_eps: expected a small positive number, got {self.norm_eps!r}")
        if not _is_count(self.images):
            raise ValueError(f"images: expected a positive integer, got {self.images!r}")
        for name in ("title", "split", "weights"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name}: expected text, got {getattr(self, name)!r}")
        if not isinstance(self.options, Mapping) or not all(isinstance(value, bool) for value in self.options.values()):
            raise ValueError(f"options: expected names with true or false, got {self.options!r}")
        sides = self.measured_at
        if sides is not None and not (isinstance(sides, tuple) and len(sides) == 3 and all(map(_is_count, sides))):
            raise ValueError(f"measured_at: expected frames, height and width, got {sides!r}")
        if not self.rows or self.rows[0].method != DENSE:
            raise ValueError(f"rows: expected the row {DENSE!r} first")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def names() -> list[str]:
    """Recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def measured_at(architecture: str) -> tuple[int, int, int] | None:
    """(frames, height, width) at which a network was measured for its published table; ``None`` if no table says."""
    for name in names():
        recipe = load_recipe(name)
        if recipe.architecture == architecture and recipe.measured_at is not None:
            return recipe.measured_at
    return None


def load_recipe(source: str | Path) -> Recipe:
    """A recipe by its name or the path of its YAML file.

    Raises:
        FileNotFoundError: neither a name nor a file.
        ValueError: not a recipe; the message names the file, the row, and the key that is missing, unknown or wrong.
    """
    path = FOLDER / f"{source}.yaml" if source in names() else Path(source)
    if not path.is_file():
        close = get_close_matches(str(source), names(), n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise FileNotFoundError(f"{source}: neither a file nor a recipe; {hint}known recipes: {', '.join(names())}")
    if path.stat().st_size > LIMIT:
        raise ValueError(f"{path}: expected a recipe of at most {LIMIT} bytes")
    try:
        content = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected plain YAML: {' '.join(str(error).split())}") from None
    return _recipe(path, content)


def _recipe(path: Path, content: Any) -> Recipe:
    rows = content.get("rows") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise ValueError(f"{path}: expected keys and values, with a list of rows")
    built = tuple(_row(f"{path}: row {number}", row) for number, row in enumerate(rows, 1))
    given = {**content, "name": path.stem, "rows": built}
    if isinstance(given.get("measured_at"), list):
        given["measured_at"] = tuple(given["measured_at"])
    return _fill(Recipe, given, str(path))


def _row(where: str, content: Any) -> Row:
    if isinstance(content, dict) and "published" in content:
        content = {**content, "published": _fill(Published, content["published"], f"{where}: published")}
    return _fill(Row, content, where)


def _fill(kind: type[T], values: Any, where: str) -> T:
    """An instance from keys and values; ValueError names the keys that are missing or not known."""
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected keys and values, got {values!r}")
    known = {entry.name: entry for entry in fields(kind)}  # type: ignore[arg-type]
    unknown = [str(name) for name in values if name not in known]
    needed = [name for name, entry in known.items() if entry.default is entry.default_factory is MISSING]
    missing = [name for name in needed if name not in values]
    if unknown or missing:
        raise ValueError(
            f"{where}: unknown keys: {', '.join(unknown) or '-'}; missing keys: {', '.join(missing) or '-'}"
        )
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
