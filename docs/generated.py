"""What pages of the documentation take from the code when the site is built: methods and families of networks.

A page says where with ``<!-- generated: NAME -->``.
"""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from inspect import cleandoc
from pathlib import Path
from typing import Any

MARK = re.compile(r"<!-- generated: (\w+) -->")

COSTS = {
    "expedit": (
        "α · B(n) + (L - α) · B(m), and a sliver for clustering",
        "the first to try, wherever the head reads tokens",
    ),
    "regions": (
        "α · B(n) + (L - α) · B(m), and products of the tokens that merge",
        "large flat areas beside fine detail",
    ),
    "evit": (
        "B over the tokens that are left: n, r·n, r²·n, r³·n",
        "a class token that knows what matters; rather classification",
    ),
    "tome": (
        "the products of every branch on (1 - ratio) · n tokens, and n² / 4 · c for each matching",
        "mild settings that change almost nothing",
    ),
    "act": (
        "keys and values whole, queries in clusters: attention only",
        "long sequences, where attention is most of the work",
    ),
    "pool": ("α · B(n) + (L - α) · B(m), and nothing else", "the baseline that a method has to beat"),
    "shrink": ("the whole network on the tokens of a smaller image", "the baseline beside pooling"),
    "pitome": (
        "(1 - keep) fewer tokens with every merge, and n² · c / heads for the energies of each",
        "small objects that must not merge",
    ),
    "tome2d": (
        "the products of a branch on (1 - ratio) · n tokens",
        "as ToMe, with destinations spread over the picture",
    ),
    "ailurus": ("α · B(n) + (L - α) · B(m), and n² · c once", "one early reduction that follows the picture"),
    "algm": (
        "two reductions, 3 tokens fewer for every window and then ratio of those left, and n² / 4 · c once",
        "segmentation with a plain transformer",
    ),
    "mpm": ("ratio fewer tokens with every merge, and n² · c each", "merges without a choice of destinations"),
    "cubistmerge": (
        "α · B(n) + (L - α) · B(m), and nothing else",
        "networks with windows or relative positions, which need a lattice: Swin, SAM, BEiT",
    ),
    "ats": (
        "B over the tokens that are left: n, r·n, r²·n, r³·n, and (n - m) · m · c each",
        "a class token that knows what matters; draws a sample of the others, too",
    ),
    "evovit": (
        "B(n) until the first selection, then B on r·n tokens but for the attention of the blocks that select",
        "a class token that knows what matters, and no token that is lost",
    ),
    "mixedscale": (
        "L · B(m), and the patches of the image at half and at a quarter of its size",
        "large flat areas, where a network has seen objects of many sizes",
    ),
}
"""By method: the multiply-adds that are left, and when to use it. B(n) = 12·n·c² + 2·n²·c is a block on n tokens of
width c, L the number of blocks, m what is left of n."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """For mkdocs: the page with what is generated in it."""
    return MARK.sub(lambda found: GENERATED[found[1]](), markdown)


def methods() -> str:
    """A section for every method: idea and source, picture, settings, cost, use."""
    from expedit import METHODS

    pictures = Path(__file__).parent / "pictures"
    sections = []
    for name, method in METHODS.items():
        cost, use = COSTS.get(name, ("", ""))
        picture = f"clusters_{name}.png"
        lines = [
            f"## {name}",
            cleandoc(sys.modules[method.__module__].__doc__ or ""),
            f"![Clusters of {name}](pictures/{picture}){{ width=256 }}" if (pictures / picture).is_file() else "",
            f"* **Multiply-adds that are left**: {cost}\n* **Use it for**: {use}" if cost else "",
            f"`{name}({', '.join(f'{f.name}={f.default!r}' for f in fields(method))})`",  # type: ignore[arg-type]
        ]
        sections.append("\n\n".join(line for line in lines if line))
    return "\n\n".join(sections)


def families() -> str:
    """A table of the networks of transformers and what can be made of them."""
    from expedit.models.families import FAMILIES, ONLY_ACCELERATED

    kinds: dict[str, dict[str, list[str]]] = {}
    for name, family in FAMILIES.items():
        kinds.setdefault(family.title, {}).setdefault(", ".join(family.tasks), []).append(name.rpartition(".")[2])
    lines = ["| network | load and predict | classes |", "|---|---|---|"]
    for title, tasks in kinds.items():
        lines += [f"| {title} | {task} | {', '.join(f'`{name}`' for name in names)} |" for task, names in tasks.items()]
    lines += [f"| {name} | accelerate only: it {why} | |" for name, why in ONLY_ACCELERATED.items()]
    return "\n".join(lines)


def hosts() -> str:
    """The classes whose blocks are cut as they are."""
    from expedit.backbones.hosts import HOSTS

    return ", ".join(f"`{name}`" for name in sorted({name.rpartition(".")[2] for name in HOSTS}))


GENERATED = {"methods": methods, "families": families, "hosts": hosts}
