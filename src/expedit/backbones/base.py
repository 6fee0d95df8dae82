"""What an adapter is, and what adapters share whose reducers see the whole token map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..core import Anatomy, Grid, Guide, Plan, Reducer, scaled


class Adapter(Protocol):
    """How one family of backbones is cut. It knows no method; ``install`` alone takes options, by keyword."""

    @property
    def guides(self) -> frozenset[Guide]:
        """What the attention of such backbones can show a reducer."""

    def check(self, plan: Plan, lattice: Grid) -> None:
        """ValueError where no such backbone can run ``plan`` on tokens of ``lattice``, with the reason."""

    def anatomy(self, backbone: Any) -> Anatomy:
        """What methods may know of ``backbone``."""

    @property
    def install(self) -> Any:
        """``install(model, path, plan, **options)``: put ``plan`` to work in the backbone at ``path`` of ``model``.

        ``model`` may be changed; ValueError where the plan does not fit, with the reason.
        """

    def plan(self, backbone: Any) -> Plan:
        """The cuts at work in it."""

    def exchange(self, backbone: Any, plan: Plan) -> None:
        """Put ``plan`` in place of the one that is installed: the same cuts with other reducers or kernels."""

    def branches(self, backbone: Any) -> list[nn.Module]:
        """The residual branches that see tokens, as modules; their first input has the channels last."""

    def owner(self, backbone: Any, owners: Sequence[Tensor], image: Grid) -> Tensor:
        """Cluster of every token as a picture ``(h, w)`` int64.

        Args:
            backbone: accelerated.
            owners: the reduced token that each token reads, ``(sequences, n)`` each, in the order of the reductions.
            image: height and width in pixels.
        """


def kept_lattice(reducer: Reducer, grid: Grid, reason: str) -> Grid:
    """Lattice to which ``reducer`` takes tokens on ``grid``: it follows from sizes, so blank tokens show it.

    Args:
        reason: why tokens must stay on a lattice, as the beginning of a sentence.

    Raises:
        ValueError: they do not, or the reducer does not fit ``grid``.
    """
    blank = torch.zeros(1, grid.length, 1)
    try:
        _, token_map = reducer(blank, blank, grid)
    except ValueError as error:
        raise ValueError(f"on {grid.h} x {grid.w} tokens: {error}") from None
    name = type(reducer).__name__
    if token_map.grid is None:
        raise ValueError(f"{reason}; {name} takes tokens off the lattice, so use Expedit or Pool")
    if token_map.sizes is not None:
        raise ValueError(
            f"{reason}, where tokens cannot be weighted by their size as {name} wants it; leave size_bias out"
        )
    return token_map.grid


class WholeMaps(ABC):
    """Adapter of backbones whose blocks see all tokens of an image at once, and which keep one plan."""

    @abstractmethod
    def seat(self, backbone: Any) -> Any:
        """The module that keeps ``plan`` and ``kernels``."""

    @abstractmethod
    def lattice(self, backbone: Any, image: Grid) -> Grid:
        """Token lattice of an image of that height and width in pixels."""

    def plan(self, backbone: Any) -> Plan:
        """The cuts at work in it."""
        plan: Plan = self.seat(backbone).plan
        return plan

    def exchange(self, backbone: Any, plan: Plan) -> None:
        """Put ``plan`` to work; kernels with tensors move and convert with the backbone."""
        seat = self.seat(backbone)
        kernels = [kernel for kernel in plan.attend.values() if isinstance(kernel, nn.Module)]
        seat.plan, seat.kernels = plan, nn.ModuleList(kernels).to(next(backbone.parameters()).device)

    def owner(self, backbone: Any, owners: Sequence[Tensor], image: Grid) -> Tensor:
        """See ``Adapter``; all tokens of the image are one sequence."""
        lattice = scaled(self.lattice(backbone, image), self.plan(backbone).scale)
        owner: Tensor = owners[0][0].unflatten(0, lattice)
        return owner
