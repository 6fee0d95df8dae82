"""One call: a model and a method in, a faster model out; the model given stays as it was."""

from __future__ import annotations

import copy
from inspect import signature
from itertools import chain
from types import ModuleType
from typing import Any, TypeVar

from torch import nn

from .backbones import ADAPTERS
from .core import Method, Plan
from .spec import parse

Model = TypeVar("Model", bound=nn.Module)


def accelerate(model: Model, method: Method | str, **options: Any) -> Model:
    """A new model of the same type that runs ``method`` and shares every parameter and buffer with ``model``.

    Args:
        model: a supported backbone or any module that contains exactly one.
        method: a method object or its spec string, such as ``"expedit(alpha=10, grid=(28, 28))"``.
        **options: of the backbone's adapter. Swin: ``official_shift_mask`` and ``official_padding``, both off by
            default; published rows were measured with both on.

    Raises:
        ValueError: no supported backbone in the model, a method is at work already, the method does not fit, or an
            option that the backbone does not have.
    """
    method = parse(method)
    twin = share(model)
    path, adapter = find_backbone(twin)
    backbone = twin.get_submodule(path)
    if adapter.plan(backbone) != Plan():
        raise ValueError("this model is accelerated already; call accelerate() on the original model")
    net = adapter.anatomy(backbone)
    accepted = list(signature(adapter.install).parameters)[2:]
    if unknown := [option for option in options if option not in accepted]:
        raise ValueError(
            f"{type(backbone).__name__}: unknown option {', '.join(unknown)}; accepted: {', '.join(accepted) or 'none'}"
        )
    installed = adapter.install(backbone, Plan.of(method.cuts(net), net), **options)
    if not path:
        return installed
    parent, _, name = path.rpartition(".")
    setattr(twin.get_submodule(parent), name, installed)
    return twin


def share(model: Model) -> Model:
    """A copy of the module tree around the same parameters and buffers."""
    tensors = chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def find_backbone(model: nn.Module) -> tuple[str, ModuleType]:
    """Path and adapter of the one supported backbone inside ``model``; ValueError if there is none or several."""
    found = [
        (path, ADAPTERS[name])
        for path, module in model.named_modules()
        if (name := f"{type(module).__module__}.{type(module).__qualname__}") in ADAPTERS
    ]
    if len(found) != 1:
        kinds = ", ".join(ADAPTERS)
        raise ValueError(
            f"expected exactly one supported backbone ({kinds}) in {type(model).__name__}, got {len(found)}"
        )
    return found[0]
