"""Token lattices, the map that reads many tokens off few, and the residual stream that carries both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

DENSE = 4
"""A map that reads at least every ``DENSE``-th reduced token is applied as a dense product.

Where both forms cost the same: 1,600 tokens of 1,024 channels off 784, fp32 on two AVX2 cores, take 19 ms by bags and
22 ms dense at every 4th, 24 and 20 ms at every 3rd; off 400 and 196 tokens the two cross between the same places.
"""

SIZES = "sizes"
"""Name of the companion ``Sizes`` in ``Stream.side``."""


class Grid(NamedTuple):
    """A lattice of tokens, row-major with y outer: token ``y * w + x`` sits at row ``y``, column ``x``."""

    h: int
    w: int

    @property
    def length(self) -> int:
        """Number of tokens on the lattice."""
        return self.h * self.w


@dataclass(frozen=True)
class TokenMap:
    """How N tokens are read off M reduced ones. Data only: it can be applied, drawn, counted and composed.

    Attributes:
        index: ``(b, n, k)`` int64, the reduced tokens that each of the N tokens reads.
        weight: ``(b, n, k)`` float, how much it reads of each; ``None`` means k == 1 and weight 1 (copy back).
        length: M, from shapes and settings, never from data.
        grid: lattice of the M tokens; ``None`` once they left it.
        sizes: ``(b, m)`` float, how many tokens each reduced one stands for, where attention shall weight it so.
        parts: whether a token is part of the first reduced one that it reads, whatever it reads of others.
    """

    index: Tensor
    weight: Tensor | None
    length: int
    grid: Grid | None = None
    sizes: Tensor | None = None
    parts: bool = False

    def __post_init__(self) -> None:
        if self.index.dim() != 3:
            raise ValueError(f"TokenMap: expected index of shape (b, n, k), got {tuple(self.index.shape)}")
        if self.weight is None and self.index.shape[2] != 1:
            raise ValueError(f"TokenMap: a map without weights reads one token each, got k = {self.index.shape[2]}")
        if self.weight is not None and self.weight.shape != self.index.shape:
            raise ValueError(
                f"TokenMap: expected weight of shape {tuple(self.index.shape)}, got {tuple(self.weight.shape)}"
            )

    def up(self, y: Tensor) -> Tensor:
        """Read values of all N tokens off the M reduced ones: ``(b, m, c) -> (b, n, c)``, features or logits."""
        if y.shape[1] != self.length:
            raise ValueError(f"TokenMap.up: expected {self.length} reduced tokens, got {y.shape[1]}")
        if self.weight is None:
            return gather_tokens(y, self.index[:, :, 0])
        if DENSE * self.index.shape[2] >= self.length or exporting():
            return torch.bmm(self.matrix(y.dtype), y)
        weight = self.weight.flatten(0, 1).to(y.dtype)
        by_sample: Tensor = bags(y.flatten(0, 1), self._rows().flatten(0, 1), weight).unflatten(0, self.index.shape[:2])
        return by_sample

    def down(self, x: Tensor) -> Tensor:
        """Mean over the tokens that read each reduced one, ``(b, n, c) -> (b, m, c)``; zero where nobody reads it.

        With weights the mean is weighted by them, or taken of the parts where it has any. Use it for companions of the
        tokens: RoPE tables, positions, masks.
        """
        if self.weight is None or self.parts:
            return self._groups(x, "mean")
        weight = self.matrix(torch.float32).transpose(1, 2)
        mass = weight.sum(2, keepdim=True)
        mean = torch.bmm(weight / torch.where(mass > 0, mass, 1.0), x.float())
        return mean.to(x.dtype)

    def total(self, x: Tensor) -> Tensor:
        """Sum over the tokens that read each reduced one, ``(b, n, c) -> (b, m, c)``, of a map without weights."""
        return self._groups(x, "sum")

    def mass(self) -> Tensor:
        """What all tokens together read of each reduced one ``(b, m)`` fp32: their number where each reads one."""
        b, n, k = self.index.shape
        if self.index.is_cuda:  # a row of the matrix has a place of its own for each weight: no atomics that meet
            return self.matrix().sum(1)
        weight = torch.ones(b, n, k, device=self.index.device) if self.weight is None else self.weight.float()
        return weight.new_zeros(b, self.length).scatter_add(1, self.index.flatten(1), weight.flatten(1))

    def _groups(self, x: Tensor, mode: Literal["mean", "sum"]) -> Tensor:
        """Mean or sum of each group of rows, as bags of sorted rows: no atomics, so the same every time."""
        b, n, c = x.shape
        if exporting():
            total = x.new_zeros(b, self.length, c).scatter_add(1, self.index.expand(-1, -1, c), x)
            return total if mode == "sum" else total / self.mass().clamp_min(1)[:, :, None].to(x.dtype)
        group, order = self.index[:, :, 0].sort(dim=1, stable=True)
        starts = torch.searchsorted(group, torch.arange(self.length, device=x.device).repeat(b, 1))
        first = n * torch.arange(b, device=x.device)[:, None]
        read = F.embedding_bag((order + first).flatten(), x.flatten(0, 1), (starts + first).flatten(), mode=mode)
        by_sample: Tensor = read.unflatten(0, (b, self.length))
        return by_sample

    def _rows(self) -> Tensor:
        """``index`` into the reduced tokens of the whole batch laid end to end."""
        first = torch.arange(self.index.shape[0], device=self.index.device) * self.length
        return self.index + first[:, None, None]

    def matrix(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Write the map out as a dense matrix ``(b, n, m)``, so that ``up(y)`` is ``matrix() @ y``."""
        b, n, _ = self.index.shape
        weight = torch.ones_like(self.index, dtype=dtype) if self.weight is None else self.weight.to(dtype)
        dense = weight.new_zeros(b, n, self.length)
        return dense.scatter_add(2, self.index, weight)

    def after(self, prefix: int) -> TokenMap:
        """The same map after ``prefix`` more tokens, each of which reads itself."""
        b, _, k = self.index.shape
        own = torch.arange(prefix, device=self.index.device)[None, :, None].expand(b, prefix, k)
        weight = self.weight
        if weight is not None:
            weight = torch.cat((F.pad(weight.new_ones(b, prefix, 1), (0, k - 1)), weight), 1)
        index = torch.cat((own, self.index + prefix), 1)
        return replace(self, index=index, weight=weight, length=prefix + self.length, grid=None)

    def owner(self) -> Tensor:
        """The reduced token each token reads most, ``(b, n)`` int64: the clusters as a picture."""
        if self.weight is None or self.parts:
            return self.index[:, :, 0]
        return self.index.gather(2, self.weight.argmax(2, keepdim=True))[:, :, 0]


class Companion(Protocol):
    """Something every reducible token has beside its channels; it follows the tokens through every reduction."""

    def down(self, token_map: TokenMap, grid: Grid | None) -> Companion:
        """The companion of the reduced tokens; ``grid`` is the lattice of those it has now."""


Side = Mapping[str, Companion]


class Opened(NamedTuple):
    """A reduction that the stream still has to undo.

    Attributes:
        map: how the tokens are read back.
        stop: position at which.
        grid, side: lattice and companions to return to.
        origin: the tokens ``(b, n, c)`` before and ``(b, m, c)`` after the reduction, where only the change since then
            is read back.
    """

    map: TokenMap
    stop: int
    grid: Grid | None
    side: Side
    origin: tuple[Tensor, Tensor] | None = None

    def up(self, tokens: Tensor) -> Tensor:
        """All tokens ``(b, n, c)`` from the reduced ones ``(b, m, c)``."""
        if self.origin is None:
            return self.map.up(tokens)
        before, after = self.origin
        return before + self.map.up(tokens - after)


@dataclass(frozen=True)
class Stream:
    """The residual stream between two steps.

    Attributes:
        x: ``(b, p + n, c)``. The first ``prefix`` tokens (class, register, query tokens) are never reduced.
        prefix: p.
        grid: lattice of the n tokens, ``None`` once they left it.
        side: companions of the n tokens by name.
        opened: reductions still to be undone, outermost first.
        lead: place of the class token among the prefix; 0 unless other tokens joined before it.
        coarse: tokens ``(b, k, c)`` of windows of the lattice, made by the embedding for a reducer that asks for them.
    """

    x: Tensor
    prefix: int
    grid: Grid | None
    side: Side = field(default_factory=dict)
    opened: tuple[Opened, ...] = ()
    lead: int = 0
    coarse: Tensor | None = None

    @property
    def tokens(self) -> Tensor:
        """The reducible tokens ``(b, n, c)``, prefix left out."""
        return self.x[:, self.prefix :]

    def reduced(self, tokens: Tensor, token_map: TokenMap, stop: int, delta: bool = False) -> Stream:
        """The stream with ``tokens`` ``(b, m, c)`` in place of its own, to be undone at position ``stop``.

        With ``delta`` only what changes until then is read back, on top of the tokens there are now.
        """
        origin = (self.tokens, tokens) if delta else None
        return replace(
            self,
            x=torch.cat((self.x[:, : self.prefix], tokens), 1),
            grid=token_map.grid,
            side=reduced_side(self.side, token_map, self.grid),
            opened=(*self.opened, Opened(token_map, stop, self.grid, self.side, origin)),
            coarse=None,
        )

    def joined(self, tokens: Tensor) -> Stream:
        """The stream with ``tokens`` ``(b, q, c)`` before all others: they are part of the prefix."""
        more = tokens.shape[1]
        return replace(self, x=torch.cat((tokens, self.x), 1), prefix=self.prefix + more, lead=self.lead + more)

    def restored(self, position: int) -> Stream:
        """The stream with every reduction undone whose span stops at or before ``position``, innermost first."""
        stream = self
        while stream.opened and stream.opened[-1].stop <= position:
            last = stream.opened[-1]
            x = torch.cat((stream.x[:, : self.prefix], last.up(stream.tokens)), 1)
            stream = replace(stream, x=x, grid=last.grid, side=last.side, opened=stream.opened[:-1])
        return stream


def reduced_side(side: Side, token_map: TokenMap, grid: Grid | None) -> Side:
    """The companions of reduced tokens; ``grid`` is the lattice of the tokens before."""
    small = {name: companion.down(token_map, grid) for name, companion in side.items()}
    if token_map.sizes is not None:
        small[SIZES] = Sizes(token_map.sizes).times(small.get(SIZES))
    return small


class Sizes(NamedTuple):
    """Companion: how many tokens of the whole map each token stands for, ``(b, n)`` float."""

    tokens: Tensor

    def down(self, token_map: TokenMap, grid: Grid | None) -> Sizes:
        """The mean size of those that read a reduced token."""
        return Sizes(token_map.down(self.tokens[:, :, None].float())[:, :, 0])

    def mean(self, x: Tensor, token_map: TokenMap) -> Tensor:
        """Mean of the tokens ``(b, n, c)`` that read each reduced one, each as often as its size: ``(b, m, c)``."""
        weight = self.tokens[:, :, None].float()
        return (token_map.total(x.float() * weight) / token_map.total(weight)).to(x.dtype)

    def times(self, inner: Companion | None) -> Sizes:
        """Sizes counted in tokens that have sizes themselves."""
        return Sizes(self.tokens * inner.tokens) if isinstance(inner, Sizes) else self


def exporting() -> bool:
    """Whether a program for other runtimes is being written, which know neither bags nor sorts that keep the order."""
    return torch.compiler.is_exporting()


def bags(table: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
    """Weighted sums of rows: ``(m, c)`` at ``rows`` ``(n, k)``, times ``weight`` ``(n, k)``, to ``(n, c)``."""
    if exporting():
        read = [table.index_select(0, rows[:, i]) * weight[:, i, None] for i in range(rows.shape[1])]
        return reduce(torch.add, read)
    return F.embedding_bag(rows, table, per_sample_weights=weight, mode="sum")


def gather_tokens(x: Tensor, index: Tensor) -> Tensor:
    """Whole tokens of each sample: ``(b, n, c)`` at ``index`` ``(b, k)`` to ``(b, k, c)``, faster than a gather."""
    first = torch.arange(x.shape[0], device=x.device)[:, None] * x.shape[1]
    gathered: Tensor = x.flatten(0, 1).index_select(0, (index + first).flatten()).unflatten(0, index.shape)
    return gathered


def to_map(tokens: Tensor, grid: Grid) -> Tensor:
    """``(b, n, c)`` tokens as a feature map ``(b, c, h, w)``, a view."""
    feature_map: Tensor = tokens.unflatten(1, grid).permute(0, 3, 1, 2)
    return feature_map


def to_tokens(feature_map: Tensor) -> Tensor:
    """``(b, c, h, w)`` feature map as ``(b, h * w, c)`` tokens."""
    return feature_map.flatten(2).transpose(1, 2)


def pad_to_multiple(feature_map: Tensor, multiple: Grid) -> Tensor:
    """Zeros at the right and the bottom of ``(b, c, h, w)`` until both sides divide by ``multiple``."""
    h, w = feature_map.shape[2:]
    return F.pad(feature_map, (0, -w % multiple.w, 0, -h % multiple.h))
