"""``variant.yml``, the configuration beside an official Segmenter checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..core.checks import choice, integer, pair
from ..data.plain_yaml import read_yaml

Pixel = tuple[float, float, float]
NORMALISATIONS: dict[str, tuple[Pixel, Pixel]] = {
    "vit": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "deit": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
"""Mean and standard deviation of the pixels, by the name in the file."""

SECTIONS = ("net_kwargs", "dataset_kwargs", "inference_kwargs")
WINDOW = ("im_size", "window_size", "window_stride")


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
    """Read a ``variant.yml``.

    Raises:
        ValueError: not such a file; the message names the value that is missing or wrong.
    """
    content = read_yaml(path)
    net, data, inference = (content.get(name) for name in SECTIONS)
    if not (isinstance(net, dict) and isinstance(data, dict) and isinstance(inference, dict)):
        raise ValueError(f"{path}: expected the sections {', '.join(SECTIONS)} of an official Segmenter configuration")
    sides = net.get("image_size")
    try:
        heads = integer("net_kwargs.n_heads", net.get("n_heads"), 1)
        if sides is not None:
            sides = pair("net_kwargs.image_size", [sides, sides] if isinstance(sides, int) else sides)
        short_side, crop, stride = (integer(f"inference_kwargs.{name}", inference.get(name), 1) for name in WINDOW)
        pixels = choice("dataset_kwargs.normalization", data.get("normalization", "vit"), tuple(NORMALISATIONS))
        return Variant(heads, sides, str(data.get("dataset", "")), short_side, crop, stride, *NORMALISATIONS[pixels])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
