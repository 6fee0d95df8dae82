"""One adapter per backbone family; each knows no method and at most one third-party model library.

An adapter is a module with three functions: ``anatomy(backbone)`` tells what methods may know, ``install(backbone,
plan)`` returns the backbone with the cuts of ``plan``, ``is_cut(backbone)`` tells whether it has some already.
"""

from types import ModuleType

from . import vit

ADAPTERS: dict[str, ModuleType] = {"expedit.models.vit.ViT": vit}
"""Adapter by the full name of the backbone's class, so that looking for one imports no model library."""

__all__ = ["ADAPTERS"]
