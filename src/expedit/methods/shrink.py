"""Shrink: the smaller image itself, the baseline that every reduction of tokens has to beat; and a method on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..core import Anatomy, Cut, Method, Resize
from ..core.checks import number


@dataclass(frozen=True, repr=False)
class Shrink(Method):
    """Resize the image before it is embedded; what comes out is read back bilinearly for all tokens of the image.

    ``Shrink(0.8) + Regions(keep=0.7)`` reduces the tokens of the smaller image: shares count the tokens that arrive.

    Attributes:
        scale: share of each side of the image, to whole patches: 0.8 leaves 64 % of the tokens.

    Example:
        >>> import expedit
        >>> expedit.Shrink(0.8) + expedit.Regions(keep=0.7)
        shrink(scale=0.8) + regions(alpha=0, keep=0.7)
    """

    headline: ClassVar[tuple[str, ...]] = ("scale",)

    scale: float = 0.8

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", number("scale", self.scale, 0, 1))

    def cuts(self, net: Anatomy) -> Sequence[Cut]:
        """The image itself."""
        return [Resize(self.scale)]

    def __add__(self, method: Method) -> Shrunk:
        return Shrunk(self, method)


@dataclass(frozen=True, repr=False)
class Shrunk(Method):
    """A method on the tokens of a smaller image; ``repr`` joins their specs with a plus.

    Attributes:
        shrink: the image.
        method: what reduces its tokens.
    """

    shrink: Shrink
    method: Method

    def __post_init__(self) -> None:
        if not isinstance(self.method, Method) or isinstance(self.method, (Shrink, Shrunk)):
            raise ValueError(f"shrink: expected a method that reduces tokens after the plus, got {self.method!r}")

    @property
    def static(self) -> bool:  # type: ignore[override]
        """See ``Method``."""
        return self.method.static

    def cuts(self, net: Anatomy) -> Sequence[Cut]:
        """Those of the method, which knows the network as made for a smaller image."""
        return [*self.shrink.cuts(net), *self.method.cuts(net)]

    def __repr__(self) -> str:
        return f"{self.shrink!r} + {self.method!r}"
