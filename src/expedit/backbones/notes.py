"""What a forward pass finds out before its blocks run: blocks see tokens, not the lattice that they came from."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..core import Grid, change_of_patches, shrunk


class Notes:
    """A few facts of the forward pass of each thread, written by modules of the host and read by its blocks.

    While torch compiles, passes do not overlap and a thread's own storage cannot be traced: a plain attribute does.
    Copies and pickles of a network get notes of their own.
    """

    def __init__(self) -> None:
        self._local = threading.local()
        self._traced: dict[str, Any] = {}

    def _facts(self) -> dict[str, Any]:
        return self._traced if torch.compiler.is_compiling() else self._local.__dict__

    @property
    def grid(self) -> Grid:
        """The lattice that the patch convolution made last."""
        grid: Grid = self._facts()["grid"]
        return grid

    @grid.setter
    def grid(self, value: Grid) -> None:
        self._facts()["grid"] = value

    @property
    def whole(self) -> Grid | None:
        """The lattice of an image that was shrunk before its patches were made."""
        whole: Grid | None = self._facts().get("whole")
        return whole

    @whole.setter
    def whole(self, value: Grid) -> None:
        self._facts()["whole"] = value

    @property
    def change(self) -> Tensor | None:
        """What patches of smaller images differ by from the means of those of the image; who reads it takes it."""
        change: Tensor | None = self._facts().pop("change", None)
        return change

    @change.setter
    def change(self, value: Tensor) -> None:
        self._facts()["change"] = value

    @property
    def all_wanted(self) -> bool:
        """Whether the caller asked for the hidden states of all blocks."""
        return bool(self._facts().get("all_wanted", False))

    def hear(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Pre-hook of the module that reads hidden states."""
        default = getattr(getattr(module, "config", None), "output_hidden_states", False)
        self._facts()["all_wanted"] = kwargs.get("output_hidden_states", default)

    def __deepcopy__(self, memo: dict[int, Any]) -> Notes:
        return Notes()

    def __reduce__(self) -> tuple[type[Notes], tuple[()]]:
        return Notes, ()


class NotedPatches(nn.Conv2d):
    """A patch convolution, the same tensors under the same names, that notes the lattice it makes.

    With ``coarse`` also what patches of smaller images differ by.
    """

    notes: Notes
    coarse: bool

    @classmethod
    def around(cls, theirs: nn.Conv2d, notes: Notes, coarse: bool) -> NotedPatches:
        """What stands for ``theirs``."""
        made = cls(
            theirs.in_channels,
            theirs.out_channels,
            theirs.kernel_size,  # type: ignore[arg-type]
            theirs.stride,  # type: ignore[arg-type]
            theirs.padding,  # type: ignore[arg-type]
            bias=theirs.bias is not None,
            device="meta",
        )
        made.weight, made.bias, made.notes, made.coarse = theirs.weight, theirs.bias, notes, coarse
        return made.train(theirs.training)

    def forward(self, input: Tensor) -> Tensor:
        """``(b, 3, H, W) -> (b, c, h, w)``."""
        feature_map = super().forward(input)
        self.notes.grid = Grid(*feature_map.shape[2:])
        if self.coarse:
            self.notes.change = change_of_patches(super().forward, input, feature_map)
        return feature_map


class SmallerImage:
    """Pre-hook of a module that is given the image first: it sees a smaller one, and the lattice is noted."""

    def __init__(self, scale: float, patch: Grid, notes: Notes) -> None:
        self.scale, self.patch, self.notes = scale, patch, notes

    def put(self, module: nn.Module) -> None:
        """Before every forward of ``module``, which then resizes its table of positions, if it can be asked to."""
        asked = "interpolate_pos_encoding" in inspect.signature(module.forward).parameters
        module.register_forward_pre_hook(self.resizing if asked else self.plain, with_kwargs=True)

    def plain(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The arguments, with the smaller image."""
        image, *others = args
        self.notes.whole = Grid(image.shape[2] // self.patch.h, image.shape[3] // self.patch.w)
        return (shrunk(image, self.patch, self.scale), *others), kwargs

    def resizing(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The same, and the wish for other positions."""
        return self.plain(module, args, {**kwargs, "interpolate_pos_encoding": True})
