"""One model against its accelerated selves: MACs in both conventions, interleaved time and its parts, memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from ..core import Method
from ..surgery import accelerate, optimized, share
from .alternatives import EXPORTED, agreement, alternatives
from .breakdown import PARTS, parts
from .macs import cost, measured_part
from .speed import Timing, interleave, now, peak_tensors

PART_ROUNDS = 3
"""Runs in which the time of each part is taken."""

MOST_COMPILED = 64
"""Networks of one comparison that torch may compile."""


@dataclass(frozen=True)
class Counted:
    """MACs of one model; fields as in the JSON of ``expedit benchmark``.

    Attributes:
        spec: "dense" or the method's spec string.
        published_convention_gmacs: per image or clip, as the published tables counted, ``None`` where they have no
            such row.
        true_gmacs: per image or clip, every convolution and matrix product.
        tokens: mean sequence length over all branches of the backbone.
        clusters: mean query clusters per block (ACT, measured), else ``None``.
    """

    spec: str
    published_convention_gmacs: float | None
    true_gmacs: float
    tokens: float
    clusters: float | None


@dataclass(frozen=True)
class Timed:
    """Time of one model at one batch size.

    Attributes:
        spec: "dense" or the method's spec string.
        batch: images per run.
        ms: median milliseconds per image.
        ms_low, ms_high: quartiles of it.
        speedup: dense time over this time, the median of the ratios within each round.
        speedup_low, speedup_high: quartiles of these ratios.
        mac_ratio: dense MACs over these MACs, true convention.
        efficiency: ``speedup / mac_ratio``: 1 means that every saved multiply-add was saved time.
        peak_mb: megabytes of tensors that one run holds at its peak beyond weights and inputs; ``None`` for a file.
        parts_ms: median milliseconds per image of each part of an eager run (``breakdown.PARTS``); else none.
        agreement: share of pixels, of what is timed, with the class that the dense model gives them; else ``None``.
    """

    spec: str
    batch: int
    ms: float
    ms_low: float
    ms_high: float
    speedup: float
    speedup_low: float
    speedup_high: float
    mac_ratio: float
    efficiency: float
    peak_mb: float | None
    parts_ms: dict[str, float]
    agreement: float | None = None


def count(
    model: nn.Module,
    methods: Sequence[Method],
    image: tuple[int, int],
    pixels: Tensor | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[], object] = lambda: None,
    frames: int = 1,
) -> list[Counted]:
    """MACs of the dense model, then of every method, at (height, width) ``image``, for clips of ``frames`` of these.

    ``pixels`` ``(1, 3, height, width)`` is what a method whose cost depends on the data is counted on; ``options`` are
    those of ``accelerate``; ``progress`` is called after every row.
    """
    rows = []
    for method in (None, *methods):
        c = cost(model, method, image, pixels, options, frames)
        name = "dense" if method is None else repr(method)
        published = None if c.published_macs is None else c.published_macs / 1e9
        rows.append(Counted(name, published, c.true_macs / 1e9, c.tokens, c.clusters))
        progress()
    return rows


def measure(
    model: nn.Module,
    methods: Sequence[Method],
    counted: Sequence[Counted],
    pixels: Tensor,
    rounds: int,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[], object] = lambda: None,
    compile: bool = False,
    against: Sequence[str] = (),
) -> list[Timed]:
    """Time the measured part of the dense model and of every method on the same images, interleaved in this process.

    Args:
        model: the dense model, with weights; it is moved to the device of ``pixels``.
        counted: what ``count`` said of them, for the efficiency.
        pixels: ``(batch, 3, H, W)`` normalised; its device and dtype are those of the runs.
        rounds: timed rounds, after those that do not count.
        options: of ``accelerate``.
        progress: called ``rounds_of`` times per model, and once per round for every alternative.
        compile: through ``torch.compile``, the dense model, too; RuntimeError where it gives up. Parts are those of
            eager runs.
        against: what one could take instead, as ``parse_against`` returns it; more contestants of the same run.
    """
    device = str(pixels.device)
    dense = share(measured_part(model).to(pixels.device), pixels.dtype)
    models = {"dense": optimized(dense, compile=compile)}
    models |= {repr(method): accelerate(dense, method, compile=compile, **(options or {})) for method in methods}
    runs: dict[str, Callable[[], Any]] = {name: partial(network, pixels) for name, network in models.items()}
    ratio_of = dict(zip((None, *methods), (counted[0].true_gmacs / c.true_gmacs for c in counted), strict=True))
    with TemporaryDirectory() as folder:
        others = alternatives(against, dense, ratio_of, pixels, options or {}, Path(folder)) if against else []
        runs |= {other.spec: other.run for other in others}
        compiled = compile or "compile" in against
        with torch.inference_mode(), room_to_compile() if compiled else nullcontext():
            timings = interleave(runs, rounds, warmup_of(device, compiled), device, progress)
            peaks = {name: peak_tensors(run, device) for name, run in runs.items()}
            truth = runs["dense"]()
            agreements = {name: agreement(run(), truth) for name, run in runs.items()}
    spent = _part_seconds(models, pixels, progress)
    ratios = [*zip((c.spec for c in counted), ratio_of.values(), strict=True)]
    rows = []
    for spec, ratio in (*ratios, *((other.spec, other.mac_ratio) for other in others)):
        peak = None if spec.rpartition(", ")[2] in EXPORTED else peaks[spec] / 2**20
        shares = {part: seconds * 1e3 / len(pixels) for part, seconds in spent.get(spec, {}).items()}
        beside = {"peak_mb": peak, "parts_ms": shares, "agreement": agreements[spec]}
        rows.append(_row(spec, len(pixels), ratio, timings[spec], timings["dense"], **beside))
    return rows


def _row(spec: str, batch: int, ratio: float, timing: Timing, dense: Timing, **beside: Any) -> Timed:
    """The figures of one contestant; ``beside`` are those that do not follow from its time."""
    per_image, speedups = 1e3 / batch, timing.ratios_to(dense)
    return Timed(
        spec=spec,
        batch=batch,
        ms=timing.median * per_image,
        ms_low=timing.spread[0] * per_image,
        ms_high=timing.spread[1] * per_image,
        speedup=speedups.median,
        speedup_low=speedups.spread[0],
        speedup_high=speedups.spread[1],
        mac_ratio=ratio,
        efficiency=speedups.median / ratio,
        **beside,
    )


def _part_seconds(
    models: Mapping[str, nn.Module], pixels: Tensor, progress: Callable[[], object]
) -> dict[str, dict[str, float]]:
    """Seconds of each part of each model: medians of ``PART_ROUNDS`` eager runs in turn."""
    device = str(pixels.device)
    spent: dict[str, list[dict[str, float]]] = {name: [] for name in models}
    for _ in range(PART_ROUNDS):
        for name, network in models.items():
            spent[name].append(parts(network, pixels, lambda: now(device)))
            progress()
    return {name: {part: statistics.median(s[part] for s in runs) for part in PARTS} for name, runs in spent.items()}


def warmup_of(device: str, compile: bool) -> int:
    """Rounds that do not count: compilers trace in the first one, GPUs settle their clock rate."""
    return 1 if device == "cpu" and not compile else 3


def rounds_of(rounds: int, device: str, compile: bool) -> int:
    """How often ``measure`` shows progress for every model: warming up, timed rounds, and those for the parts."""
    return warmup_of(device, compile) + rounds + PART_ROUNDS


@contextmanager
def room_to_compile() -> Iterator[None]:
    """Nothing compiled before is kept, and torch may not fall back to eager runs after its eighth network."""
    torch.compiler.reset()
    with torch._dynamo.config.patch(recompile_limit=MOST_COMPILED, fail_on_recompile_limit_hit=True):
        yield


def as_json(
    model: str,
    image: tuple[int, int],
    counted: Sequence[Counted],
    timed: Sequence[Timed],
    facts: dict[str, str],
    frames: int = 1,
) -> dict[str, object]:
    """The result as one JSON object: ``rows`` (dense first) with the MACs, ``timings``, and the machine."""
    rows = [{key: value for key, value in asdict(c).items() if value is not None} for c in counted]
    return {
        "model": model,
        "size": list(image),
        "frames": frames,
        "rows": rows,
        "timings": [asdict(t) for t in timed],
        **facts,
    }
