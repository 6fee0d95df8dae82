"""``expedit compare [RECIPE]``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import console
from .options import add_machine, add_methods, check_device, dtype_of

if TYPE_CHECKING:
    from ..core import Method
    from ..data import SemanticData
    from ..measure.benchmark import Counted, Timed
    from ..measure.compare import Contest
    from ..measure.rows import Row
    from ..models import Segmenter
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
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    parser.add_argument("--examples", type=int, default=4, metavar="N", help="pictures in the report (default: 4)")
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="timed rounds (default: 15)")
    parser.add_argument("--window-batch", type=int, default=1, metavar="N", help="sliding windows per run (default: 1)")
    parser.add_argument("--macs-only", action="store_true", help="count only; needs neither data nor weights")
    parser.add_argument("--speed-only", action="store_true", help="count and time; needs neither data nor weights")
    parser.add_argument("--resume", action="store_true", help="go on where a killed run of the same settings was")
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    """Count, time, evaluate, report."""
    from ..measure.compare import write_tables
    from ..measure.speed import environment, threads
    from ..recipes import load_recipe
    from ..spec import parse
    from .predict import writable

    recipe = load_recipe(args.recipe)
    methods = [parse(spec) for spec in args.method] or [m for row in recipe.rows if (m := row.parsed())]
    writable(args.output)
    check_device(args.device)
    without = args.macs_only or args.speed_only
    data = None if without else open_data(recipe, args)
    model = load_model(recipe, args, without)
    with threads(args.threads):
        facts = {
            "model": args.weights or recipe.architecture,
            "data": "none" if data is None else f"{recipe.data}, {recipe.split}",
            "images": "0" if data is None else str(images_of(data, recipe, args)),
            "image size": f"{model.card.crop} x {model.card.crop}",
            **environment(args.device, dtype_of(args)),
            "command": shlex.join(("expedit", *sys.argv[1:])),
        }
        table, contest, counted = compare(model, methods, data, recipe, args)
    write_tables(args.output, table, facts)
    if contest is not None and data is not None:
        report(contest, data, table, facts, args)
    show(recipe, table, counted, facts, bool(args.method))
    print(f"written to {args.output}: {', '.join(sorted(path.name for path in args.output.glob('[rt]*.*')))}")
    return 0


def open_data(recipe: Recipe, args: argparse.Namespace) -> SemanticData:
    """The recipe's data set; ValueError if it needs a place and none was given."""
    from ..data import open_dataset

    if recipe.data == "toy":
        return open_dataset("toy", recipe.split)
    if args.data is None:
        raise ValueError(f"{recipe.name}: give the {recipe.data} data with --data PATH, or use --speed-only")
    settings = {} if args.classes is None else {"classes": args.classes}
    return open_dataset(f"{recipe.data}:{args.data}", recipe.split, **settings)


def load_model(recipe: Recipe, args: argparse.Namespace, without: bool) -> Segmenter:
    """The recipe's model, on the device and in the dtype asked for; random weights only where none are needed."""
    from ..models.zoo import SHIPPED, build, load

    model: Any
    if args.weights is not None:
        model = load(args.weights, norm_eps=recipe.norm_eps, pos_embed=recipe.pos_embed)
    elif recipe.architecture in SHIPPED:
        model = load(recipe.architecture)
    elif without:
        model = build(recipe.architecture, device="meta" if args.macs_only else "cpu")
    else:
        raise ValueError(f"{recipe.name}: give its checkpoint with --weights PATH ({recipe.weights})")
    return model if args.macs_only else model.to(args.device, dtype_of(args))


def images_of(data: SemanticData, recipe: Recipe, args: argparse.Namespace) -> int:
    """How many images to evaluate."""
    if args.limit is not None and args.limit < 1:
        raise ValueError(f"--limit: expected at least 1 image, got {args.limit}")
    return min(args.limit or recipe.images, len(data))


def compare(
    model: Segmenter,
    methods: Sequence[Method],
    data: SemanticData | None,
    recipe: Recipe,
    args: argparse.Namespace,
) -> tuple[list[Row], Contest | None, list[Counted]]:
    """The three phases, with progress: count, time, evaluate."""
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TimeRemainingColumn

    from ..measure.benchmark import count, measure
    from ..measure.compare import Contest, first_window, rows, run
    from ..measure.macs import noise

    assert model.card.crop is not None, "a Segmenter slides a window"
    size = (model.card.crop, model.card.crop)
    pixels = None if data is None else first_window(model, data[0])
    columns = (SpinnerColumn(), *Progress.get_default_columns()[:3], MofNCompleteColumn(), TimeRemainingColumn())
    timed: list[Timed] = []
    contest = None
    with Progress(*columns, console=console.notes(), transient=True) as progress:
        task = progress.add_task("counting multiply-adds", total=1 + len(methods))
        counted = count(model, methods, size, pixels, progress=lambda: progress.advance(task))
        if not args.macs_only:
            pixels = noise(size, next(model.parameters())) if pixels is None else pixels
            task = progress.add_task("timing, interleaved", total=(1 + args.rounds) * len(counted))
            timed = measure(model, methods, counted, pixels, args.rounds, progress=lambda: progress.advance(task))
        if data is not None:
            contest = Contest(model, methods, args.window_batch)
            images = images_of(data, recipe, args)
            task = progress.add_task("evaluating", total=images)
            run(contest, data, images, state_of(contest, recipe, args), lambda: progress.advance(task))
    return rows(counted, timed, contest), contest, counted


def state_of(contest: Contest, recipe: Recipe, args: argparse.Namespace) -> Any:
    """Where finished images are kept, if that is wanted."""
    from ..measure.partial import Partial

    if not args.resume:
        return None
    settings = {"recipe": recipe.name, "data": args.data, "weights": args.weights, "dtype": args.dtype}
    return Partial(args.output / "state", {**settings, "methods": list(contest.models)})


def report(
    contest: Contest, data: SemanticData, table: Sequence[Row], facts: dict[str, str], args: argparse.Namespace
) -> None:
    """The HTML report, with pictures of the first images."""
    from ..measure.report import write_report

    examples = [contest.example(data[index]) for index in range(min(args.examples, len(data)))]
    card = contest.model.card
    title = f"{facts['model']} on {facts['data']}"
    write_report(args.output / "report.html", title, table, examples, card.classes, card.palette, facts)


def show(
    recipe: Recipe, table: Sequence[Row], counted: Sequence[Counted], facts: dict[str, str], own_methods: bool
) -> None:
    """The table in the terminal; published figures beside ours where the rows are the recipe's."""
    from rich.table import Table

    published = [] if own_methods else [row.published for row in recipe.rows]
    theirs = any(figures is not None for figures in published)
    title = f"{recipe.title} · " + ", ".join(f"{key} {facts[key]}" for key in ("images", "threads", "dtype", "device"))
    columns = ["method", "tokens", "GMACs", "MAC ratio", "ms", "speed-up", "efficiency", "mIoU", "Δ", "agreement"]
    out = Table(title=title, title_justify="left")
    for name in columns + (["their GFLOPs (ours)", "their speed-up", "their mIoU (ours − theirs)"] if theirs else []):
        out.add_column(name, no_wrap=name != "method", justify="left" if name == "method" else "right")
    for place, row in enumerate(table):
        cells = [
            row.spec,
            f"{row.tokens:.0f}",
            f"{row.gmacs:.2f}",
            f"{row.mac_ratio:.2f}",
            _cell(row.ms, "{:.1f}"),
            _cell(row.speedup, "{:.2f}"),
            _cell(row.efficiency, "{:.2f}"),
            _cell(row.miou, "{:.2f}", 100),
            _cell(row.delta_miou, "{:+.2f}", 100),
            _cell(row.agreement, "{:.1f} %", 100),
        ]
        if theirs:
            cells += _theirs(published[place], published[0], row, counted[place])
        out.add_row(*cells)
    console.output().print(out)


def _theirs(published: Any, dense: Any, row: Row, counted: Counted) -> list[str]:
    """Published figures of a row, with ours in the same convention behind them."""
    miou = "" if row.miou is None else f" ({100 * row.miou - published.miou:+.2f})"
    return [
        f"{published.gflops:.2f} ({counted.published_convention_gmacs:.2f})",
        f"{published.fps / dense.fps:.2f}",
        f"{published.miou:.2f}{miou}",
    ]


def _cell(value: float | None, form: str, scale: float = 1) -> str:
    return "-" if value is None else form.format(scale * value)
