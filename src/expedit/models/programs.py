"""A written program that stands for a model: pixels in, tensors out, by ONNX Runtime or OpenVINO on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .card import Card, Output
from .families import Family
from .pretrained import Pretrained

FORMAT = "expedit-1"
"""Of the metadata."""

METADATA = ("format", "model", "method", "card", "network")
"""Names of the texts beside a program; the last is of networks of transformers alone."""

OPENVINO_KEY = "expedit"
"""Where OpenVINO's file keeps it."""

OUTPUTS: Mapping[Output, tuple[str, ...]] = {"pixels": ("logits",), "queries": ("class_logits", "mask_logits")}
"""Names of what a program returns, by what the card says of our own networks."""


@dataclass(frozen=True)
class Runner:
    """An open program.

    Attributes:
        run: ``(b, 3, H, W)`` fp32 to its outputs.
        shape: of its input; ``None`` for a batch of any size.
        outputs: their names.
        metadata: texts beside it.
    """

    run: Callable[[np.ndarray], Sequence[np.ndarray]]
    shape: tuple[int | None, ...]
    outputs: tuple[str, ...]
    metadata: Mapping[str, str]

    def __deepcopy__(self, memo: dict[int, Any]) -> Runner:
        return self


def package(name: str) -> Any:
    """A library of the extra ``export``; ImportError says how to get it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"exported files need {name}: pip install 'expedit[export]' ({error})") from None


def onnx_runner(path: Path) -> Runner:
    """ONNX Runtime on the CPU with torch's number of threads; ValueError for a file that it cannot read."""
    library = package("onnxruntime")
    options = library.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = library.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it has a class of its own for every failure
        raise ValueError(f"{path}: ONNX Runtime cannot read it: {str(error).splitlines()[0]}") from None
    [pixels] = session.get_inputs()
    shape = tuple(side if isinstance(side, int) else None for side in pixels.shape)
    metadata = dict(session.get_modelmeta().custom_metadata_map)
    names = tuple(output.name for output in session.get_outputs())
    return Runner(lambda image: session.run(None, {pixels.name: image}), shape, names, metadata)


def openvino_runner(path: Path) -> Runner:
    """OpenVINO on the CPU, in fp32, with torch's number of threads; ValueError for a file that it cannot read."""
    core = package("openvino").Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    try:
        model = core.read_model(str(path))
        compiled = core.compile_model(model, "CPU", settings)
        places = {name: [OPENVINO_KEY, name] for name in METADATA}
        metadata = {name: str(model.get_rt_info(at).value) for name, at in places.items() if model.has_rt_info(at)}
    except RuntimeError as error:
        raise ValueError(f"{path}: OpenVINO cannot read it: {str(error).splitlines()[0]}") from None
    shape = tuple(None if side.is_dynamic else side.get_length() for side in compiled.inputs[0].partial_shape)
    names = tuple(output.any_name for output in compiled.outputs)
    return Runner(lambda image: list(compiled(image).values()), shape, names, metadata)


class Running(nn.Module):
    """A program as a network: fp32 pixels of its one size in, named tensors out.

    Args:
        runner: of the file.
    """

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        if len(runner.shape) != 4 or runner.shape[1] != 3 or None in runner.shape[2:]:
            raise ValueError(f"expected an input of (batch, 3, height, width), got {runner.shape}")
        self.runner = runner
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)  # says where pixels go and in what dtype

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.runner.shape[2:]
        assert height is not None, "checked when it was made"
        assert width is not None, "likewise"
        return height, width

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Outputs of any number of images ``(b, 3, H, W)``; ValueError for another size or dtype."""
        b, _, *size = pixels.shape
        if tuple(size) != self.size:
            raise wrong_size(self.size, size)
        if pixels.dtype != torch.float32:
            raise ValueError("an exported file runs in the dtype that it was written in; leave dtype")
        chunk = self.runner.shape[0] or b
        padded = F.pad(pixels.cpu(), (0, 0, 0, 0, 0, 0, 0, -b % chunk)).numpy()
        runs = [self.runner.run(padded[first : first + chunk]) for first in range(0, b, chunk)]
        found = zip(self.runner.outputs, zip(*runs, strict=True), strict=True)
        return {name: torch.from_numpy(np.concatenate(parts))[:b].to(pixels.device) for name, parts in found}


def wrong_size(exported: Sequence[int], image: Sequence[int]) -> ValueError:
    """What to do with an image of (height, width) ``image``, as the model takes it."""
    (height, width), (h, w) = exported, image
    return ValueError(
        f"this file was exported for {height} x {width} pixels, and the image has {h} x {w} as the model takes it: "
        f"export one with --size {h} {w}"
    )


class Exported(nn.Module):
    """A program with the card of the model it was made from: what ``expedit.predict`` needs of a model.

    Args:
        runner: of the file.
        card: protocol.
    """

    def __init__(self, runner: Runner, card: Card) -> None:
        super().__init__()
        if card.task == "video" or runner.outputs != OUTPUTS.get(card.output):
            raise ValueError(
                f"expected a program of images that returns one of {list(OUTPUTS.values())}, got one of {card.task} "
                f"that returns {runner.outputs}"
            )
        self.network, self.card = Running(runner), card

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, ...]:
        """What the model returned for ``(b, 3, h, w)`` fp32 pixels.

        Logits of pixels: smaller images are padded with zeros at the right and the bottom, and results cut to their
        part. All others need images of the size of the program, or queries would see the padding, too.
        """
        h, w = pixels.shape[2:]
        height, width = self.network.size
        if h > height or w > width:
            raise wrong_size((height, width), (h, w))
        if self.card.output == "pixels":
            pixels = F.pad(pixels, (0, width - w, 0, height - h))
        found = tuple(self.network(pixels).values())
        return found if self.card.output == "queries" else found[0][:, :, :h, :w]


class ExportedPretrained(Pretrained):
    """A program of a network of transformers: the library still prepares its images and reads out what it returns.

    Args:
        runner: of the file.
        processor, family, card: as of the network.
        patch: (height, width) of a token in pixels, for tokens that come as a list.
    """

    def __init__(self, runner: Runner, processor: Any, family: Family, card: Card, patch: tuple[int, int]) -> None:
        super().__init__(Running(runner), processor, family, card)
        self.fields = {field: [name for name in runner.outputs if is_part(name, field)] for field in family.fields}
        if missing := [field for field, names in self.fields.items() if not names]:
            raise ValueError(f"expected a program that returns {', '.join(missing)}, got {', '.join(runner.outputs)}")
        self.pixels_of_token = patch

    @property
    def patch(self) -> tuple[int, int]:
        """(height, width) of a token in pixels."""
        return self.pixels_of_token

    def forward(self, pixels: Tensor, **inputs: Any) -> Any:
        """What is read of the network's result for normalised pixels ``(b, 3, H, W)``, and ``inputs`` as they are."""
        found = self.network(pixels)
        fields = {field: tuple(found[name] for name in names) for field, names in self.fields.items()}
        return {**inputs, **{name: out[0] if name in found else out for name, out in fields.items()}}


def parts_of(field: str, value: Any) -> dict[str, Tensor]:
    """A field of a network's result as tensors with names: several of them are numbered."""
    return {field: value} if isinstance(value, Tensor) else {f"{field}_{i}": one for i, one in enumerate(value)}


def is_part(name: str, field: str) -> bool:
    """Whether ``parts_of`` gives some value of ``field`` this name."""
    return name == field or (name.startswith(f"{field}_") and name[len(field) + 1 :].isdecimal())
