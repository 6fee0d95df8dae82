"""``expedit compare [RECIPE]``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import compare_images
from .evaluate import journal_of, judge_of, shown
from .options import (
    add_library,
    add_machine,
    add_methods,
    add_pixels,
    add_window_batch,
    check_device,
    default_workers,
    device_of,
    dtype_of,
    positive,
)
from .outputs import Outputs, add_overwrite
from .unused import by_card, by_photographs, by_recipe, counting_only, refuse_unused, without_data

if TYPE_CHECKING:
    from rich.progress import Progress
    from torch import nn

    from ..comparison.result import Comparison, Printed
    from ..core import Method
    from ..cost.benchmark import Counted, Timed
    from ..data.layouts import DataSet
    from ..evaluation.evaluate import Evaluation
    from ..evaluation.judge import Judge
    from ..evaluation.processes import Processes
    from ..recipes import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.description = (
        "Compare methods on a data set. Without arguments: a small model that ships with the package, on pictures it "
        "draws itself. With the name of a published table: that table, ours beside theirs. For many GPUs or processes: "
        "torchrun --nproc-per-node N -m expedit compare …"
    )
    parser.add_argument("recipe", nargs="?", default="toy", help="a recipe, by name or file (default: toy)")
    parser.add_argument(
        "images",
        nargs="?",
        type=Path,
        help="photographs without labels, a folder or one: then RECIPE is a model, by name, path or hub name, and is"
        " compared with its accelerated selves",
    )
    parser.add_argument("--data", metavar="DATA", help="where the recipe's data set is: a folder or its zip")
    parser.add_argument("--classes", type=Path, metavar="FILE", help="class list of a folder without classes.txt")
    parser.add_argument("--weights", metavar="PATH", help="the checkpoint that the recipe needs")
    add_methods(parser)
    parser.add_argument("-o", "--output", type=Path, default=Path("expedit-report"), metavar="DIR")
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N images")
    parser.add_argument("--examples", type=int, default=4, metavar="N", help="pictures in the report (default: 4)")
    parser.add_argument("--rounds", type=positive, default=15, metavar="N", help="timed rounds (default: 15)")
    add_window_batch(parser)
    parser.add_argument("--macs-only", action="store_true", help="count only; needs neither data nor weights")
    parser.add_argument("--speed-only", action="store_true", help="count and time; needs neither data nor weights")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep the state in DIR and go on from what is there, after a kill for example",
    )
    add_machine(parser)
    add_pixels(parser)
    add_overwrite(parser)
    add_library(parser)


def run(args: argparse.Namespace) -> int:
    """Count, time, evaluate, report; the first process counts, times, prints and writes."""
    from ..comparison.compare import example, write_tables
    from ..comparison.report import write_report
    from ..cost.speed import threads
    from ..evaluation.processes import launched
    from ..models.card import card_of
    from ..recipes import load_recipe
    from .tables import show_comparison

    if args.images is not None:
        refuse_unused(args, by_photographs(args))
        check_outputs(args)
        return compare_images.run(args)
    recipe, written = load_recipe(args.recipe), ["table.csv", "table.json"]
    refuse_unused(args, by_recipe(recipe), counting_only(args), without_data(args))
    check_outputs(args)
    check_device(args.device)
    with launched() as processes, threads(args.threads), shown(processes) as progress:
        data = None if args.macs_only or args.speed_only else data_of(recipe, args)
        model = load_model(recipe, args, processes, light=data is None)
        refuse_unused(args, by_card(card_of(model)))
        counted, timed = measured(model, data, recipe, args, progress) if not processes.rank else ([], [])
        evaluations: list[Evaluation] = []
        if data is not None:
            judge, models = judge_of(card_of(model), data, args), contestants_of(model, recipe, args)
            evaluations = evaluated(models, data, judge, recipe, args, processes, progress)
        if processes.rank:
            return 0
        comparison = summary(model, data, recipe, args, counted, timed, evaluations)
        examples = []
        if data is not None:
            examples = [example(models, data, judge, index) for index in range(min(args.examples, len(data)))]
    show_comparison(comparison)  # first, in case that it cannot be written after all
    write_tables(args.output, comparison)
    if data is not None:
        write_report(args.output / "report.html", comparison, examples)
        written.append("report.html")
    print(f"written to {args.output}: {', '.join(written)}")
    return 0


def check_outputs(args: argparse.Namespace) -> None:
    """Raise before the work if results could not be written or would replace somebody else's files."""
    outputs = Outputs(args.overwrite, tuple(Path(place) for place in (args.data, args.weights) if place))
    outputs.check_file(args.output / "table.json")
    outputs.check_file(args.output / "table.csv", beginning=b"spec,tokens,")
    outputs.check_file(args.output / "report.html")


def methods_of(recipe: Recipe, args: argparse.Namespace) -> tuple[list[Method], list[Method]]:
    """Methods to count and time, and those to evaluate: the scores of a published row may be of other settings."""
    from ..spec import parse

    if args.method:
        own = [parse(spec) for spec in args.method]
        return own, own
    measured, evaluated = ([row.parsed_counted() for row in recipe.rows], [row.parsed() for row in recipe.rows])
    return [method for method in measured if method], [method for method in evaluated if method]


def data_of(recipe: Recipe, args: argparse.Namespace) -> DataSet:
    """The recipe's data set; ValueError if it needs a place and none was given."""
    from ..data import LAYOUTS, open_dataset

    if recipe.data == "toy":
        return open_dataset("toy", recipe.split)
    if args.data is None:
        raise ValueError(f"{recipe.name}: give the {recipe.data} data with --data PATH, or use --speed-only")
    settings = {} if args.classes is None else {"classes": args.classes}
    return open_dataset(f"{recipe.data}:{args.data}", recipe.split, LAYOUTS[recipe.data].task, **settings)


def load_model(recipe: Recipe, args: argparse.Namespace, processes: Processes, light: bool) -> nn.Module:
    """The recipe's model, on the device and in the dtype asked for; ``light``: random weights will do."""
    from ..checkpoints.zoo import SHIPPED, build, load

    model: nn.Module
    if args.weights is not None:
        model = load(args.weights, norm_eps=recipe.norm_eps, pos_embed=recipe.pos_embed)
    elif recipe.architecture in SHIPPED:
        model = load(recipe.architecture)
    elif light:
        static = args.macs_only and all(method.static for method in methods_of(recipe, args)[0])
        model = build(recipe.architecture, device="meta" if static else "cpu")
    else:
        raise ValueError(f"{recipe.name}: give its checkpoint with --weights PATH ({recipe.weights})")
    return model if args.macs_only else model.to(device_of(args, processes), dtype_of(args))


def measured(
    model: nn.Module, data: DataSet | None, recipe: Recipe, args: argparse.Namespace, progress: Progress
) -> tuple[list[Counted], list[Timed]]:
    """Multiply-adds and times of the dense model and of every method."""
    from ..comparison.compare import first_window
    from ..cost.benchmark import count, measure, rounds_of
    from ..cost.macs import noise
    from ..models import Segmenter

    def step_of(text: str, total: int) -> Callable[[], None]:
        task = progress.add_task(text, total=total)
        return lambda: progress.advance(task)

    (methods, _), (frames, *size) = methods_of(recipe, args), measured_at(model, recipe)
    image = size[0], size[1]
    pixels = first_window(model, data[0].image) if data is not None and isinstance(model, Segmenter) else None
    step = step_of("counting multiply-adds", 1 + len(methods))
    counted = count(model, methods, image, pixels, recipe.options, step, frames)
    if args.macs_only:
        return counted, []
    pixels = noise(image, next(model.parameters())) if pixels is None else pixels
    step = step_of("timing, interleaved", rounds_of(args.rounds, args.device, False) * len(counted))
    return counted, measure(model, methods, counted, pixels, args.rounds, recipe.options, step)


def measured_at(model: nn.Module, recipe: Recipe) -> tuple[int, int, int]:
    """(frames, height, width) at which the rows are counted and timed."""
    from ..cost.macs import nominal_size

    return recipe.measured_at or (1, *nominal_size(model))


def contestants_of(model: nn.Module, recipe: Recipe, args: argparse.Namespace) -> dict[str, nn.Module]:
    """The models to evaluate by name, dense first."""
    from ..comparison.compare import contestants

    return contestants(model, methods_of(recipe, args)[1], recipe.options)


def evaluated(
    models: dict[str, nn.Module],
    data: DataSet,
    judge: Judge,
    recipe: Recipe,
    args: argparse.Namespace,
    processes: Processes,
    progress: Progress,
) -> list[Evaluation]:
    """Of every row in the first process, nothing in the others."""
    from ..comparison.compare import DENSE
    from ..evaluation.evaluate import Run, evaluate

    source, task = args.weights or recipe.architecture, progress.add_task("evaluating", total=None)
    settings = Run(
        limit=args.limit or recipe.images,
        workers=default_workers(),
        against=None if judge.agreement is None else DENSE,
        processes=processes,
        journal=journal_of(args.output / "state", source, data, settings_of(recipe, args)) if args.resume else None,
        progress=lambda done, total: progress.update(task, completed=done, total=total),
    )
    found = evaluate(models, data, judge, settings)
    names = [DENSE, *map(repr, methods_of(recipe, args)[1])]
    return [found[name] for name in names] if found else []


def settings_of(recipe: Recipe, args: argparse.Namespace) -> dict[str, Any]:
    """Everything that records depend on beside weights, method and image."""
    return {
        "norm_eps": recipe.norm_eps,
        "pos_embed": recipe.pos_embed,
        "options": dict(recipe.options),
        "data": recipe.data if args.data is None else str(Path(args.data).resolve()),
        "classes": None if args.classes is None else args.classes.read_text(encoding="utf-8"),
        "split": recipe.split,
        "dtype": args.dtype,
    }


def summary(
    model: nn.Module,
    data: DataSet | None,
    recipe: Recipe,
    args: argparse.Namespace,
    counted: Sequence[Counted],
    timed: Sequence[Timed],
    evaluations: Sequence[Evaluation],
) -> Comparison:
    """The rows, and what they were measured on."""
    from ..comparison.compare import rows
    from ..comparison.result import Comparison
    from ..cost.speed import environment
    from ..data import LAYOUTS
    from ..evaluation.judges import JUDGES

    judge, (_, height, width) = JUDGES[LAYOUTS[recipe.data].task], measured_at(model, recipe)
    facts = {
        "model": args.weights or recipe.architecture,
        "data": "none" if data is None else f"{recipe.data}, {recipe.split}",
        "images": str(evaluations[0].pace.images if evaluations else 0),
        "image size": f"{height} x {width}",
        **environment(args.device, dtype_of(args)),
        "command": shlex.join(("expedit", *sys.argv[1:])),
    }
    name, printed = judge.headline.title, printed_of(recipe, judge.headline.key.lower())
    notes = [
        f"{name} is of {row.method}, everything else of {row.counted}. {row.note}"
        for row in recipe.rows
        if row.counted and not args.method
    ]
    table = rows(counted, timed, evaluations, [None] * len(counted) if args.method else printed)
    return Comparison(recipe.title, judge.headline, judge.agreement, table, facts, tuple(notes))


def printed_of(recipe: Recipe, metric: str) -> list[Printed | None]:
    """What the published table says of every row."""
    from ..comparison.result import Printed

    dense = recipe.rows[0].published
    return [
        None if p is None or dense is None else Printed(p.gflops, p.fps / dense.fps, getattr(p, metric) / 100)
        for p in (row.published for row in recipe.rows)
    ]
