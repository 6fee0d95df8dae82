"""Files that ``expedit.export`` wrote for other runtimes, known by their first bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from ..models.card import Card
from ..models.families import FAMILIES
from ..models.programs import Exported, ExportedPretrained, Runner, onnx_runner, openvino_runner
from .contents import HEAD
from .hub import processor_of, sentence, transformers
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
    model = _pretrained(path, runner, card) if "network" in runner.metadata else Exported(runner, card)
    return Loaded(model.eval(), f"{kind} of expedit")


def _pretrained(path: Path, runner: Runner, card: Card) -> ExportedPretrained:
    """A program of a network of transformers, with the processor that its metadata describe."""
    library = transformers()
    with sentence(path):
        network = json.loads(runner.metadata["network"])
        if not isinstance(network, dict) or network.get("family") not in FAMILIES:
            raise ValueError("its metadata does not fit this version of expedit: expected a network that it knows")
        family = FAMILIES[network["family"]]
        high, wide = (max(int(side), 1) for side in network["patch"] or (1, 1))
        processor = processor_of(library, network["processor"], family)
        return ExportedPretrained(runner, processor, family, card, (high, wide))
