"""Anyone's data: images, label pictures whose pixels are class numbers, and a list of class names.

Layouts that are found by themselves, in this order (``labels`` may also be called ``annotations`` or ``masks``)::

    images/<split>/x.jpg  labels/<split>/x.png
    <split>/images/x.jpg  <split>/labels/x.png
    <split>/x.jpg         <split>annot/x.png        (CamVid)
    images/x.jpg          labels/x.png              (one split only)

A file ``<split>.txt`` selects: one image per line (its name), or an image and a label per line (paths from the root).
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path
from unicodedata import normalize

import numpy as np

from .class_list import NO_CLASS, ClassList, parse_class_list, voc_color
from .decode import IMAGE_ENDINGS, LABEL_ENDINGS
from .pairs import LabelFile, Pair, Pairs, Side, lookup, match, sample_names
from .samples import IGNORE
from .storage import Tree

CLASS_FILE = "classes.txt"
LABEL_FOLDERS = ("labels", "annotations", "masks")
SPELLINGS = {"train": ("train", "training"), "val": ("val", "validation", "valid"), "test": ("test", "testing")}

Sides = tuple[Side, Side | None]
Found = list[tuple[str, str, str | None]]
"""Key, image and label of every picture."""


def open_folder(
    root: Path,
    split: str = "val",
    *,
    images: str | None = None,
    labels: str | None = None,
    classes: str | Path | Sequence[str] | None = None,
    ignore: int | Sequence[int] = (),
    reduce_zero_label: bool = False,
    labelled: bool = True,
) -> Pairs:
    """Images and label pictures that belong together by name.

    Args:
        root: a folder or a .zip, possibly with a single folder around everything.
        split: "train", "val", "test", or what the folders or list files are called.
        images, labels: the two folders, relative to ``root``, where none of the layouts above fits. They are then the
            whole split, whatever it is called.
        classes: a class list file (`class_list`), or the names; ``classes.txt`` in ``root`` when not given. Values
            whose name is "-" do not count, and the classes after them move up.
        ignore: label values that do not count, besides 255.
        reduce_zero_label: value 0 does not count, and k is class k-1.
        labelled: False takes images alone, for work that needs no ground truth.

    Raises:
        FileNotFoundError: no images, labels or class list, or an image or label without its partner.
        ValueError: a damaged list, too many classes, names that clash.
    """
    root = Path(root)
    tree = Tree(root)
    base = folder_base(tree)
    values, colors = _class_list(tree, base, classes) if labelled or classes is not None else ((), ())
    kept = [value for value, name in enumerate(values) if name != NO_CLASS]
    if images is not None:
        tree, sides = _given(root, images, labels, labelled)
        found = _matched(tree, sides)
    else:
        found = _found(tree, base, split, labelled)
    table = _table(kept, len(values), reduce_zero_label, _numbers(ignore)) if labelled else None
    pairs = [
        Pair(name, image, LabelFile(label, table) if label is not None and table is not None else None)
        for name, (_, image, label) in zip(sample_names([key for key, _, _ in found]), found, strict=True)
    ]
    return Pairs(tree, tuple(values[v] for v in kept), tuple(colors[v] for v in kept), tuple(pairs))


def folder_sides(tree: Tree, base: str, split: str, labelled: bool = True) -> Sides:
    """The folders of a split.

    Raises:
        FileNotFoundError: none of the layouts is there.
    """
    divided = has_splits(tree, base)
    flat = list_file(tree, base, split) is not None or (not divided and split in ("val", "all"))
    tried = []
    for layout in layouts(split, flat):
        places = [posixpath.join(base, place) for place in (layout if labelled else layout[:1])]
        if all(tree.has(place) for place in places):
            return Side(places[0], IMAGE_ENDINGS), Side(places[1], LABEL_ENDINGS) if labelled else None
        tried.append(" + ".join(places))
    if not labelled and not divided:
        return Side(base, IMAGE_ENDINGS), None
    raise FileNotFoundError(
        f"{tree.where(base)}: expected {'images and labels' if labelled else 'images'} of split {split!r} in one of: "
        f"{'; '.join(dict.fromkeys(tried))}"
    )


def has_class_list(tree: Tree) -> bool:
    """Whether a class list lies beside the data, which makes it one's own whatever else it looks like."""
    return any(tree.exists(posixpath.join(base, CLASS_FILE)) for base in ("", folder_base(tree)))


def find_folder(tree: Tree) -> list[str]:
    """Which of train, val and test are there."""
    base = folder_base(tree)
    flat = [] if has_splits(tree, base) else ["val"]
    return [
        split
        for split in SPELLINGS
        if list_file(tree, base, split) is not None
        or any(all(tree.has(posixpath.join(base, p)) for p in pair) for pair in layouts(split, split in flat))
    ]


def folder_base(tree: Tree) -> str:
    """Nothing, or the single folder around everything, as zips of a folder have it."""
    ours = {"images", *LABEL_FOLDERS, *(name for group in SPELLINGS.values() for name in group)}
    base = ""
    for folder in tree.folders():
        if folder in ours or base not in ("", folder):
            return ""
        base = folder
    return base


def layouts(split: str, flat: bool) -> Iterator[tuple[str, str]]:
    """Folders of images and of labels that are looked for; ``flat``: also those without splits."""
    for name in SPELLINGS.get(split, (split,)):
        for labels in LABEL_FOLDERS:
            yield f"images/{name}", f"{labels}/{name}"
            yield f"{name}/images", f"{name}/{labels}"
        yield name, f"{name}annot"
    if flat:
        yield from (("images", labels) for labels in LABEL_FOLDERS)


def list_file(tree: Tree, base: str, split: str) -> str | None:
    """The path of ``<split>.txt``, if it is there."""
    paths = (posixpath.join(base, f"{name}.txt") for name in SPELLINGS.get(split, (split,)))
    return next((path for path in paths if tree.exists(path)), None)


def has_splits(tree: Tree, base: str) -> bool:
    """Whether the folders are divided by split, so that ``images/`` as a whole is none."""
    names = [name for group in SPELLINGS.values() for name in group]
    return any(tree.has(posixpath.join(base, place)) for name in names for place in (name, f"images/{name}"))


def _given(root: Path, images: str, labels: str | None, labelled: bool) -> tuple[Tree, Sides]:
    """The folders that the caller named. Two folders anywhere make a tree from where they part."""
    if labelled and labels is None:
        raise ValueError(f"labels: expected the folder of labels that belongs to images={images!r}, got none")
    names = [name for name in (images, labels if labelled else None) if name is not None]
    if root.is_dir():
        places = [os.path.abspath(root / name) for name in names]
        root = Path(os.path.commonpath(places))
        names = [Path(os.path.relpath(place, root)).as_posix() for place in places]
    names = ["" if name == "." else name.rstrip("/") for name in names]
    tree = Tree(root)
    for name in names:
        if not tree.has(name):
            raise FileNotFoundError(f"{tree.where(name)}: no such folder")
    return tree, (Side(names[0], IMAGE_ENDINGS), Side(names[1], LABEL_ENDINGS) if labelled else None)


def _found(tree: Tree, base: str, split: str, labelled: bool) -> Found:
    """(key, image, label) of every picture of the split."""
    path = list_file(tree, base, split)
    if path is None:
        return _matched(tree, folder_sides(tree, base, split, labelled))
    lines = tree.lines(path)
    try:
        pictures = folder_sides(tree, base, split, labelled)[0].files(tree)
    except FileNotFoundError:
        pictures = {}
    # A name may have blanks, so a line is an image and a label only where none is an image as a whole.
    if any(_key(line) in pictures for line in lines) or not any(" " in line or "\t" in line for line in lines):
        return _selected(tree, folder_sides(tree, base, split, labelled), path, lines)
    return _listed_pairs(tree, base, path, lines, labelled)


def _matched(tree: Tree, sides: Sides) -> Found:
    images, labels = sides
    if labels is not None:
        return [*match(tree, images, labels)]
    pictures = images.files(tree)
    if not pictures:
        raise FileNotFoundError(f"{tree.where(images.folder)}: expected images, got none")
    return [(key, path, None) for key, path in pictures.items()]


def _listed_pairs(tree: Tree, base: str, path: str, lines: list[str], labelled: bool) -> Found:
    found: Found = []
    for number, line in enumerate(lines, 1):
        pairs = [[posixpath.join(base, name) for name in pair] for pair in _cuts(line)]
        needed = 2 if labelled else 1
        there = [pair for pair in pairs if all(tree.exists(name) for name in pair[:needed])]
        if not there and len(pairs) != 1:
            raise ValueError(
                f"{tree.where(path)}, entry {number}: expected an image and a label with a space (or a tab, where "
                f"names have spaces) between them, got {line!r}"
            )
        image, label = (there or pairs)[0]
        for name in (image, label)[:needed]:
            if not tree.exists(name):
                raise FileNotFoundError(f"{tree.where(name)}: no such file, though {path} lists it")
        found.append((posixpath.splitext(image)[0], image, label if labelled else None))
    return found


def _cuts(line: str) -> list[list[str]]:
    """The ways to cut a line in two names: at its only tab, or else at any of its blanks."""
    if "\t" in line:
        return [[name.strip() for name in line.split("\t")]] if line.count("\t") == 1 else []
    blanks = [place for place, letter in enumerate(line) if letter == " "]
    return [[line[:place].rstrip(), line[place:].lstrip()] for place in blanks]


def _selected(tree: Tree, sides: Sides, path: str, lines: list[str]) -> Found:
    """What a list with one column names, by stem or file name, below the images' folder."""
    images, labels = sides
    pictures = images.files(tree)
    truths = labels.files(tree) if labels is not None else {}
    found: Found = []
    for key in map(_key, lines):
        if key not in pictures:
            raise FileNotFoundError(f"{images.expected(tree, key)}: no such image, though {path} lists it")
        if labels is not None and key not in truths:
            raise FileNotFoundError(f"{tree.where(pictures[key])}: has no label, expected {labels.expected(tree, key)}")
        found.append((key, pictures[key], truths.get(key)))
    return found


def _key(line: str) -> str:
    """The key of an image in a list, which may be written with its ending."""
    stem, ending = posixpath.splitext(line)
    return normalize("NFC", stem if ending.lower() in IMAGE_ENDINGS else line)


def _table(kept: list[int], count: int, reduce_zero_label: bool, ignore: tuple[int, ...]) -> np.ndarray:
    """`lookup` of ``count`` listed values, of which only those in ``kept`` are classes."""
    if not kept:
        raise ValueError(f"classes: expected at least one name, got only {NO_CLASS!r}")
    table = lookup(count, reduce_zero_label=reduce_zero_label, ignore=ignore)
    moved = np.full(IGNORE + 1, IGNORE, dtype=table.dtype)
    moved[kept] = np.arange(len(kept))
    return np.where(table < 0, table, moved[table])


def _numbers(ignore: int | Sequence[int]) -> tuple[int, ...]:
    return (ignore,) if isinstance(ignore, int) else tuple(ignore)


def _class_list(tree: Tree, base: str, classes: str | Path | Sequence[str] | None) -> ClassList:
    if classes is None:
        path = posixpath.join(base, CLASS_FILE)
        if not tree.exists(path):
            raise FileNotFoundError(
                f"{tree.where(path)}: expected the class names here, one per line in the order of the label values; "
                "or name the classes"
            )
        return parse_class_list(tree.read(path).decode("utf-8", errors="replace"), tree.where(path))
    if isinstance(classes, (str, Path)):
        file = Path(classes)
        if not file.is_file():
            raise FileNotFoundError(f"{file}: expected a class list here, one name per line")
        return parse_class_list(file.read_text(encoding="utf-8", errors="replace"), str(file))
    names = [name for name in classes if name != NO_CLASS]
    if len(set(names)) != len(names):
        raise ValueError(f"classes: expected different names, got {list(classes)!r:.80}")
    return tuple(classes), tuple(voc_color(index) for index in range(len(classes)))
