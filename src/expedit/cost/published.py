"""How the published Segmenter tables counted: multiply-adds once, norms and activations in, some products left out.

Closed forms of the official counter (docs/protocols.md, Cost): the head's attention products and raw-parameter
products, ToMe's matching and ACT's hashing do not count, Expedit's distances count over all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..core import Grid, scaled
from ..methods import ACT, EViT, Expedit, Pool, Shrink, Shrunk, ToMe
from ..models import Segmenter
from ..models.segmenter import MaskTransformer
from ..operators.lattice import cells_of


@dataclass(frozen=True)
class Sizes:
    """What the closed forms need of a Segmenter and an image."""

    grid: Grid
    patch: int
    width: int
    hidden: int
    heads: int
    depth: int
    head_layers: int
    classes: int

    @staticmethod
    def of(model: Segmenter, image: tuple[int, int]) -> Sizes:
        """Sizes of ``model`` at (height, width) ``image`` in pixels."""
        vit, head = model.encoder, model.decoder
        if not isinstance(head, MaskTransformer):
            raise ValueError("the published tables have no Segmenter with a linear decoder")
        return Sizes(
            grid=Grid(-(-image[0] // vit.patch), -(-image[1] // vit.patch)),
            patch=vit.patch,
            width=vit.width,
            hidden=vit.hidden,
            heads=vit.heads,
            depth=len(vit.blocks),
            head_layers=len(head.blocks),
            classes=head.cls_emb.shape[1],
        )

    @property
    def patches(self) -> int:
        """Tokens without the class token."""
        return self.grid.length

    def embed(self) -> int:
        """Patch convolution with its bias."""
        return self.patches * (3 * self.patch**2 * self.width + self.width)

    def norm(self, n: int) -> int:
        """One LayerNorm over ``n`` tokens."""
        return 2 * n * self.width

    def attention(self, n: int, queries: float | None = None) -> float:
        """Attention over ``n`` tokens; with ``queries`` rows of the attention matrix instead of ``n`` (ACT)."""
        q = n if queries is None else queries
        return 4 * n * self.width**2 + n * self.width + 2 * n * q * self.width + 2 * self.heads * n * q

    def mlp(self, n: int) -> int:
        """Two linear layers and a GELU."""
        return 2 * n * self.width * self.hidden + 2 * n * self.hidden

    def block(self, n: int) -> float:
        """One encoder block on ``n`` tokens."""
        return 2 * self.norm(n) + self.attention(n) + self.mlp(n)

    def head(self, patches: int) -> int:
        """Mask transformer on ``patches`` tokens, as the counter's hooks see it."""
        d, m = self.width, patches + self.classes
        layer = 4 * m * d**2 + 2 * m * d * self.hidden + 4 * m * d + 2 * m * self.hidden
        return patches * d**2 + self.head_layers * layer + 2 * m * d + 2 * patches * self.classes

    def read(self, n: int, clusters: int, top_k: int) -> int:
        """Reconstruction of ``n`` tokens from ``clusters`` ones."""
        d, k = self.width, clusters if top_k < 0 else min(top_k, clusters)
        return n * d + clusters * d + n * clusters * (d + 1) + 3 * n * k + n * k * d

    def cluster(self, clusters: int, iterations: int, neighbourhood: int) -> int:
        """Clustering of all patches, distances over all pairs."""
        p, d, w = self.patches, self.width, min(neighbourhood**2, clusters)
        distance = p * d + clusters * d + p * clusters * (d + 1)
        return p * d + 2 * (p + clusters) + iterations * (distance + 3 * p * w + w * p * d + clusters * d)


def published_macs(
    model: Segmenter, method: Any, image: tuple[int, int], clusters: Sequence[float] = ()
) -> float | None:
    """Multiply-adds of one image in the published convention; ``None`` for a method that no published table has.

    Args:
        model: the dense Segmenter, on any device.
        method: a method, or ``None`` for the dense model.
        image: (height, width) in pixels.
        clusters: mean query clusters per block; ACT only, whose cost depends on the data.
    """
    sizes, shrink = Sizes.of(model, image), method
    if isinstance(method, Shrunk):
        shrink, method = method.shrink, method.method
    if isinstance(shrink, Shrink):
        sizes = replace(sizes, grid=scaled(sizes.grid, shrink.scale))
    form = _FORMS.get(type(method))
    return None if form is None else form(sizes, method, clusters)


def _dense(s: Sizes, method: Any, clusters: Sequence[float]) -> float:
    n = s.patches + 1
    return s.embed() + s.depth * s.block(n) + s.norm(n) + s.head(s.patches)


def _hourglass(s: Sizes, alpha: int, few: int, head_patches: int) -> float:
    blocks = alpha * s.block(s.patches + 1) + (s.depth - alpha) * s.block(few + 1)
    return s.embed() + blocks + s.norm(few + 1) + s.head(head_patches)


def _expedit(s: Sizes, method: Expedit, clusters: Sequence[float]) -> float:
    few = cells_of(method.grid, s.grid).length
    body = _hourglass(s, method.alpha, few, few if method.restore == "logits" else s.patches)
    down = s.cluster(few, method.iterations, method.neighbourhood)
    return body + down + s.read(s.patches, few, method.top_k)


def _pool(s: Sizes, method: Pool, clusters: Sequence[float]) -> float:
    few = cells_of(method.grid, s.grid).length
    return _hourglass(s, method.alpha, few, few)


def _evit(s: Sizes, method: EViT, clusters: Sequence[float]) -> float:
    total, n = float(s.embed()), s.patches
    for block in range(s.depth):
        total += 2 * s.norm(n + 1) + s.attention(n + 1)
        if block in method.layers:
            keep = math.ceil(method.keep_rate * n)
            if keep < n:
                total += s.read(n - keep, keep, method.top_k) - s.norm(n + 1) + s.norm(keep + method.fuse + 1)
                n = keep + method.fuse
        total += s.mlp(n + 1)
    return total + s.norm(n + 1) + s.head(s.patches)


def _tome(s: Sizes, method: ToMe, clusters: Sequence[float]) -> float:
    n = s.patches + 1
    few = n - min(int(n * method.ratio), (n - 1) // 2)
    block = 2 * s.norm(n) + s.attention(few) + s.mlp(few)
    return s.embed() + s.depth * block + s.norm(n) + s.head(s.patches)


def _act(s: Sizes, method: ACT, clusters: Sequence[float]) -> float:
    if len(clusters) != s.depth:
        raise ValueError(f"act: expected the measured cluster count of each of {s.depth} blocks, got {len(clusters)}")
    n = s.patches + 1
    saved = sum(s.attention(n) - s.attention(n, queries) for queries in clusters)
    return _dense(s, None, ()) - saved


_FORMS: dict[type, Callable[[Sizes, Any, Sequence[float]], float]] = {
    type(None): _dense,
    Expedit: _expedit,
    Pool: _pool,
    Shrink: _dense,
    EViT: _evit,
    ToMe: _tome,
    ACT: _act,
}
