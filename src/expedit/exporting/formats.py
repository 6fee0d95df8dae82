"""How a captured program becomes a file, one function per format; each returns how that file is run."""

from __future__ import annotations

import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data.writing import MARK
from ..models.programs import OPENVINO_KEY, Runner, onnx_runner, openvino_runner, package

OPSET = 18
"""Of ONNX: the first whose ``Resize`` knows antialiasing."""

SINGLE = 1_900_000_000
"""Bytes of weights that fit into one ONNX file; larger ones lie beside it, in ``NAME.onnx.data``."""

Run = Callable[[Tensor], tuple[Tensor, ...]]

ENDINGS: Mapping[str, str] = {"onnx": ".onnx", "torch": ".pt2", "openvino": ".xml", "aoti": ".pt2"}
"""Of the file of each format; an ending alone means the first that has it."""


@dataclass(frozen=True)
class Capture:
    """What is to be captured.

    Attributes:
        program: from pixels to a tuple of tensors.
        pixels: ``(b, 3, H, W)`` to capture it with.
        dynamic: any number of images.
        outputs: names.
    """

    program: nn.Module
    pixels: Tensor
    dynamic: bool
    outputs: tuple[str, ...]

    @property
    def shapes(self) -> Any:
        """``dynamic_shapes`` of the exporters."""
        return ({0: torch.export.Dim("batch", min=1)},) if self.dynamic else None


def to_torch(capture: Capture, path: Path, metadata: Mapping[str, str]) -> Run:
    """A program of ``torch.export``, the metadata in its extra files."""
    torch.export.save(_traced(capture), path, extra_files=dict(metadata))
    _mark(path)
    run: Run = torch.export.load(path).module()
    return run


def to_aoti(capture: Capture, path: Path, metadata: Mapping[str, str]) -> Run:
    """A package of AOTInductor: native code for this kind of machine, the metadata in it."""
    from torch._inductor import aoti_compile_and_package, aoti_load_package

    _check_compiler()
    with _quiet():
        settings = {"aot_inductor.metadata": dict(metadata)}
        functional = _traced(capture).run_decompositions({})  # it refuses writes into tensors
        aoti_compile_and_package(functional, package_path=str(path), inductor_configs=settings)
    _mark(path)
    run: Run = aoti_load_package(str(path))
    return run


def _traced(capture: Capture) -> torch.export.ExportedProgram:
    with _quiet():
        return torch.export.export(capture.program, (capture.pixels,), dynamic_shapes=capture.shapes, strict=False)


def _mark(path: Path) -> None:
    """Say in an archive that it is ours."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = MARK.encode()


def _check_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise ValueError(
            "the format aoti needs a C++ compiler, and there is none: install g++ or clang++, or name one in the "
            "environment variable CXX"
        ) from None


def to_onnx(capture: Capture, path: Path, metadata: Mapping[str, str]) -> Run:
    """ONNX of standard operators."""
    package("onnxscript")
    package("onnxruntime")
    with _quiet():
        done: Any = torch.onnx.export(
            capture.program,
            (capture.pixels,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["pixels"],
            output_names=capture.outputs,
            dynamic_shapes=capture.shapes,
            verbose=False,
        )
        done.model.doc_string = MARK
        done.model.metadata_props.update(metadata)
        weights = sum(tensor.nbytes for tensor in (*capture.program.parameters(), *capture.program.buffers()))
        done.save(path, external_data=weights > SINGLE)
    runner = onnx_runner(path)
    if capture.dynamic and runner.shape[0] is not None:
        raise RuntimeError("the network's forward fixes the number of images")
    return _over_numpy(runner)


def to_openvino(capture: Capture, path: Path, metadata: Mapping[str, str]) -> Run:
    """OpenVINO's pair of files, ``NAME.xml`` and ``NAME.bin``, by way of ONNX, weights in fp32."""
    openvino = package("openvino")
    between = path.with_suffix(".onnx")
    to_onnx(capture, between, metadata)
    model = openvino.convert_model(between)
    for name, text in metadata.items():
        model.set_rt_info(text, [OPENVINO_KEY, name])
    openvino.save_model(model, path, compress_to_fp16=False)
    with path.open("a") as file:
        file.write(f"<!-- {MARK} -->\n")
    for written in path.parent.glob(between.name + "*"):
        written.unlink()
    return _over_numpy(openvino_runner(path))


WRITERS: Mapping[str, Callable[[Capture, Path, Mapping[str, str]], Run]] = {
    "onnx": to_onnx,
    "torch": to_torch,
    "openvino": to_openvino,
    "aoti": to_aoti,
}
"""By format."""


def _over_numpy(runner: Runner) -> Run:
    return lambda pixels: tuple(torch.from_numpy(out) for out in runner.run(pixels.cpu().numpy()))


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters report each step, for which they take longer, and each operator of libraries that are not there."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
