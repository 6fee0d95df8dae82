"""Which network a file holds, under whatever keys and prefixes a trainer put it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from .arrays import Stored
from .contents import Contents
from .foreign import NotCheckpoint, network_kind

WRAPPERS = frozenset(
    ("module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module")
)
"""What data parallelism, compilers and the like put between the parts of a key."""

AVERAGED = re.compile(r"(^|[._])(ema|avg|averaged?|swa|teacher|shadow)([._]|$)")
"""How trainers call a moving average of the weights: taken where there is nothing else, or where it is asked for."""

MOST_COPIES = 8
"""Networks looked for in one dictionary."""


@dataclass(frozen=True)
class Sign:
    """How the keys of a kind of network look.

    Attributes:
        family: the kind, a key of ``zoo.READERS``.
        key: one that every such network has; what stands before it is no part of the names.
        needs: patterns that must be found among the keys.
        forbids: a pattern that must not.
    """

    family: str
    key: str
    needs: tuple[str, ...]
    forbids: str = r"^$"

    def fits(self, names: Mapping[str, str]) -> bool:
        """Whether keys look like that."""
        needed = all(any(re.search(pattern, name) for name in names) for pattern in self.needs)
        return needed and not any(re.search(self.forbids, name) for name in names)


SIGNS = (
    Sign("segmenter", "encoder.patch_embed.proj.weight", (r"^decoder\.",)),
    Sign(
        "segmenter",
        "backbone.patch_embed.projection.weight",
        (r"^backbone\.cls_token$", r"^decode_head\.(cls_emb|head\.weight)$"),
    ),
    Sign(
        "segmenter",
        "backbone.patch_embed.projection.weight",
        (r"^backbone\.cls_token$", r"^decode_head\.conv_seg\.weight$"),
        forbids=r"^decode_head\.(?!conv_seg\.)",
    ),
    Sign("mask2former", "sem_seg_head.predictor.class_embed.weight", (r"^backbone\.patch_embed\.proj\.",)),
)
"""Original Segmenter, that of mmsegmentation with its two heads, and Mask2Former of detectron2 with a Swin."""


@dataclass(frozen=True)
class Network:
    """A network in a file.

    Attributes:
        family: the kind of network.
        tensors: by their keys in that kind.
        path: keys that lead to the dictionary they are in.
        peeled: what was taken off their names: a prefix, wrappers.
        unused: keys of the same dictionary that are no part of it.
        others: where else in the file there is a network.
    """

    family: str
    tensors: Mapping[str, Stored]
    path: tuple[str, ...]
    peeled: tuple[str, ...]
    unused: tuple[str, ...]
    others: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where it is, as a name to ask for it by."""
        return ".".join((*self.path, *(part.rstrip(".") for part in self.peeled)))


def find(contents: Contents, part: str | None = None) -> Network:
    """The network in a file: the first one that is no moving average, or the one whose place has ``part`` in it.

    Raises:
        NotCheckpoint: none of ours; the message says what it is, as far as its keys tell.
        ValueError: nothing called ``part``, or keys that are the same but for wrappers.
    """
    found = [network for path, state in contents.states.items() for network in _networks(path, state)]
    if not found:
        names = [name for state in contents.states.values() for name in state]
        shown = ", ".join(name[:80] for name in sorted(names)[:4])
        kind = network_kind(map(_unwrapped, names)) or f"of no network we know, with tensors such as {shown}"
        raise NotCheckpoint(f"{kind}; expected a Segmenter, or a Mask2Former with a Swin")
    places = [network.place for network in found]
    fitting = [network for network in found if part is None or part in (network.place, *network.place.split("."))]
    if not fitting:
        raise ValueError(f"expected weights called {part!r}, but there are only {', '.join(map(repr, places))}")
    best = min(fitting, key=lambda network: bool(AVERAGED.search(network.place)))
    others = tuple(place for place in places if place != best.place)
    return Network(best.family, best.tensors, best.path, best.peeled, best.unused, others)


def _networks(path: tuple[str, ...], state: Mapping[str, Stored]) -> Iterator[Network]:
    """Networks in one dictionary of tensors."""
    names = {_unwrapped(name): name for name in state}
    prefixes = dict.fromkeys(
        (name.removesuffix(sign.key), sign) for sign in SIGNS for name in names if f".{name}".endswith(f".{sign.key}")
    )
    for prefix, sign in islice(prefixes, MOST_COPIES):
        inside = {name.removeprefix(prefix): raw for name, raw in names.items() if name.startswith(prefix)}
        if not prefix:  # other copies of it, and what trainers count, such as n_averaged
            copies = tuple(other for other, _ in prefixes if other)
            inside = {name: raw for name, raw in inside.items() if "." in name and not name.startswith(copies)}
        if sign.fits(inside):
            if len(names) < len(state):
                raise ValueError(f"expected keys that differ by more than {', '.join(WRAPPERS)}")
            used = set(inside.values())
            wrappers = {part: None for raw in used for part in raw.split(".") if part in WRAPPERS}
            yield Network(
                sign.family,
                {name: state[raw] for name, raw in inside.items()},
                path,
                (*([prefix] if prefix else []), *(f"{wrapper}." for wrapper in wrappers)),
                tuple(sorted(state.keys() - used)),
            )


def _unwrapped(name: str) -> str:
    """``name`` without the parts that wrappers put into it."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)
