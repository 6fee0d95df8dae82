"""``expedit list``."""

from __future__ import annotations

import argparse

from . import console


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
    for table in (models, library, methods, data, tables):
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


def _settings(method: object) -> str:
    from dataclasses import fields

    return ", ".join(f"{f.name}={getattr(method, f.name)!r}" for f in fields(method))  # type: ignore[arg-type]
