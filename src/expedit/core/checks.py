"""Checks of plain settings: what was expected, what came. Each returns the value, so a check reads like a cast."""

from __future__ import annotations

from typing import Any


def integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """``value`` as an int in ``low..high``; ValueError names the setting."""
    bounds = f">= {low}" if high is None else f"in {low}..{high}"
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        raise ValueError(f"{name}: expected an integer {bounds}, got {value!r}")
    return value


def number(name: str, value: Any, low: float, high: float, open_low: bool = True) -> float:
    """``value`` as a float in ``(low, high]`` (``[low, high]`` if not ``open_low``); ValueError names the setting."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or (open_low and value == low):
        raise ValueError(f"{name}: expected a number in {'(' if open_low else '['}{low}, {high}], got {value!r}")
    return float(value)


def pair(name: str, value: Any) -> tuple[int, int]:
    """``value`` as a (rows, columns) tuple of positive integers; ValueError names the setting."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{name}: expected two integers (rows, columns), got {value!r}")
    return integer(name, value[0], 1), integer(name, value[1], 1)


def blocks(name: str, value: Any) -> tuple[int, ...]:
    """``value`` as a sorted tuple of 0-based blocks, at least one and each once; ValueError names the setting."""
    given = [integer(name, block, 0) for block in value] if isinstance(value, (tuple, list)) else []
    if not given or len(set(given)) != len(given):
        raise ValueError(f"{name}: expected some blocks, each once, such as (7, 13, 19), got {value!r}")
    return tuple(sorted(given))


def choice(name: str, value: Any, options: tuple[Any, ...]) -> Any:
    """``value`` if it is one of ``options``; ValueError lists them."""
    if value not in options:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, options))}, got {value!r}")
    return value
