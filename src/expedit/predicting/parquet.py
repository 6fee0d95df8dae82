"""Results as tables: one row an image, in shards that appear whole. Needs pyarrow (extra ``parquet``)."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from .. import __version__
from ..data.writing import MARK, whole
from ..models.card import Card
from ..prediction import Prediction
from .journal import Settings, check_settings
from .pictures import instances, panoptic_segments, semantic_classes

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]
FOLDER = "parquet"
"""Where the shards are, beside other results."""


def schema(card: Card | None = None, settings: Settings | None = None) -> pa.Schema:
    """Columns, and in the metadata the class table and the settings of a run.

    ``labels`` is a PNG of class indices (semantic) or segment ids (panoptic), ``values`` a ``.npy`` file of depth or
    features, ``counts`` in a segment are COCO run lengths (instances). ``error`` says why there is nothing else.
    """
    pa = needed()
    segment = pa.struct([("id", pa.int32()), ("category", pa.int32()), ("name", pa.string()), ("score", pa.float32()),
                         ("pixels", pa.int64()), ("counts", pa.string())])  # fmt: skip
    columns = [("path", pa.string()), ("name", pa.string()), ("height", pa.int32()), ("width", pa.int32()),
               ("task", pa.string()), ("model", pa.string()), ("method", pa.string()), ("labels", pa.binary()),
               ("segments", pa.list_(segment)), ("values", pa.binary())]  # fmt: skip
    if card is None:
        return pa.schema(columns)
    facts = {"origin": MARK, "expedit": __version__, "settings": json.dumps(dict(settings or {}), sort_keys=True),
             "classes": json.dumps([{"name": name, "color": list(color)} for name, color in
                                    zip(card.classes, card.palette, strict=True)])}  # fmt: skip
    return pa.schema(columns, metadata=facts)


def needed() -> Any:
    """The library; ImportError that says how to get it."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(f"Parquet needs pyarrow: pip install 'expedit[parquet]' ({error})") from None
    return pyarrow


def row(path: str, name: str, prediction: Prediction, size: tuple[int, int], settings: Settings) -> Row:
    """An image of (height, width) ``size`` as values of the columns."""
    values = prediction.depth if prediction.task == "depth" else prediction.features
    return {
        "path": printable(path), "name": printable(name), "height": size[0], "width": size[1],
        "task": prediction.task, "model": settings["model"], "method": settings["method"],
        "labels": None if prediction.labels is None else _png(prediction),
        "segments": [_segment(found) for found in SEGMENTS[prediction.task](prediction)],
        "values": None if values is None else _npy(values),
    }  # fmt: skip


SEGMENTS: dict[str, Callable[[Prediction], list[dict[str, Any]]]] = {
    "semantic": semantic_classes,
    "panoptic": panoptic_segments,
    "instance": instances,
    "depth": lambda prediction: [],
    "features": lambda prediction: [],
}
"""By task: what there is in an image, with its area."""


def _segment(found: Mapping[str, Any]) -> dict[str, Any]:
    mask = found.get("segmentation")
    return {
        "id": found.get("id"),
        "category": found.get("category", found.get("id")),
        "name": found["name"],
        "score": found.get("score"),
        "pixels": found.get("pixels", found.get("area")),
        "counts": None if mask is None else mask["counts"],
    }


def _png(prediction: Prediction) -> bytes:
    """Grey, 8 bits where that is enough for all classes or segments."""
    assert prediction.labels is not None
    most = len(prediction.classes) - 1 if prediction.task == "semantic" else prediction.labels.max(initial=0)
    content = io.BytesIO()
    Image.fromarray(prediction.labels.astype("uint8" if most < 256 else "uint16")).save(content, format="PNG")
    return content.getvalue()


def _npy(values: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, values, allow_pickle=False)
    return content.getvalue()


def printable(path: str) -> str:
    """A path without signs that UTF-8 does not have: those of names in other encodings are escaped."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def write_shard(path: Path, table: pa.Table) -> None:
    """A whole file; OSError with its name."""
    pa = needed()
    with whole(path) as partial:
        pa.parquet.write_table(table, partial, compression="zstd")


def written(folder: Path, settings: Settings) -> set[str]:
    """Paths of the images that are in the shards of a folder.

    Raises:
        ValueError: a shard is damaged, not ours, or of a run with other settings.
    """
    pa, found = needed(), set[str]()
    for path in shards(folder):
        before = facts_of(path)
        if before is None:
            raise ValueError(f"{path}: expedit did not write it; give another --output")
        check_settings(path, before, settings)
        found.update(pa.parquet.read_table(path, columns=["path"])["path"].to_pylist())
    return found


def shards(folder: Path) -> list[Path]:
    """The shards of a folder by name."""
    return sorted(folder.glob("*.parquet"))


def facts_of(path: Path) -> Settings | None:
    """The settings that a shard was made with; ``None`` if it is not ours."""
    pa = needed()
    try:
        metadata = pa.parquet.read_schema(path).metadata or {}
    except (pa.ArrowInvalid, OSError):
        return None
    return json.loads(metadata[b"settings"]) if metadata.get(b"origin") == MARK.encode() else None


def check_shards(folder: Path, overwrite: bool) -> Sequence[Path]:
    """The shards that a new run replaces; ValueError if one of them is somebody else's."""
    there = shards(folder)
    for path in there:
        if not overwrite and facts_of(path) is None:
            raise ValueError(
                f"{path}: exists already, and expedit did not write it; give another place, or --overwrite to replace "
                "it"
            )
    return there
