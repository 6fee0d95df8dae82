"""A model, dense or accelerated, as one file that another runtime can run; checked before anybody trusts it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..backbones.eomt import unmask
from ..checkpoints.hub import sized
from ..core import Method
from ..cost.macs import noise
from ..data.writing import MARK
from ..models.card import Card, card_of
from ..models.families import FAMILIES
from ..models.mask2former import Mask2Former
from ..models.pretrained import Pretrained
from ..models.programs import FORMAT, OUTPUTS, ExportedPretrained, parts_of
from ..models.segmenter import Segmenter
from ..spec import parse
from ..surgery import accelerate, share
from .formats import ENDINGS, WRITERS, Capture
from .whole_files import whole_files

Batch = int | Literal["dynamic"]

TOLERANCE = 1e-3
"""Largest difference to the eager model, relative to the norm of an output, of a file that is kept."""

LONGEST = 300
"""Letters of an exporter's message that are passed on."""

TINY = 1e-30
"""Norm that an output of zeros counts as."""


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        path: the file.
        method: "dense" or the spec of the method inside.
        shape: ``(batch, 3, height, width)`` of its input, the batch "dynamic" or a number.
        difference: to the eager model on noise, relative to the norm, the largest of all outputs and batches.
    """

    path: Path
    method: str
    shape: tuple[Batch, int, int, int]
    difference: float


class Program(nn.Module):
    """What is written: pixels in, tensors out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """``(b, 3, H, W)`` normalised pixels to the outputs."""
        return tuple(self.named(pixels).values())

    def named(self, pixels: Tensor) -> dict[str, Tensor]:
        """The outputs by name; of a network of transformers what is read of its result."""
        out = self.model(pixels)
        if isinstance(self.model, Pretrained):
            fields = (parts_of(field, out[field]) for field in self.model.family.fields)
            return {name: part for parts in fields for name, part in parts.items()}
        tensors = (out,) if isinstance(out, Tensor) else tuple(out)
        return dict(zip(OUTPUTS[card_of(self.model).output], tensors, strict=True))


def export(
    model: nn.Module,
    path: str | Path,
    method: Method | str | None = None,
    *,
    size: tuple[int, int] | None = None,
    batch: Batch = 1,
    format: str | None = None,
    **options: Any,
) -> Export:
    """Write ``model`` as a program for images of one size, run the file, and compare it with the model.

    The card, with classes and preparation of images, and the spec of the method are in the metadata, so that
    ``expedit.load(path)`` and ``expedit predict`` take an ONNX or OpenVINO file as they take a checkpoint. Of a network
    of transformers the settings of its processor are there, too.

    Args:
        model: of images, from ``expedit.load``, in fp32.
        path: file to write; it appears whole, after the comparison, or not at all.
        method: a method or its spec; ``None`` writes the model as it is.
        size: (height, width) in pixels; by default the crop, or the image size of the card, lying, or what a processor
            of transformers makes of a square. Features are then of images of this size, as with ``load(size=)``.
        batch: images per run, or "dynamic" for any number of them.
        format: "onnx", "torch" (a program of ``torch.export``), "openvino" or "aoti" (a package of AOTInductor, in
            ``.pt2``); by default what the ending says: ``.onnx``, ``.pt2`` (torch), ``.xml``.
        **options: of ``accelerate``.

    Raises:
        ImportError: the runtime of the format is not installed.
        ValueError: the method's shapes depend on the image (ACT), the exporter of the format does not take the
            network, there is no C++ compiler (aoti), or the file does not compute what the model does.

    Example:
        >>> import expedit, pathlib, tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> file = pathlib.Path(folder.name, "mini.pt2")
        >>> expedit.export(expedit.load("segmenter-mini"), file, size=(64, 64)).shape
        (1, 3, 64, 64)
        >>> folder.cleanup()
    """
    path, method = Path(path), None if method is None else parse(method)
    format = _format(path, format)
    if method is not None and not method.static:
        raise ValueError(
            f"{method!r}: its number of tokens depends on the image, which no program of fixed shapes can do"
        )
    card = _checked(model)
    if isinstance(model, Pretrained) and size is not None and card.task == "features":
        model = sized(share(model), size)
    size = size or (model.size if isinstance(model, Pretrained) else default_size(card))
    program = Program(_dense(model) if method is None else accelerate(model, method, **options)).eval()
    like = next(model.parameters()).new_empty(0)
    pixels = noise(size, like, 2 if batch == "dynamic" else batch)
    name = "dense" if method is None else repr(method)
    with whole_files(path) as partial, torch.no_grad():
        expected = program.named(pixels)
        capture = Capture(program, pixels, batch == "dynamic", tuple(expected))
        try:
            run = WRITERS[format](capture, partial, _metadata(model, card, size, name))
        except RuntimeError as error:  # what exporters throw derives from it
            raise ValueError(f"{path}: {_refusal(error, name, format, batch)}") from error
        counts = (1, len(pixels)) if batch == "dynamic" else (batch,)
        difference = max(_difference(run(pixels[:count]), expected.values()) for count in counts)
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{path}: the file does not compute what the model does (relative difference {difference:.2g}, "
                f"expected at most {TOLERANCE:g}); nothing was written: use another format for {name}"
            )
    return Export(path, name, (batch, 3, *size), difference)


def default_size(card: Card) -> tuple[int, int]:
    """(height, width) of one window, or of a lying image as the card resizes it, padded as it says."""
    if card.crop is not None:
        return card.crop, card.crop
    if card.resize is None:
        raise ValueError("size: this model takes images as they are; give the height and width in pixels")
    long, short = card.resize
    return tuple(-(-side // card.multiple) * card.multiple for side in (short, long))  # type: ignore[return-value]


def _format(path: Path, format: str | None) -> str:
    """What is asked for, or what the ending of the file stands for."""
    if format is None:
        format = next((name for name, ending in ENDINGS.items() if path.suffix.lower() == ending), "")
    if format not in WRITERS:
        endings = ", ".join(dict.fromkeys(ENDINGS.values()))
        raise ValueError(f"{path}: expected a file that ends in {endings}, or format={' or '.join(WRITERS)}")
    if path.suffix.lower() != ENDINGS[format]:
        raise ValueError(f"{path}: expected a file that ends in {ENDINGS[format]} for the format {format}")
    return format


def _checked(model: nn.Module) -> Card:
    """The card of a model that can be written."""
    if not isinstance(model, (Segmenter, Mask2Former, Pretrained)) or isinstance(model, ExportedPretrained):
        raise ValueError(
            f"{type(model).__name__}: expected a Segmenter, a Mask2Former or a network of transformers, as "
            "expedit.load reads them from a checkpoint"
        )
    card = card_of(model)
    if card.task == "video":
        raise ValueError("expected a model of images: a clip has any number of frames, which no program here takes")
    if (dtype := next(model.parameters()).dtype) != torch.float32:
        raise ValueError(f"expected a model in fp32, which runtimes lower by themselves, got {dtype}")
    return card


def _dense(model: nn.Module) -> nn.Module:
    """The model itself, without Python that asks a buffer for its values (EoMT)."""
    twin = share(model)
    for module in twin.modules():
        unmask(module)
    return twin


def _metadata(model: nn.Module, card: Card, size: tuple[int, int], method: str) -> dict[str, str]:
    """What goes into the file beside the program; windows are as large as it takes them."""
    if card.crop is not None and card.stride is not None:
        crop = min(size)
        card = replace(card, crop=crop, stride=min(card.stride, crop))
    network = {"network": json.dumps(_network(model))} if isinstance(model, Pretrained) else {}
    return {
        "format": FORMAT,
        "model": type(model).__name__,
        "method": method,
        "card": json.dumps(asdict(card)),
        "origin": MARK,
        **network,
    }


def _network(model: Pretrained) -> dict[str, Any]:
    """What preparation and read-out need of a network of transformers."""
    family = next(name for name, family in FAMILIES.items() if family == model.family)
    listed = model.family.output == "last_hidden_state"  # maps say their lattice themselves
    return {"family": family, "patch": model.patch if listed else None, "processor": model.processor.to_dict()}


def _refusal(error: BaseException, name: str, format: str, batch: Batch) -> str:
    """What an exporter stumbled over, and what to try instead."""
    while error.__cause__ is not None:
        error = error.__cause__
    reason = " ".join((str(error).splitlines() or [type(error).__name__])[0].split())[:LONGEST]
    others = "another format" if batch != "dynamic" else "a fixed number of images (--batch N), or another format"
    return f"{name} cannot be written as {format} ({reason}); nothing was written: try {others}"


def _difference(theirs: Iterable[Tensor], ours: Iterable[Tensor]) -> float:
    """Largest relative difference of an output of the file to the one expected, of as many images as the file saw."""
    pairs = ((found, wanted[: len(found)]) for found, wanted in zip(theirs, ours, strict=True))
    return max(float((found.to(wanted) - wanted).norm() / wanted.norm().clamp_min(TINY)) for found, wanted in pairs)
