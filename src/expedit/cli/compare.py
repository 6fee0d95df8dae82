"""``expedit compare [RECIPE]``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import console
from .options import add_machine, add_methods, add_window_batch, check_device, dtype_of, positive

if TYPE_CHECKING:
    from torch import nn

    from ..comparison.compare import Contest, Score
    from ..comparison.result import Row
    from ..core import Method
    from ..cost.benchmark import Counted, Timed
    from ..data.layouts import DataSet
    from ..recipes import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.description = (
        "Compare methods on a data set. Without arguments: a small model that ships with the package, on pictures it "
        "draws itself. With the name of a published table: that table, ours beside theirs."
    )
    parser.add_argument("recipe", nargs="?", default="toy", help="a recipe, by name or file (default: toy)")
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


def run(args: argparse.Namespace) -> int:
    """Count, time, evaluate, report."""
    from ..comparison.compare import write_tables
    from ..cost.speed import environment, threads
    from ..recipes import load_recipe
    from .predict import writable
    from .tables import show_comparison

    recipe = load_recipe(args.recipe)
    writable(args.output)
    check_device(args.device)
    without = args.macs_only or args.speed_only
    data: Any = None if without else open_data(recipe, args)
    model = load_model(recipe, args, without)
    height, width = size_of(model, recipe)
    with threads(args.threads):
        facts = {
            "model": args.weights or recipe.architecture,
            "data": "none" if data is None else f"{recipe.data}, {recipe.split}",
            "images": "0" if data is None else str(images_of(data, recipe, args)),
            "image size": f"{height} x {width}",
            **environment(args.device, dtype_of(args)),
            "command": shlex.join(("expedit", *sys.argv[1:])),
        }
        table, contest, counted = compare(model, data, recipe, args)
    write_tables(args.output, table, facts)
    written = ["table.csv", "table.json"]
    if contest is not None and data is not None:
        report(contest, data, table, facts, args)
        written.append("report.html")
    show_comparison(recipe, table, counted, facts, bool(args.method))
    print(f"written to {args.output}: {', '.join(written)}")
    return 0


def methods_of(recipe: Recipe, args: argparse.Namespace) -> tuple[list[Method], list[Method]]:
    """Methods to count and time, and those to evaluate: of a published row the figures may be of two settings."""
    from ..spec import parse

    if args.method:
        own = [parse(spec) for spec in args.method]
        return own, own
    measured, evaluated = ([row.parsed_counted() for row in recipe.rows], [row.parsed() for row in recipe.rows])
    return [method for method in measured if method], [method for method in evaluated if method]


def size_of(model: nn.Module, recipe: Recipe) -> tuple[int, int]:
    """(height, width) in pixels at which the rows are counted and timed."""
    from ..cost.macs import nominal_size

    return nominal_size(model) if recipe.measured_at is None else recipe.measured_at[1:]


def open_data(recipe: Recipe, args: argparse.Namespace) -> DataSet:
    """The recipe's data set; ValueError if it needs a place and none was given."""
    from ..data import LAYOUTS, open_dataset

    if recipe.data == "toy":
        return open_dataset("toy", recipe.split)
    if args.data is None:
        raise ValueError(f"{recipe.name}: give the {recipe.data} data with --data PATH, or use --speed-only")
    place, settings = f"{recipe.data}:{args.data}", {} if args.classes is None else {"classes": args.classes}
    return open_dataset(place, recipe.split, LAYOUTS[recipe.data].task, **settings)


def load_model(recipe: Recipe, args: argparse.Namespace, without: bool) -> nn.Module:
    """The recipe's model, on the device and in the dtype asked for; random weights only where none are needed."""
    from ..checkpoints.zoo import SHIPPED, build, load

    model: nn.Module
    if args.weights is not None:
        model = load(args.weights, norm_eps=recipe.norm_eps, pos_embed=recipe.pos_embed)
    elif recipe.architecture in SHIPPED:
        model = load(recipe.architecture)
    elif without:
        light = args.macs_only and all(method.static for method in methods_of(recipe, args)[0])
        model = build(recipe.architecture, device="meta" if light else "cpu")
    else:
        raise ValueError(f"{recipe.name}: give its checkpoint with --weights PATH ({recipe.weights})")
    return model if args.macs_only else model.to(args.device, dtype_of(args))


def images_of(data: DataSet, recipe: Recipe, args: argparse.Namespace) -> int:
    """How many images to evaluate."""
    return min(args.limit or recipe.images, len(data))


def compare(
    model: nn.Module, data: Any, recipe: Recipe, args: argparse.Namespace
) -> tuple[list[Row], Contest | None, list[Counted]]:
    """The three phases, with progress: count, time, evaluate."""
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TimeRemainingColumn

    from ..comparison.compare import first_window, rows
    from ..cost.benchmark import count, measure, rounds_of
    from ..cost.macs import noise
    from ..models import Segmenter

    size, options, (methods, evaluated) = size_of(model, recipe), recipe.options, methods_of(recipe, args)
    pixels = first_window(model, data[0]) if data is not None and isinstance(model, Segmenter) else None
    columns = (SpinnerColumn(), *Progress.get_default_columns()[:3], MofNCompleteColumn(), TimeRemainingColumn())
    timed: list[Timed] = []
    with Progress(*columns, console=console.notes(), transient=True) as progress:

        def step_of(text: str, total: int) -> Callable[[], None]:
            task = progress.add_task(text, total=total)
            return lambda: progress.advance(task)

        frames = 1 if recipe.measured_at is None else recipe.measured_at[0]
        step = step_of("counting multiply-adds", 1 + len(methods))
        counted = count(model, methods, size, pixels, options, step, frames)
        if not args.macs_only:
            pixels = noise(size, next(model.parameters())) if pixels is None else pixels
            step = step_of("timing, interleaved", rounds_of(args.rounds, args.device, False) * len(counted))
            timed = measure(model, methods, counted, pixels, args.rounds, options, step)
        if data is None:
            return rows(counted, timed, None), None, counted
        contest, scores = judge(model, evaluated, data, recipe, args, step_of)
    return rows(counted, timed, scores), contest, counted


def judge(
    model: nn.Module,
    methods: Sequence[Method],
    data: Any,
    recipe: Recipe,
    args: argparse.Namespace,
    step_of: Callable[[str, int], Callable[[], None]],
) -> tuple[Contest | None, list[Score]]:
    """What dense model and methods get right: image by image side by side, or, with queries, one after the other."""
    from ..comparison.compare import Contest, run, score
    from ..evaluation.resume import Partial
    from ..models import Segmenter
    from ..surgery import accelerate

    images = images_of(data, recipe, args)
    folder, settings = args.output / "state", settings_of(images, recipe, args) if args.resume else {}
    if isinstance(model, Segmenter):
        contest = Contest(model, methods, args.window_batch)
        state = Partial(folder, {**settings, "methods": list(contest.models)}) if args.resume else None
        run(contest, data, images, state, step_of("evaluating", images))
        return contest, contest.scores()
    scores = []
    for place, method in enumerate((None, *methods)):
        name = "dense" if method is None else repr(method)
        network = model if method is None else accelerate(model, method, **dict[str, Any](recipe.options))
        own, step = folder / str(place), step_of(f"evaluating {name.partition('(')[0]}", images)
        scores.append(score(network, data, images, own if args.resume else None, {**settings, "methods": [name]}, step))
    return None, scores


def settings_of(images: int, recipe: Recipe, args: argparse.Namespace) -> dict[str, Any]:
    """What kept images depend on."""
    from ..checkpoints.convert import sha256, weights_of
    from ..checkpoints.zoo import SHIPPED

    return {
        "weights": sha256(weights_of(Path(args.weights) if args.weights else SHIPPED[recipe.architecture])),
        "norm_eps": recipe.norm_eps,
        "pos_embed": recipe.pos_embed,
        "options": dict(recipe.options),
        "data": recipe.data if args.data is None else str(Path(args.data).resolve()),
        "classes": None if args.classes is None else args.classes.read_text(encoding="utf-8"),
        "split": recipe.split,
        "images": images,
        "dtype": args.dtype,
    }


def report(
    contest: Contest, data: DataSet, table: Sequence[Row], facts: dict[str, str], args: argparse.Namespace
) -> None:
    """The HTML report, with pictures of the first images."""
    from ..comparison.report import write_report

    examples = [contest.example(data[index]) for index in range(min(args.examples, len(data)))]
    card = contest.model.card
    title = f"{facts['model']} on {facts['data']}"
    write_report(args.output / "report.html", title, table, examples, card.classes, card.palette, facts)
