"""One call: a model and a method in, a faster model out; the model given stays as it was."""

from __future__ import annotations

import copy
from itertools import chain
from types import ModuleType
from typing import TypeVar

from torch import nn

from .backbones import ADAPTERS
from .core import Method, Plan
from .spec import parse

Model = TypeVar("Model", bound=nn.Module)


def accelerate(model: Model, method: Method | str) -> Model:
    """A new model of the same type that runs ``method`` and shares every parameter and buffer with ``model``.

    Args:
        model: a supported backbone or any module that contains exactly one.
        method: a method object or its spec string, such as ``"expedit(alpha=10, grid=(28, 28))"``.

    Raises:
        ValueError: no supported backbone in the model, a method is at work already, or the method does not fit.
    """
    method = parse(method)
    twin = share(model)
    path, adapter = find_backbone(twin)
    backbone = twin.get_submodule(path)
    if adapter.plan(backbone) != Plan():
        raise ValueError("this model is accelerated already; call accelerate() on the original model")
    net = adapter.anatomy(backbone)
    installed = adapter.install(backbone, Plan.of(method.cuts(net), net))
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
