"""Errors of depth models, and how far their depth is from that of another model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ..data.depth import DepthFiles
from ..data.samples import DepthSample
from ..metrics.depth import Alignment, Crop, DepthProtocol, depth_errors, mean_errors
from ..prediction import Prediction
from .judge import Judge, Metric, Record, Scores

PROTOCOLS: Mapping[str, DepthProtocol] = {
    "nyu-depth": DepthProtocol(most=10.0, crop="nyu-eigen"),
    "kitti-depth": DepthProtocol(most=80.0, crop="kitti-garg"),
}
"""What counts by default, by data set."""


def depth_difference(prediction: Prediction, reference: Prediction) -> float:
    """Mean distance of two depths over the mean of the second one, as a share."""
    one, other = prediction.depth, reference.depth
    assert one is not None
    assert other is not None
    return float(np.abs(one - other).mean() / max(float(np.abs(other).mean()), 1e-12))


@dataclass(frozen=True)
class DepthJudge(Judge):
    """Errors against the measured depth, the means over the pictures, and the distance from another model's depth.

    Attributes:
        align: of every picture; by default "none" for metres, "least-squares" for an inverse depth.
        crop: part of the pictures that counts; by default that of the data set.
        depth_range: least and most metres that count; by default those of the data set.
    """

    align: Alignment | None = None
    crop: Crop | None = None
    depth_range: tuple[float, float] | None = None

    task: ClassVar[str] = "depth"
    kind: ClassVar[Any] = DepthFiles
    headline: ClassVar[Metric] = Metric(
        "abs_rel", "abs rel", "mean distance from the measured depth, relative to it", share=False, higher=False
    )
    agreement: ClassVar[Metric | None] = Metric(
        "relative_difference", "difference", "mean distance from the dense model's depth, relative to it", higher=False
    )

    @cached_property
    def protocol(self) -> DepthProtocol:
        """What counts, and how predictions are aligned."""
        protocol = PROTOCOLS[self.data.name]
        if self.depth_range is not None:
            protocol = replace(protocol, least=self.depth_range[0], most=self.depth_range[1])
        align = self.align or ("none" if self.card.depth == "metric" else "least-squares")
        return replace(protocol, align=align, crop=self.crop or protocol.crop)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.submission is not None:
            raise ValueError("submission: depth models have no submission files; write the depths with predict")
        if self.protocol.align == "none" and self.card.depth == "inverse":
            raise ValueError("align: an inverse depth has neither scale nor shift; expected median or least-squares")

    def record(self, sample: DepthSample, prediction: Prediction, reference: Prediction | None) -> Record:
        """The errors, if any pixel counts, and the distance from the other model."""
        assert prediction.depth is not None
        found: dict[str, Any] = {}
        try:
            found["errors"] = depth_errors(prediction.depth, sample.depth, self.protocol, self.card.depth)
        except ValueError as error:
            raise ValueError(f"{sample.name}: {error}") from None
        if reference is not None:
            found["difference"] = depth_difference(prediction, reference)
        return found

    def scores(self, records: Sequence[Record]) -> Scores:
        """Means over the pictures, each of which counts the same."""
        errors = [record["errors"] for record in records if record["errors"] is not None]
        distances = [record["difference"] for record in records if "difference" in record]
        agreement = {"relative_difference": float(np.mean(distances))} if distances else {}
        details = {"protocol": asdict(self.protocol), "images_without_depth": len(records) - len(errors)}
        return Scores(mean_errors(errors), {}, agreement, details)

    def truth(self, sample: DepthSample) -> Prediction:
        """The measured depth."""
        return Prediction("depth", (), (), depth=sample.depth)
