"""Arguments that would change nothing are errors. Here is which ones, by what the run is; what an argument is called in
``args`` comes with the reason.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..models.card import Card
    from ..recipes import Recipe

Reasons = dict[str, str]

CLIPS = ("frame_batch", "window", "overlap")
"""How a video model goes through a clip."""

TIMING = ("against", "batch", "rounds", "compile", "window_batch", "device", "dtype", "threads")
"""What only a run that is timed has a use for."""


def refuse_unused(args: argparse.Namespace, *reasons: Mapping[str, str]) -> None:
    """ValueError for the first argument on the command line that has a reason not to be there."""
    for name, why in (item for some in reasons for item in some.items()):
        if name in args.given:
            raise ValueError(f"--{name.replace('_', '-')}: {why}")


def without_method(args: argparse.Namespace) -> Reasons:
    """A dense model is run."""
    if args.method:
        return {}
    return {
        "option": "changes how a method runs; give a method with -m",
        "tokens": "a dense model clusters nothing; give a method with -m",
    }


def without_window(args: argparse.Namespace) -> Reasons:
    """A clip runs as a whole."""
    return {} if args.window else {"overlap": "is of windows; give --window, too"}


def by_card(card: Card, *more: str) -> Reasons:
    """What a model of this card has no use for; ``more`` are arguments of the verb that only video models have."""
    if card.task == "video":
        compiled = "a video model runs frame by frame and clip by clip, which is not compiled; leave it"
        whole = dict.fromkeys(("window_batch", "tokens"), "is for images, and this model takes videos; leave it")
        return {"compile": compiled, **whole}
    clips = dict.fromkeys((*CLIPS, *more), f"is for video models, and this model is {card.task}; leave it")
    return clips | ({} if card.crop else {"window_batch": "this model looks at whole images; leave it"})


def counting_only(args: argparse.Namespace) -> Reasons:
    """Nothing is timed."""
    return dict.fromkeys(TIMING, "--macs-only counts and times nothing; leave one of them") if args.macs_only else {}


def by_recipe(recipe: Recipe) -> Reasons:
    """What a recipe has no use for."""
    library = "is for networks of transformers; name a model and photographs instead of a recipe"
    reasons = dict.fromkeys(("revision", "task", "pixels"), library)
    if recipe.data == "toy":
        drawn = f"the recipe {recipe.name} draws its pictures itself; name another"
        return reasons | dict.fromkeys(("data", "classes", "max_pixels"), drawn)
    known = f"the classes of {recipe.data} are known; leave it"
    return reasons if recipe.data == "folder" else reasons | {"classes": known}


def by_photographs(args: argparse.Namespace) -> Reasons:
    """What a comparison on photographs without labels has no use for."""
    names = ("data", "classes", "weights", "resume", "speed_only", "window_batch")
    reasons = dict.fromkeys(names, "is for recipes, and this compares a model on photographs; leave it")
    return reasons | ({"rounds": "--macs-only times nothing; leave one of them"} if args.macs_only else {})


def without_data(args: argparse.Namespace) -> Reasons:
    """What a run that evaluates nothing has no use for."""
    if not (args.macs_only or args.speed_only):
        return {}
    why = f"--{'macs' if args.macs_only else 'speed'}-only reads no data; leave it"
    reasons = dict.fromkeys(("data", "classes", "max_pixels", "limit", "examples", "resume"), why)
    return reasons | ({"speed_only": "--macs-only times nothing; leave one of them"} if args.macs_only else {})
