"""One model against its accelerated selves: MACs in both conventions, interleaved time, efficiency, memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from ..core import Method
from ..surgery import accelerate
from .macs import cost, measured_part
from .speed import interleave, peak_memory


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
        mac_ratio: dense MACs over these MACs, true convention.
        efficiency: ``speedup / mac_ratio``: 1 means that every saved multiply-add was saved time.
        peak_mb: megabytes one run needs at its peak beyond weights and inputs, ``None`` where unknown.
    """

    spec: str
    batch: int
    ms: float
    ms_low: float
    ms_high: float
    speedup: float
    mac_ratio: float
    efficiency: float
    peak_mb: float | None


def count(
    model: nn.Module,
    methods: Sequence[Method],
    image: tuple[int, int],
    pixels: Tensor | None = None,
    options: Mapping[str, bool] | None = None,
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
    options: Mapping[str, bool] | None = None,
    progress: Callable[[], object] = lambda: None,
) -> list[Timed]:
    """Time the measured part of the dense model and of every method on the same images, interleaved in this process.

    Args:
        model: the dense model, with weights.
        counted: what ``count`` said of them, for the efficiency.
        pixels: ``(batch, 3, H, W)`` normalised; its device and dtype are those of the runs.
        rounds: timed rounds, after one that does not count.
        options: of ``accelerate``.
        progress: called after every run.
    """
    batch, device = len(pixels), str(pixels.device)
    dense = measured_part(model).to(pixels.device, pixels.dtype)
    fast = {repr(method): accelerate(dense, method, **(options or {})) for method in methods}
    models = {"dense": dense, **fast}
    runs = {name: _runner(network, pixels) for name, network in models.items()}
    timings = interleave(runs, rounds, warmup=1, device=device, progress=progress)
    rows = []
    for c in counted:
        timing, ratio = timings[c.spec], counted[0].true_gmacs / c.true_gmacs
        speedup = timing.speedup_over(timings["dense"])
        low, high = timing.spread
        peak = peak_memory(runs[c.spec], device)
        per_image = 1e3 / batch
        rows.append(
            Timed(
                spec=c.spec,
                batch=batch,
                ms=timing.median * per_image,
                ms_low=low * per_image,
                ms_high=high * per_image,
                speedup=speedup,
                mac_ratio=ratio,
                efficiency=speedup / ratio,
                peak_mb=None if peak is None else peak / 2**20,
            )
        )
    return rows


def _runner(model: nn.Module, pixels: Tensor) -> Callable[[], object]:
    def run() -> None:
        with torch.inference_mode():
            model(pixels)

    return run


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
