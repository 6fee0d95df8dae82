"""Where a method cuts into a network: positions, the three kinds of cut, and the plan they add up to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal, Protocol, TypeVar, get_args

from torch import Tensor

from .tokens import Grid, TokenMap

Restore = Literal["logits", "features", "delta"]
Guide = Literal["tokens", "keys", "cls_attention", "significance", "coarse_patches"]

FEATURES: int = 1_000_000
"""Named end: after the final norm. Larger than every half-block, so positions compare with ``<``."""
LOGITS: int = FEATURES + 1
"""Named end: after the head."""


def attn(block: int) -> int:
    """Position before the attention half of block ``block`` (0-based)."""
    return 2 * block


def mlp(block: int) -> int:
    """Position between the attention and the MLP half of block ``block`` (0-based)."""
    return 2 * block + 1


class Reducer(Protocol):
    """A pure, batch-safe function from many tokens to few and the map back."""

    @property
    def guide(self) -> Guide:
        """What it wants to be shown beside the tokens; ``attention.show`` and ``coarse_tokens`` say what each is."""

    def __call__(self, x: Tensor, guide: Tensor, grid: Grid | None) -> tuple[Tensor, TokenMap]:
        """Reduce ``x`` ``(b, n, c)``; ``guide``: tokens or keys ``(b, n, c)``, a score ``(b, n)``, or windows."""


Kernel = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""An attention kernel: ``q, k, v, bias -> out``, ``(b, heads, tokens, head_dim)`` each, ``q`` not scaled yet.

``bias`` is added to the attention logits and broadcasts to ``(b, heads, q, k)``; ``None`` adds nothing.
"""


@dataclass(frozen=True)
class Span:
    """Run everything between two positions on the reduced tokens.

    With ``delta`` the tokens at ``stop`` are those at ``start`` plus what the reduced ones changed by. It is only for
    stops on the residual stream: a norm or a head changes more than there is to add to.

    With ``by_size`` the reduced tokens are means of their groups in which a token that stands for w tokens counts w
    times; what the reducer returns is that where sizes are 1.
    """

    reducer: Reducer
    start: int
    stop: int
    delta: bool = False
    by_size: bool = False


@dataclass(frozen=True)
class Around:
    """Run one branch (attention or MLP, without its residual) on the reduced tokens."""

    reducer: Reducer
    step: int


@dataclass(frozen=True)
class Attend:
    """Replace the attention kernel of one attention step."""

    kernel: Kernel
    step: int


@dataclass(frozen=True)
class Resize:
    """Make the image smaller before it is embedded, and its tokens as many again, bilinearly, at the end.

    Attributes:
        scale: share of each side, in (0, 1].
    """

    scale: float


Cut = Span | Around | Attend | Resize


@dataclass(frozen=True)
class Anatomy:
    """What a method may know of a network.

    Attributes:
        depth: number of blocks, counted over all stages.
        prefix: tokens in front that are never reduced.
        heads: attention heads of every block.
        head_dim: width of one head.
        grid: token lattice of an image of the size the network was made for, where it has one.
        guides: what the attention steps, and the embedding, can show a reducer.
        sized: whether attention can weight tokens by their size.
        resizes: whether it takes images of any size.
    """

    depth: int
    prefix: int
    heads: int
    head_dim: int
    grid: Grid | None = None
    guides: frozenset[Guide] = frozenset(get_args(Guide))
    sized: bool = True
    resizes: bool = True


def to_the_end(reducer: Reducer, start: int, restore: Restore, net: Anatomy) -> Span:
    """The span from ``start`` on to where ``restore`` says that all tokens are read back.

    ``"logits"``: after the head, which runs on few tokens. ``"features"``: after the final norm. ``"delta"``: before
    it, and only what has changed since ``start``, on top of the tokens that there were.
    """
    stops = {"logits": LOGITS, "features": FEATURES, "delta": attn(net.depth)}
    return Span(reducer, start, stops[restore], delta=restore == "delta")


class Method:
    """Base of all methods: a frozen dataclass (``repr=False``) of plain numbers whose ``repr`` is its spec string.

    ``headline`` names the settings that ``repr`` always shows; others appear when they differ from the default.
    """

    headline: ClassVar[tuple[str, ...]] = ()
    static: ClassVar[bool] = True
    """Whether token counts are a function of shapes and settings alone."""

    def cuts(self, net: Anatomy) -> Sequence[Cut]:
        """Where and how this method cuts into ``net``; ValueError says which setting does not fit it."""
        raise NotImplementedError

    def __repr__(self) -> str:
        shown = [f for f in fields(self) if f.name in self.headline or getattr(self, f.name) != f.default]  # type: ignore[arg-type]
        settings = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in shown)
        return f"{type(self).__name__.lower()}({settings})"


@dataclass(frozen=True)
class Plan:
    """The cuts of a method, checked once and keyed by position. The empty plan is the untouched network."""

    spans: Mapping[int, Span] = field(default_factory=dict)
    around: Mapping[int, Reducer] = field(default_factory=dict)
    attend: Mapping[int, Kernel] = field(default_factory=dict)
    scale: float = 1.0

    @staticmethod
    def of(cuts: Sequence[Cut], net: Anatomy) -> Plan:
        """Key ``cuts`` by position; ValueError where they do not fit ``net`` or one another."""
        spans = _by_position([cut for cut in cuts if isinstance(cut, Span)], net)
        around = _by_position([cut for cut in cuts if isinstance(cut, Around)], net)
        attend = _by_position([cut for cut in cuts if isinstance(cut, Attend)], net)
        scales = [cut.scale for cut in cuts if isinstance(cut, Resize)]
        if len(scales) > 1:
            raise ValueError(f"Resize: the image is resized once, got {len(scales)} scales")
        for step in attend:
            if step % 2:
                raise ValueError(f"Attend: step {step} is an MLP, expected an attention step (an even one)")
        _check_nesting([spans[start] for start in sorted(spans)])
        for span in spans.values():
            _check_guide(span, net, around)
        for cut in around.values():
            if cut.reducer.guide != "tokens":
                name = type(cut.reducer).__name__
                raise ValueError(f"{name} needs {cut.reducer.guide!r}, but around a branch it only sees tokens")
        return Plan(
            spans,
            {step: cut.reducer for step, cut in around.items()},
            {step: cut.kernel for step, cut in attend.items()},
            *scales,
        )

    def guide_for(self, position: int) -> Guide | None:
        """What the step before ``position``, or the embedding, has to show the reducer that cuts in there."""
        span = self.spans.get(position)
        return None if span is None or span.reducer.guide == "tokens" else span.reducer.guide


CutT = TypeVar("CutT", Span, Around, Attend)


def _by_position(cuts: Sequence[CutT], net: Anatomy) -> dict[int, CutT]:
    taken: dict[int, CutT] = {}
    for cut in cuts:
        position = cut.start if isinstance(cut, Span) else cut.step
        if not 0 <= position < 2 * net.depth:
            raise ValueError(f"{type(cut).__name__}: expected a position in 0..{2 * net.depth - 1}, got {position}")
        if position in taken:
            raise ValueError(f"{type(cut).__name__}: position {position} is cut twice")
        taken[position] = cut
    return taken


def _check_nesting(spans: Sequence[Span]) -> None:
    """Spans, sorted by start, nest like brackets: the stream undoes its reductions innermost first."""
    stops: list[int] = []
    for span in spans:
        if span.delta and span.stop >= FEATURES:
            raise ValueError("Span: a difference is read back on the residual stream; expected a stop at its end")
        if span.start >= span.stop:
            raise ValueError(f"Span: expected start < stop, got {span.start}..{span.stop}")
        while stops and stops[-1] <= span.start:
            stops.pop()
        if stops and span.stop > stops[-1]:
            raise ValueError(f"Span: {span.start}..{span.stop} does not nest in the span that stops at {stops[-1]}")
        stops.append(span.stop)


def _check_guide(span: Span, net: Anatomy, around: Mapping[int, Around]) -> None:
    name, guide = type(span.reducer).__name__, span.reducer.guide
    if guide not in net.guides:
        raise ValueError(f"{name} needs {guide!r}, which this network does not have (it has {sorted(net.guides)})")
    if guide == "coarse_patches":
        if span.start:
            raise ValueError(f"{name}: {guide!r} exist only before the first block")
    elif guide != "tokens" and (span.start % 2 == 0 or span.start - 1 in around):
        raise ValueError(f"{name}: {guide!r} exists only right after an attention step that no other cut wraps")
