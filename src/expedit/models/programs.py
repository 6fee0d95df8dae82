"""A written program that stands for a model: pixels in, logits out, by ONNX Runtime or OpenVINO on the CPU."""

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

from .card import Card

FORMAT = "expedit-1"
"""Of the metadata."""

METADATA = ("format", "model", "method", "card")
"""Names of the texts beside a program."""

OPENVINO_KEY = "expedit"
"""Where OpenVINO's file keeps it."""

OUTPUTS = ("logits",)
"""Names of what a program returns."""


@dataclass(frozen=True)
class Runner:
    """An open program.

    Attributes:
        run: ``(b, 3, H, W)`` fp32 to its outputs.
        shape: of its input; ``None`` for a batch of any size.
        metadata: texts beside it.
    """

    run: Callable[[np.ndarray], Sequence[np.ndarray]]
    shape: tuple[int | None, ...]
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
    return Runner(lambda image: session.run(None, {pixels.name: image}), shape, metadata)


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
    return Runner(lambda image: list(compiled(image).values()), shape, metadata)


class Exported(nn.Module):
    """A program with the card of the model it was made from: what ``expedit.predict`` needs of a model.

    Args:
        runner: of the file.
        card: protocol.
    """

    def __init__(self, runner: Runner, card: Card) -> None:
        super().__init__()
        if len(runner.shape) != 4 or runner.shape[1] != 3 or None in runner.shape[2:]:
            raise ValueError(f"expected an input of (batch, 3, height, width), got {runner.shape}")
        if card.output != "pixels":
            raise ValueError(f"expected a program that returns logits of pixels, got one of {card.output}")
        self.runner, self.card = runner, card
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)  # says where pixels go and in what dtype

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits ``(b, classes, h, w)`` of ``(b, 3, h, w)`` fp32 pixels, at most as large as the program takes them.

        Smaller ones are padded with zeros at the right and the bottom, and results cut to their part.
        """
        batch, _, height, width = self.runner.shape
        assert height is not None, "checked when it was made"
        assert width is not None, "likewise"
        b, _, h, w = pixels.shape
        if h > height or w > width:
            raise ValueError(
                f"this file was exported for {height} x {width} pixels, and the image has {h} x {w}: export one with "
                f"--size {h} {w}"
            )
        if pixels.dtype != torch.float32:
            raise ValueError("an exported file runs in the dtype that it was written in; leave dtype")
        chunk = batch or b
        padded = F.pad(pixels.cpu(), (0, width - w, 0, height - h, 0, 0, 0, -b % chunk)).numpy()
        runs = [self.runner.run(padded[first : first + chunk])[0] for first in range(0, b, chunk)]
        return torch.from_numpy(np.concatenate(runs))[:b, :, :h, :w].to(pixels.device)
