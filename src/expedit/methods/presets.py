"""Settings that were measured, by name: the best found at two thirds, half and two fifths of the multiply-adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..core import Anatomy, Cut, Method
from ..core.checks import choice
from .regions import Regions
from .shrink import Shrink


class Setting(NamedTuple):
    """What a name stands for.

    Attributes:
        method: on networks that take images of any size.
        fixed: on those that take images of one size.
        macs: multiply-adds as a share of the dense ones, of either.
        delta: difference in mIoU with its 95 % interval, of ``method``, then of ``fixed``.
    """

    method: Method
    fixed: Method
    macs: float
    delta: tuple[str, str]


PRESETS: Mapping[str, Setting] = {
    "mild": Setting(Regions(keep=0.72), Regions(keep=0.72), 0.67, ("+0.1 [-0.1, +0.2]", "+0.1 [-0.1, +0.2]")),
    "medium": Setting(
        Shrink(0.89) + Regions(keep=0.7125), Regions(keep=0.5625), 0.50, ("-0.6 [-1.4, +0.2]", "-1.5 [-2.3, -0.7]")
    ),
    "strong": Setting(
        Shrink(0.795) + Regions(keep=0.738), Regions(keep=0.4623), 0.40, ("-1.3 [-1.9, -0.6]", "-4.1 [-5.0, -2.9]")
    ),
}
"""Measured with DINOv2 ViT-S/14 and a linear head on all 101 validation images of CamVid (results/presets_*)."""


@dataclass(frozen=True, repr=False)
class Preset(Method):
    """One of ``PRESETS``: what it does depends on the network; ``repr`` is its name.

    Attributes:
        name: "mild", "medium" or "strong".
    """

    name: str

    def __post_init__(self) -> None:
        choice("preset", self.name, tuple(PRESETS))

    def cuts(self, net: Anatomy) -> Sequence[Cut]:
        """Those of the setting; ValueError for kinds of networks that none was measured on."""
        if not net.sized:
            raise ValueError(
                f"{self.name}: presets were measured on networks whose tokens may leave their lattice, and this one "
                "needs it; give a method such as expedit(alpha=10, grid=0.7), or find one with expedit tune"
            )
        setting = PRESETS[self.name]
        return (setting.method if net.resizes else setting.fixed).cuts(net)

    def __repr__(self) -> str:
        return self.name
