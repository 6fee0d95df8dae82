"""``expedit list``."""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import TYPE_CHECKING

from . import console

if TYPE_CHECKING:
    from rich.table import Table

    from ..backbones import Adapter
    from ..core import Method


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The lists are short."""
    parser.add_argument("--presets", action="store_true", help="only the settings that have a name, as in -m mild")


def run(args: argparse.Namespace) -> int:
    """Print models, architectures, methods with their settings, data sets and recipes."""
    from rich.table import Table

    if args.presets:
        return _presets()
    from .. import recipes
    from ..checkpoints.zoo import ARCHITECTURES, SHIPPED
    from ..data import LAYOUTS
    from ..methods import METHODS
    from ..models.families import FAMILIES, ONLY_ACCELERATED

    models = Table("model", "weights", title="Models", title_justify="left")
    for name in SHIPPED:
        models.add_row(name, "ship with the package")
    for name in ARCHITECTURES:
        models.add_row(name, "yours: give the path of a checkpoint")
    methods = Table("method", "settings and defaults", title="Methods", title_justify="left")
    for name, method in METHODS.items():
        methods.add_row(name, _settings(method()))
    data = Table("data set", "for", title="Data sets", title_justify="left")
    for layout in LAYOUTS.values():
        data.add_row(layout.name, layout.task if layout.task == "depth" else f"{layout.task} segmentation")
    tables = Table("recipe", "table", title="Recipes", title_justify="left")
    for name in recipes.names():
        tables.add_row(name, recipes.load_recipe(name).title)
    families: dict[str, dict[str, None]] = {}
    for family in FAMILIES.values():
        families.setdefault(family.title, {}).update(dict.fromkeys(family.tasks))
    library = Table("network of transformers", "load and predict", title="Folders and hub names", title_justify="left")
    for title, tasks in families.items():
        library.add_row(title, ", ".join(tasks))
    for name, why in ONLY_ACCELERATED.items():
        library.add_row(name, f"accelerate only: it {why}")
    for table in (models, library, _cuts(), methods, data, tables):
        console.output().print(table)
    return 0


def _presets() -> int:
    """Print what each name stands for, and what was measured of it."""
    from rich.table import Table

    from ..methods import PRESETS

    title = "Presets, measured with DINOv2 ViT-S/14 and a linear head on CamVid"
    table = Table("name", "networks for", "method", "multiply-adds", "mIoU", title=title, title_justify="left")
    for name, setting in PRESETS.items():
        kinds = (("images of any size", setting.method), ("images of one size", setting.fixed))
        for (kind, method), delta in zip(kinds, setting.delta, strict=True):
            table.add_row(name, kind, repr(method), f"{setting.macs:.2f}", delta)
    console.output().print(table)
    return 0


def _cuts() -> Table:
    """Which methods, with their defaults, run on which backbones."""
    from rich.table import Table

    from ..backbones import ADAPTERS
    from ..methods import METHODS

    kinds: dict[Adapter, list[str]] = {}
    for name, adapter in ADAPTERS.items():
        kinds.setdefault(adapter, []).append(name.rpartition(".")[2])
    table = Table("backbone, alone or inside a model", "methods", title="Backbones", title_justify="left")
    for adapter, names in kinds.items():
        fitting = [name for name, kind in METHODS.items() if _fits(kind(), adapter)]
        table.add_row(", ".join(names), "all" if len(fitting) == len(METHODS) else ", ".join(fitting))
    return table


def _fits(method: Method, adapter: Adapter) -> bool:
    """Whether a network of 24 blocks with this adapter can run it."""
    from ..core import Anatomy, Grid, Plan

    lattice = Grid(40, 40)
    for sized in (True, False):  # a method may do without sizes where attention cannot weigh tokens
        net = Anatomy(24, prefix=1, heads=16, head_dim=64, grid=lattice, guides=adapter.guides, sized=sized)
        with suppress(ValueError):
            adapter.check(Plan.of(method.cuts(net), net), lattice)
            return True
    return False


def _settings(method: Method) -> str:
    from dataclasses import fields

    return ", ".join(f"{f.name}={getattr(method, f.name)!r}" for f in fields(method))  # type: ignore[arg-type]
