"""MixedScale: patches of several sizes, large ones where the image is flat; a quadtree says where.

In the spirit of Ronen et al., "Vision Transformers with Mixed-Resolution Tokenization", CVPR workshops 2023, and of
Havtorn et al., "MSViT: Dynamic Mixed-Scale Tokenization for Vision Transformers", ICCV workshops 2023, but without
training. A window of 4 x 4 or 2 x 2 tokens that stays whole is one patch of the image at a quarter or at half of its
size. Attention knows how many tokens it stands for, and what comes out is interpolated between windows of one size.
The combination was measured here, on pre-trained networks.

Cost for n tokens of width c: the patch convolution once more on n / 4 + n / 16 patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor

from ..core import Anatomy, Cut, Grid, Guide, Method, Restore, TokenMap, attn, to_the_end, windows_of
from ..core.checks import choice, number
from ..core.tokens import gather_tokens
from ..operators.lattice import identity
from ..operators.quadtree import interpolated, leaves


@dataclass(frozen=True, repr=False)
class MixedScale(Method):
    """Larger patches before the first block; every token reads back its window and those around it.

    Attributes:
        keep: share of the tokens of the image that is left. The main knob. At least 1/16, and what lies beyond the last
            whole window of 4 x 4 at the right and at the bottom, which stays as it is.
        smooth: interpolate between windows of a size, instead of copying.
        size_bias: add the logarithm of a patch's size, in tokens, to the logits of its key.
        restore: what is read back, as in ``Regions``.

    Example:
        >>> import expedit
        >>> expedit.MixedScale(keep=0.4)
        mixedscale(keep=0.4)
    """

    headline: ClassVar[tuple[str, ...]] = ("keep",)

    keep: float = 0.57
    smooth: bool = True
    size_bias: bool = True
    restore: Restore = "features"

    def __post_init__(self) -> None:
        number("keep", self.keep, 0, 1)
        choice("smooth", self.smooth, (False, True))
        choice("size_bias", self.size_bias, (False, True))
        choice("restore", self.restore, get_args(Restore))

    def cuts(self, net: Anatomy) -> Sequence[Cut]:
        """One span from before the first block to the end."""
        return [to_the_end(Quadtree(self), attn(0), self.restore, net)]


@dataclass(frozen=True)
class Quadtree:
    """Reducer: tokens on a lattice to the leaves of a quadtree, small ones first; they leave the lattice."""

    guide: ClassVar[Guide] = "coarse_patches"

    settings: MixedScale

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        """``(b, n, c)`` on ``grid``, and the tokens of its windows, to ``(b, m, c)``; ValueError without a lattice."""
        s = self.settings
        if grid is None:
            raise ValueError("mixedscale: expected tokens on a lattice, but an earlier reduction took them off it")
        n, roots = grid.length, windows_of(grid, 4).length
        least = n - 15 * roots
        splits = max(round((s.keep * n - least) / 3), 0)  # each makes four of one
        if splits >= 5 * roots:
            return x, identity(x, grid)
        m, places = least + 3 * splits, n + 5 * roots
        level, leaf = leaves(x, grid, splits)
        is_leaf = torch.zeros(x.shape[0], places, dtype=torch.bool, device=x.device).scatter(1, leaf, True)
        kept = (torch.arange(places, device=x.device) + places * ~is_leaf).argsort(1)[:, :m]
        owner = (is_leaf.cumsum(1) - 1).gather(1, leaf)
        index, weight = interpolated(owner, level, grid) if s.smooth else (owner[:, :, None], None)
        tokens = 4.0 ** ((kept >= n).float() + (kept >= n + 4 * roots))
        sizes = tokens if s.size_bias else None
        token_map = TokenMap(index, weight, m, None, sizes, parts=True)
        return gather_tokens(torch.cat((x, guide), 1), kept), token_map
