"""``expedit compare MODEL IMAGES``: any model against its accelerated selves on photographs without labels."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .evaluate import shown
from .options import check_device, default_workers, dtype_of, library_of

if TYPE_CHECKING:
    from torch import nn

    from ..comparison.result import Comparison
    from ..core import Method
    from ..cost.benchmark import Counted, Timed
    from ..evaluation.evaluate import Evaluation

LADDER = ((5 / 12, 0.7), (1 / 3, 0.5), (1 / 6, 0.5))
"""Mild, medium and strong: share of the blocks that run dense, and of each side of the token lattice that is left."""


def run(args: argparse.Namespace) -> int:
    """Count, time, compare, report."""
    from ..checkpoints.zoo import load
    from ..comparison.compare import DENSE, contestants, example, write_tables
    from ..comparison.report import write_report
    from ..cost.speed import threads
    from ..data.photographs import open_photographs
    from ..evaluation.agreement import repetition_of
    from ..evaluation.evaluate import Run, evaluate
    from ..evaluation.processes import Processes
    from ..models.card import card_of
    from .tables import show_comparison

    data = open_photographs(args.images)
    model = load(args.recipe, **library_of(args)).to(check_device(args.device), dtype_of(args))
    judge, methods = repetition_of(card_of(model), data), methods_of(model, args)
    with threads(args.threads), shown(Processes()) as progress:
        counted, timed = _measured(model, methods, args)
        task = progress.add_task("comparing", total=None)
        models = contestants(model, methods, {})
        settings = Run(
            limit=args.limit,
            workers=default_workers(),
            against=DENSE,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
        found = evaluate(models, data, judge, settings)
        comparison = _summary(model, args, counted, timed, [found[name] for name in models])
        examples = [example(models, data, judge, index) for index in range(min(args.examples, len(data)))]
    write_tables(args.output, comparison)
    write_report(args.output / "report.html", comparison, examples)
    show_comparison(comparison)
    print(f"written to {args.output}: table.csv, table.json, report.html")
    return 0


def methods_of(model: nn.Module, args: argparse.Namespace) -> list[Method]:
    """Those asked for, or three settings of Expedit that suit the depth of the network."""
    from ..spec import parse
    from ..surgery import find_backbone

    if args.method:
        return [parse(spec) for spec in args.method]
    path, adapter = find_backbone(model)
    depth = adapter.anatomy(model.get_submodule(path)).depth
    return [parse(f"expedit(alpha={max(round(share * depth), 1)}, grid={side})") for share, side in LADDER]


def _measured(model: nn.Module, methods: list[Method], args: argparse.Namespace) -> tuple[list[Counted], list[Timed]]:
    """Multiply-adds and times at the size of one picture as the model takes it."""
    from ..cost.benchmark import count, measure
    from ..cost.macs import noise, nominal_size

    size = nominal_size(model)
    counted = count(model, methods, size)
    if args.macs_only:
        return counted, []
    return counted, measure(model, methods, counted, noise(size, next(model.parameters())), args.rounds)


def _summary(
    model: nn.Module,
    args: argparse.Namespace,
    counted: list[Counted],
    timed: list[Timed],
    evaluations: list[Evaluation],
) -> Comparison:
    from ..comparison.compare import rows
    from ..comparison.result import Comparison
    from ..cost.macs import nominal_size
    from ..cost.speed import environment
    from ..evaluation.agreement import REPETITIONS
    from ..models.card import card_of

    height, width = nominal_size(model)
    facts = {
        "model": args.recipe,
        "data": str(args.images),
        "images": str(evaluations[0].pace.images),
        "counted and timed at": f"{height} x {width}",
        **environment(args.device, dtype_of(args)),
        "command": shlex.join(("expedit", *sys.argv[1:])),
    }
    judge = REPETITIONS[card_of(model).task]
    table = rows(counted, timed, evaluations, [None] * len(counted))
    title = f"{Path(args.recipe).name} on {Path(args.images).name}"
    return Comparison(title, judge.headline, judge.agreement, table, facts)
