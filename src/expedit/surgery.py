"""One call: a model and a method in, a faster model out; the model given stays as it was."""

from __future__ import annotations

import copy
from inspect import signature
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .backbones import ADAPTERS, Adapter
from .core import Method, Plan
from .spec import parse

Model = TypeVar("Model", bound=nn.Module)


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def accelerate(
    model: Model,
    method: Method | str,
    *,
    dtype: torch.dtype | str | None = None,
    compile: bool = False,
    where: str | None = None,
    **options: Any,
) -> Model:
    """A new model of the same type that runs ``method`` and shares every parameter and buffer with ``model``.

    Args:
        model: a supported backbone or any module that contains exactly one.
        method: a method object or its spec string, such as ``"expedit(alpha=10, grid=(28, 28))"``.
        dtype, compile: as in ``optimized``.
        where: path of the backbone inside ``model``, such as ``"encoder"``; only needed where there are several.
        **options: of the backbone's adapter. Swin: ``official_shift_mask`` and ``official_padding``, both off by
            default; published rows were measured with both on.

    Raises:
        ValueError: no supported backbone in the model, a method is at work already, the method does not fit, an option
            that the backbone does not have, or ``compile`` with a method without static shapes (ACT).

    Example:
        >>> import expedit
        >>> model = expedit.load("segmenter-mini")
        >>> fast = expedit.accelerate(model, "expedit(alpha=6, grid=(20, 20))")
        >>> type(fast) is type(model), fast.decoder.cls_emb is model.decoder.cls_emb
        (True, True)
    """
    method = parse(method)
    if compile and not method.static:
        raise ValueError(
            f"{method!r}: its number of tokens depends on the image, so that torch would compile every block of every "
            "image anew; run it without compile"
        )
    twin = share(model, dtype)
    path, adapter = find_backbone(twin, where)
    backbone = twin.get_submodule(path)
    if adapter.plan(backbone) != Plan():
        raise ValueError("this model is accelerated already; call accelerate() on the original model")
    net = adapter.anatomy(backbone)
    accepted = list(signature(adapter.install).parameters)[3:]
    if unknown := [option for option in options if option not in accepted]:
        raise ValueError(
            f"{type(backbone).__name__}: unknown option {', '.join(unknown)}; accepted: {', '.join(accepted) or 'none'}"
        )
    adapter.install(twin, path, Plan.of(method.cuts(net), net), **options)
    return _compiled(twin, compile)


def optimized(model: Model, *, dtype: torch.dtype | str | None = None, compile: bool = False) -> Model:
    """The same network in another dtype or compiled, for a fair comparison with an accelerated one.

    Args:
        model: stays as it was.
        dtype: "fp32", "bf16", "fp16" or a torch dtype. Tensors that it changes are copies, all others are shared.
            Distances between tokens stay in fp32.
        compile: run the forward pass through ``torch.compile``. The first image of every size takes minutes; later
            ones of that size compile nothing.
    """
    return _compiled(share(model, dtype), compile)


def _compiled(twin: Model, compile: bool) -> Model:
    """Static shapes: every size of image gets code of its own, as many sizes as torch's recompile limit allows."""
    if compile:
        twin.compile(dynamic=False)
    return twin


def share(model: Model, dtype: torch.dtype | str | None = None) -> Model:
    """A copy of the module tree around the same parameters and buffers, or around copies of them in ``dtype``."""
    dtype, tensors = _dtype(dtype), chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, {id(tensor): _in_dtype(tensor, dtype) for tensor in tensors})


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    if isinstance(dtype, str) and dtype not in DTYPES:
        raise ValueError(f"dtype: expected one of {', '.join(DTYPES)} or a torch dtype, got {dtype!r}")
    return DTYPES[dtype] if isinstance(dtype, str) else dtype


def _in_dtype(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """``tensor`` itself where nothing changes: no dtype, the same one, or integers."""
    if dtype in (None, tensor.dtype) or not tensor.is_floating_point():
        return tensor
    changed = tensor.detach().to(dtype)
    return nn.Parameter(changed, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else changed


def find_backbone(model: nn.Module, where: str | None = None) -> tuple[str, Adapter]:
    """Path and adapter of the one supported backbone inside ``model``; ValueError if there is none or several.

    Args:
        where: path of the one that is meant, where there are several.
    """
    found = {path: adapter for path, module in model.named_modules() if (adapter := adapter_of(module))}
    if where is not None:
        found = {path: adapter for path, adapter in found.items() if path == where}
    if len(found) == 1:
        return next(iter(found.items()))
    place = type(model).__name__ if where is None else f"{type(model).__name__} at {where!r}"
    if found:
        raise ValueError(f"{place} has several backbones: give one of {', '.join(map(repr, found))} as where=")
    kinds = ", ".join(name.rpartition(".")[2] for name in ADAPTERS)
    raise ValueError(f"expected a supported backbone ({kinds}) in {place}, got none")


def adapter_of(module: nn.Module) -> Adapter | None:
    """The adapter for the class of ``module`` or for one that it derives from."""
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(module).__mro__)
    return next((ADAPTERS[name] for name in names if name in ADAPTERS), None)
