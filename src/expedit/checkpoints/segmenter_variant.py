"""``variant.yml``, the configuration beside an official Segmenter checkpoint (spec g.1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..core.checks import pair

LIMIT = 1 << 20
"""Bytes; the real ones have about a thousand."""

Pixel = tuple[float, float, float]
NORMALISATIONS: dict[str, tuple[Pixel, Pixel]] = {
    "vit": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "deit": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
"""Mean and standard deviation of the pixels, by the name in the file."""

SECTIONS = ("net_kwargs", "dataset_kwargs", "inference_kwargs")


@dataclass(frozen=True)
class Variant:
    """What the file says that the tensors do not.

    Attributes:
        heads: attention heads of the encoder.
        image_size: (height, width) in pixels that the positions were made for, ``None`` if the file does not say.
        dataset: name of the data set the weights were trained on, such as "ade20k".
        short_side: of test images in pixels.
        crop, stride: of the sliding window in pixels.
        mean, std: of the pixels, RGB, 0..255.
    """

    heads: int
    image_size: tuple[int, int] | None
    dataset: str
    short_side: int
    crop: int
    stride: int
    mean: Pixel
    std: Pixel


def read_variant(path: Path) -> Variant:
    """Read a ``variant.yml``: plain values, lists and tuples, nothing else is constructed.

    Raises:
        ValueError: not such a file; the message names the value that is missing or wrong.
    """
    net, data, inference = (_Section(path, name, values) for name, values in _sections(path).items())
    normalisation = str(data.values.get("normalization", "vit"))
    if normalisation not in NORMALISATIONS:
        accepted = ", ".join(NORMALISATIONS)
        raise ValueError(f"{path}: expected dataset_kwargs.normalization to be {accepted}, got {normalisation!r}")
    mean, std = NORMALISATIONS[normalisation]
    return Variant(
        heads=net.positive("n_heads"),
        image_size=net.sides("image_size"),
        dataset=str(data.values.get("dataset", "")),
        short_side=inference.positive("im_size"),
        crop=inference.positive("window_size"),
        stride=inference.positive("window_stride"),
        mean=mean,
        std=std,
    )


class _Loader(yaml.SafeLoader):
    """Plain YAML and Python tuples, which the official configuration contains."""


def _tuple(loader: _Loader, node: yaml.SequenceNode) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


def _sections(path: Path) -> dict[str, dict[str, Any]]:
    size = path.stat().st_size
    if size > LIMIT:
        raise ValueError(f"{path}: expected a configuration of about a thousand bytes, got {size}")
    try:
        content = _Loader(path.read_bytes()).get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected plain YAML of values, lists and tuples: {reason}") from None
    if not isinstance(content, dict) or not all(isinstance(content.get(name), dict) for name in SECTIONS):
        raise ValueError(f"{path}: expected the sections {', '.join(SECTIONS)} of an official Segmenter configuration")
    return {name: content[name] for name in SECTIONS}


@dataclass(frozen=True)
class _Section:
    """A part of the configuration that can say where a bad value stands."""

    path: Path
    name: str
    values: dict[str, Any]

    def positive(self, key: str) -> int:
        """A count, which must be there."""
        value = self.values.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{self.path}: expected a positive integer for {self.name}.{key}, got {value!r}")
        return value

    def sides(self, key: str) -> tuple[int, int] | None:
        """(height, width), from two numbers or the one side of a square."""
        value = self.values.get(key)
        try:
            return None if value is None else pair(key, [value, value] if isinstance(value, int) else value)
        except ValueError as error:
            raise ValueError(f"{self.path}: {self.name}.{error}") from None
