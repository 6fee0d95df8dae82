"""YAML of plain values: numbers, text, lists, tuples and dictionaries. Nothing else is constructed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

MOST_BYTES, MOST_VALUES = 1 << 20, 1 << 16
"""Of a file, and of what it says when every alias is written out."""


class _Loader(yaml.SafeLoader):
    """Also Python tuples, which official configurations contain."""


def _tuple(loader: _Loader, node: yaml.SequenceNode) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


def read_yaml(path: Path) -> dict[str, Any]:
    """Keys and values of a file.

    Raises:
        ValueError: not such a file, or a large one.
    """
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"{path}: expected a configuration of at most {MOST_BYTES} bytes, got {size}")
    data = path.read_bytes()
    try:
        loader = _Loader(data)
        node = loader.get_single_node()
        if _values(node, {}) > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES} values, its aliases written out")
        content = None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected plain YAML of values, lists and tuples: {reason}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected keys and values, got a {type(content).__name__}")
    return content


def _values(node: Any, known: dict[int, int]) -> int:
    """Values in ``node`` and below it; an alias counts as what it stands for, which may be the same again and again."""
    if id(node) not in known:
        known[id(node)] = MOST_VALUES  # of an alias to what it is in
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = (part for item in inner for part in (item if isinstance(item, tuple) else (item,)))
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]
