"""Data sets by name, and `open_dataset`, which takes what a user types."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .ade20k import open_ade20k
from .cityscapes import open_cityscapes
from .folder import open_folder
from .inspect import guess
from .pascal_context import open_pascal_context, open_pascal_context_59
from .samples import SemanticData
from .toy import Toy


def open_toy(root: Path | None = None, split: str = "val", **settings: Any) -> Toy:
    """Pictures drawn on the fly (`toy.Toy`, which explains the settings); ``root`` is not used: nothing is read."""
    return Toy(split=split, **settings)  # type: ignore[arg-type]  # Toy checks the split itself


DATASETS: dict[str, Callable[..., SemanticData]] = {
    "toy": open_toy,
    "ade20k": open_ade20k,
    "cityscapes": open_cityscapes,
    "pascal-context": open_pascal_context,
    "pascal-context-59": open_pascal_context_59,
    "folder": open_folder,
}
"""Every builder takes ``root`` and ``split`` first, then its own settings."""


def open_dataset(data: str | Path, split: str = "val", **settings: Any) -> SemanticData:
    """A data set from what a user types.

    Args:
        data: "toy", ``NAME:PATH`` with a name in `DATASETS`, or a path, whose layout tells which data set it is.
        split: "train" or "val".
        settings: of the builder, see `open_folder` and `toy.Toy`.

    Raises:
        FileNotFoundError: the path is not there, or files of the split are missing.
        ValueError: an unknown name, a layout that is none of the known ones, or a damaged list or archive.
    """
    name, colon, place = str(data).partition(":")
    if name == "toy" and not place:
        return open_toy(None, split, **settings)
    if name in DATASETS and colon and place:
        return DATASETS[name](Path(place), split, **settings)
    path = Path(data)
    if not path.exists():
        raise FileNotFoundError(f"{data}: expected a path, 'toy', or NAME:PATH with a name in {', '.join(DATASETS)}")
    kind = guess(path)
    if kind is None:
        raise ValueError(
            f"{data}: expected the layout of one of {', '.join(DATASETS)}; `expedit doctor --data {data}` says what is "
            "missing"
        )
    return DATASETS[kind](path, split, **settings)
