"""One adapter per backbone family; each knows no method and at most one third-party model library.

An adapter is a module with five functions: ``anatomy(backbone)`` tells what methods may know, ``install(backbone,
plan, **options)`` returns the backbone with the cuts of ``plan``, ``plan(backbone)`` tells the cuts it has,
``branches(backbone)`` lists the modules whose inputs count as tokens, and ``owner(backbone, owners, image)`` lays the
clusters that reducers made out over the picture.
"""

from types import ModuleType

from . import swin, vit

ADAPTERS: dict[str, ModuleType] = {
    "expedit.models.vit.ViT": vit,
    "transformers.models.swin.modeling_swin.SwinModel": swin,
}
"""Adapter by the full name of the backbone's class, so that looking for one imports no model library."""

__all__ = ["ADAPTERS"]
