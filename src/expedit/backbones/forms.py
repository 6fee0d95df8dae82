"""How the blocks of transformers and timm are put together, as tables of names, and the steps that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from ..core import Context, Step, attention, show


class Form(NamedTuple):
    """Names of the parts of a block.

    Attributes:
        norms: before the attention and before the MLP.
        attention: the attention.
        mlp: the modules of the MLP, in order.
        scales: what the output of either half goes through: modules, or parameters and numbers that multiply it.
    """

    norms: tuple[str, str]
    attention: str
    mlp: tuple[str, ...]
    scales: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


DINO = Form(("norm1", "norm2"), "attention", ("mlp",), (("layer_scale1", "drop_path"), ("layer_scale2", "drop_path")))
BEFORE_AFTER = ("layernorm_before", "layernorm_after")
VIT = Form(BEFORE_AFTER, "attention", ("mlp",), (("dropout",), ("dropout",)))
CLIP = Form(("layer_norm1", "layer_norm2"), "self_attn", ("mlp",))
SAM = Form(("layer_norm1", "layer_norm2"), "attn", ("mlp",))

FORMS: dict[str, Form] = {
    **dict.fromkeys(("Dinov2Layer", "Dinov2WithRegistersLayer", "DINOv3ViTLayer"), DINO),
    **dict.fromkeys(("EomtLayer", "EomtDinov3Layer", "VideomtLayer", "Sapiens2Layer", "Tipsv2VisionLayer"), DINO),
    **dict.fromkeys(("ViTLayer", "PixioLayer"), VIT),
    "VitPoseBackboneLayer": Form(BEFORE_AFTER, "attention", ("mlp",)),
    "DPTViTLayer": Form(BEFORE_AFTER, "attention", ("intermediate", "output.dense", "output.dropout")),
    "BeitLayer": Form(
        BEFORE_AFTER,
        "attention",
        ("mlp",),
        (("dropout", "lambda_1", "drop_path"), ("dropout", "lambda_2", "drop_path")),
    ),
    **dict.fromkeys(("CLIPEncoderLayer", "CLIPSegEncoderLayer", "SiglipEncoderLayer"), CLIP),
    **dict.fromkeys(("SamVisionLayer", "SamHQVisionLayer", "Sam2MultiScaleBlock"), SAM),
    "Sam3ViTLayer": Form(("layer_norm1", "layer_norm2"), "attention", ("mlp", "dropout")),
    "Block": Form(("norm1", "norm2"), "attn", ("mlp",), (("ls1", "drop_path1"), ("ls2", "drop_path2"))),
    "EvaBlock": Form(("norm1", "norm2"), "attn", ("mlp",), (("gamma_1", "drop_path1"), ("gamma_2", "drop_path2"))),
}
"""By the name of the class whose ``forward`` a block runs; transformers 5.17 to 5.23, timm 1.0.31."""

PROJECTIONS: tuple[tuple[str, ...], ...] = (
    ("q_proj", "k_proj", "v_proj", "o_proj"),
    ("q_proj", "k_proj", "v_proj", "out_proj"),
    ("attention.query", "attention.key", "attention.value", "output.dense"),
    ("qkv", "proj"),
)
"""Names of the query, key, value and output projections of an attention; the first row whose names all exist."""

NORMS = ("q_norm", "k_norm")
"""Norms of queries and keys, in attentions that have them."""


class Parts(NamedTuple):
    """What the tables say of one block.

    Attributes:
        form: how it is put together.
        projections: names inside its attention.
        refusal: why the attention can only be used as a whole; empty where queries, keys and values are all there is.
    """

    form: Form
    projections: tuple[str, ...]
    refusal: str


def parts_of(block: nn.Module) -> Parts:
    """Look ``block`` up; ValueError if its forward is one that no table describes."""
    owner = next(kind for kind in type(block).__mro__ if "forward" in vars(kind))
    if owner.__name__ not in FORMS:
        raise ValueError(
            f"{type(block).__name__} computes something of its own; expected a block whose forward is that of one of "
            f"{', '.join(FORMS)}"
        )
    form = FORMS[owner.__name__]
    theirs = part(block, form.attention)
    names = next((row for row in PROJECTIONS if all(part(theirs, name) is not None for name in row)), ())
    other = [
        name
        for name, module in theirs.named_modules()
        if name not in (*names, *NORMS) and any(True for _ in module.parameters(recurse=False))
    ]
    refusal = ""
    if not names or other:
        refusal = (
            f"{type(theirs).__name__} is more than queries, keys and values ({', '.join(other) or 'other parts'}): "
            "expected a method that neither reads its keys nor replaces its kernel nor weights tokens by their size"
        )
    return Parts(form, names, refusal)


def part(module: Any, path: str) -> Any:
    """The part of ``module`` at a dotted path, ``None`` where there is none."""
    try:
        return attrgetter(path)(module)
    except AttributeError:
        return None


def queries_keys_values(theirs: nn.Module, parts: Parts, y: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """``(b, n, c)`` to ``(b, heads, n, head_dim)`` each; grouped keys and values are repeated."""
    if parts.refusal:
        raise ValueError(parts.refusal)
    rows = [part(theirs, name)(y) for name in parts.projections[:-1]]
    if len(rows) == 1:
        q, k, v = rows[0].unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    else:
        q, k, v = (row.unflatten(2, (-1, rows[0].shape[2] // heads)).transpose(1, 2) for row in rows)
    norm_q, norm_k = (part(theirs, name) for name in NORMS)
    q, k = q if norm_q is None else norm_q(q), k if norm_k is None else norm_k(k)
    if k.shape[1] != heads:
        k, v = (row.repeat_interleave(heads // k.shape[1], 1) for row in (k, v))
    return q, k, v


class Place(Protocol):
    """What an attention needs to know of where its tokens are; see ``backbones.places``."""

    def attend(self, block: Any, theirs: Any, y: Tensor, context: Context, call: dict[str, Any]) -> Any:
        """The library's own attention of ``block`` on ``y``; a tuple's first entry counts."""

    def rotated(self, theirs: Any, q: Tensor, k: Tensor, context: Context, call: dict[str, Any]) -> tuple[Tensor, ...]:
        """Queries and keys with their rotary positions."""

    def mlp(self, call: dict[str, Any]) -> dict[str, Any]:
        """Keywords of the MLP."""


def steps_of(block: Any, parts: Parts, place: Place, heads: int, call: dict[str, Any]) -> tuple[Step, Step]:
    """The two residual steps of a block in one forward pass.

    Args:
        call: what the host handed the block beside the tokens, by the name of the parameter.
    """
    form = parts.form
    theirs = part(block, form.attention)

    def attend(y: Tensor, context: Context) -> tuple[Tensor, Tensor | None]:
        bias = context.bias
        if context.kernel is attention and context.guide is None and bias is None:
            out, shown = place.attend(block, theirs, y, context, call), None
            out = out[0] if isinstance(out, tuple) else out
        else:
            q, k, v = queries_keys_values(theirs, parts, y, heads)
            q, k = place.rotated(theirs, q, k, context, call)
            mixed = context.kernel(q, k, v, bias).transpose(1, 2).flatten(2)
            out = part(theirs, parts.projections[-1])(mixed)
            shown = show(context.guide, q, k, v, context.prefix, context.lead)
        return scaled(out, block, form.scales[0]), shown

    def mlp(y: Tensor, context: Context) -> tuple[Tensor, None]:
        first, *others = form.mlp
        y = part(block, first)(y, **place.mlp(call))
        for name in others:
            y = part(block, name)(y)
        return scaled(y, block, form.scales[1]), None

    return Step(part(block, form.norms[0]), attend), Step(part(block, form.norms[1]), mlp)


def scaled(y: Tensor, block: Any, names: Sequence[str]) -> Tensor:
    """``y`` through the modules and times the parameters of ``block`` of these names, as far as it has them."""
    for name in names:
        factor = getattr(block, name, None)
        if isinstance(factor, nn.Module):
            y = factor(y)
        elif factor is not None:
            y = factor * y
    return y
