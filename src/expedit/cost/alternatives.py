"""What a user could take instead of token reduction, or beside it, as contestants in the same interleaved run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..core import Method
from ..surgery import accelerate, optimized
from .macs import cost

EXPORTED: Mapping[str, str] = {"onnx": ".onnx", "openvino": ".xml"}
"""Alternatives that are files, by the ending of theirs."""

KINDS = ("bf16", "fp16", "compile", *EXPORTED)
"""Alternatives beside ``size=N``."""


@dataclass(frozen=True)
class Alternative:
    """One contestant.

    Attributes:
        spec: what runs, and how, such as "dense, onnx".
        run: one run.
        mac_ratio: dense MACs over its MACs.
    """

    spec: str
    run: Callable[[], Any]
    mac_ratio: float


def parse_against(text: str) -> tuple[str, ...]:
    """``"size=512,bf16"`` as a tuple; ValueError says what there is."""
    found = tuple(part.strip() for part in text.split(","))
    for part in found:
        name, _, side = part.partition("=")
        if part not in KINDS and not (name == "size" and side.isdecimal() and int(side) > 0):
            raise ValueError(f"--against: expected some of size=N, {', '.join(KINDS)}, got {part!r}")
    return found


def alternatives(
    against: Sequence[str],
    dense: nn.Module,
    ratios: Mapping[Method | None, float],
    pixels: Tensor,
    options: Mapping[str, Any],
    folder: Path,
) -> list[Alternative]:
    """The contestants ``against`` asks for: a smaller image for the dense model, everything else for all of them.

    Args:
        against: as ``parse_against`` returns it.
        dense: the dense model, of which ``pixels`` ``(b, 3, H, W)`` are images.
        ratios: dense MACs over those of every method; ``None`` is the dense model.
        options: of ``accelerate``.
        folder: where exported files may lie.
    """
    found = []
    for kind in against:
        if kind.startswith("size="):
            found.append(_smaller(dense, pixels, int(kind.partition("=")[2])))
            continue
        for number, (method, ratio) in enumerate(ratios.items()):
            name = "dense" if method is None else repr(method)
            place = folder / f"{number}{EXPORTED.get(kind, '')}"
            run = _run(kind, dense, method, pixels, options, place)
            found.append(Alternative(f"{name}, {kind}", run, ratio))
    return found


def agreement(theirs: Any, dense: Any) -> float | None:
    """Share of pixels to which both give the same class; ``None`` where a model does not return classes of pixels."""
    if not isinstance(theirs, Tensor) or not isinstance(dense, Tensor) or dense.dim() != 4:
        return None
    if theirs.shape != dense.shape:
        theirs = F.interpolate(theirs.float(), dense.shape[2:], mode="bilinear", align_corners=False)
    return float((theirs.argmax(1) == dense.argmax(1)).float().mean())


def _smaller(dense: nn.Module, pixels: Tensor, short: int) -> Alternative:
    """The dense model on images whose shorter side has ``short`` pixels."""
    h, w = pixels.shape[2:]
    size = (round(h * short / min(h, w)), round(w * short / min(h, w)))
    small = F.interpolate(pixels.float(), size, mode="bilinear", align_corners=False, antialias=True).to(pixels)
    ratio = cost(dense, None, (h, w)).true_macs / cost(dense, None, size).true_macs
    return Alternative(f"dense, size={short}", partial(dense, small), ratio)


def _run(
    kind: str, dense: nn.Module, method: Method | None, pixels: Tensor, options: Mapping[str, Any], place: Path
) -> Callable[[], Any]:
    """One run of the dense model or of a method, in another dtype, compiled, or as an exported file."""
    if kind in EXPORTED:
        from ..checkpoints.zoo import load
        from ..exporting.program import export

        size: tuple[int, int] = (pixels.shape[2], pixels.shape[3])
        export(dense, place, method, size=size, batch=len(pixels), **options)
        return partial(load(place), pixels)
    changed: dict[str, Any] = {"compile": True} if kind == "compile" else {"dtype": kind}
    model = optimized(dense, **changed) if method is None else accelerate(dense, method, **changed, **options)
    return partial(model, pixels.to(next(model.parameters()).dtype))
