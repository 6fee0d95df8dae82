"""What tokens carry beside their channels when their positions are not inside them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .tokens import Grid, TokenMap, to_map, to_tokens


class Rotation(NamedTuple):
    """Rotary positions of every token: unit phasors, ``(b, n, d)`` each.

    The mean of unit phasors is shorter than one, most of all at the highest frequency, which damps just the fine
    positions. So means are divided by their length. Where tokens stay on a lattice the phasors are pooled over its
    cells: phasors that step evenly have a mean in the phase of the middle, which makes this exact for any base and
    any way to pair channels.
    """

    cos: Tensor
    sin: Tensor

    def down(self, token_map: TokenMap, grid: Grid | None) -> Rotation:
        """The phasors of the reduced tokens."""
        if token_map.grid is not None and grid is not None:
            cells = token_map.grid
            cos, sin = (to_tokens(F.adaptive_avg_pool2d(to_map(part.float(), grid), cells)) for part in self)
        else:
            cos, sin = (token_map.down(part.float()) for part in self)
        length = torch.sqrt(cos * cos + sin * sin).clamp_min(1e-6)
        return Rotation((cos / length).to(self.cos.dtype), (sin / length).to(self.sin.dtype))
