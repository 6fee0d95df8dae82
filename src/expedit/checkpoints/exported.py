"""Files that ``expedit.export`` wrote for other runtimes, known by their first bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ..models.programs import Exported, Runner, onnx_runner, openvino_runner
from .contents import HEAD
from .reading import Loaded, Options
from .safetensors_format import metadata_of

RUNTIMES: Mapping[str, Callable[[Path], Runner]] = {
    "ONNX program": onnx_runner,
    "OpenVINO program": openvino_runner,
}
"""How each kind of file is run."""


def runtime_of(path: Path) -> str | None:
    """What kind of program a file is, if it is one."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head.startswith(b"pytorch", 4):
        return "ONNX program"
    return "OpenVINO program" if head.startswith(b"<?xml") and b"<net " in head else None


def read(path: Path, kind: str, options: Options) -> Loaded:
    """The program as a model; ValueError where it has no card."""
    options.only()
    runner = RUNTIMES[kind](path)
    card = metadata_of(runner.metadata).card
    if card is None:
        raise ValueError(f"{path}: expected an {kind} that expedit.export wrote, but its metadata has no card")
    return Loaded(Exported(runner, card), f"{kind} of expedit")
