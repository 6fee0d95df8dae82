"""Tables, one YAML file each: settings and published figures of every row. The table is the configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from ..checkpoints.zoo import ARCHITECTURES, SHIPPED
from ..core import Method
from ..data import LAYOUTS
from ..data.plain_yaml import read_yaml
from ..models.vit import Interpolation
from ..spec import parse

FOLDER = Path(__file__).parent

DENSE = "dense"
METRICS = ("miou", "pq", "ap")
Settings = Literal["released", "inferred", "not identifiable", "ours"]
PLAIN = {int: "a positive integer", float: "a positive number", str: "text", bool: "true or false"}
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
    settings: Settings = "ours"
    published: Published | None = None
    note: str = ""
    counted: str | None = None

    def __post_init__(self) -> None:
        if (self.settings == "ours") != (self.published is None):
            raise ValueError("settings: 'ours' stands for rows without published figures and only for them")
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
        data: name in ``data.LAYOUTS``.
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
    options: Mapping[str, bool] = field(default_factory=dict)
    measured_at: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        for name, accepted in (("architecture", [*SHIPPED, *ARCHITECTURES]), ("data", [*LAYOUTS])):
            if getattr(self, name) not in accepted:
                raise ValueError(f"{name}: expected one of {', '.join(accepted)}, got {getattr(self, name)!r}")
        if self.norm_eps is not None and self.norm_eps >= 1:
            raise ValueError(f"norm_eps: expected a small positive number, got {self.norm_eps!r}")
        if not self.rows or self.rows[0].method != DENSE:
            raise ValueError(f"rows: expected the row {DENSE!r} first")


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
    return _fill(Recipe, {**read_yaml(path), "name": path.stem}, str(path))


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
    kinds = get_type_hints(kind)
    typed = {name: _typed(kinds[name], value, f"{where}: {name}") for name, value in values.items()}
    try:
        return kind(**typed)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _typed(kind: Any, value: Any, where: str) -> Any:
    """``value`` as the annotation ``kind`` has it: lists become tuples, keys and values dataclasses.

    Raises:
        ValueError: another type, not one of the literals, or a number that is not positive and finite.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if NoneType in inner:
        return None if value is None else _typed(inner[0], value, where)
    if is_dataclass(kind):
        return _fill(cast(type, kind), value, where)
    if origin is tuple and isinstance(value, list) and (... in inner or len(inner) == len(value)):
        return tuple(_typed(inner[0], item, f"{where} {number}") for number, item in enumerate(value, 1))
    if origin is Mapping and isinstance(value, dict):
        return {name: _typed(inner[1], item, f"{where} {name}") for name, item in value.items()}
    plain = type(value) in ((int, float) if kind is float else (kind,))
    if not (value in inner if origin is Literal else plain and (kind in (str, bool) or 0 < value < math.inf)):
        raise ValueError(f"{where}: expected {_words(kind)}, got {value!r}")
    return value


def _words(kind: Any) -> str:
    """What ``kind`` allows."""
    inner = get_args(kind)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(inner)}"
    if get_origin(kind) is tuple:
        return "a list" if ... in inner else f"a list of {len(inner)}"
    return PLAIN.get(kind, "names with values")
