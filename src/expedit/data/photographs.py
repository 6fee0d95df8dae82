"""Photographs without any ground truth: for comparing a model with its accelerated self."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .class_list import Color
from .decode import read_image
from .listing import list_pictures
from .samples import Sample


@dataclass(frozen=True)
class Photographs:
    """Pictures by path; each is decoded when it is asked for."""

    paths: tuple[Path, ...]
    classes: tuple[str, ...] = ()
    palette: tuple[Color, ...] = ()
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        """Decode picture ``index``; ValueError, with its name, if it is damaged."""
        path = self.paths[index]
        return Sample(path.stem, read_image(path), None)


def open_photographs(place: Path) -> Photographs:
    """One picture, or those directly in a folder; FileNotFoundError if there are none."""
    return Photographs(tuple(list_pictures(place).pictures) if place.is_dir() else (place,))
