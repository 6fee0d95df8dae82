"""``"tome(ratio=0.3)"`` and back: ``repr`` of a method is its spec string."""

from __future__ import annotations

import ast
import json
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path

from .core import Method
from .methods import METHODS, PRESETS, Preset, Shrink

LARGEST = 2**20
"""Bytes of a file with a spec."""

LONGEST = 1000
"""Characters of a spec string; far more than any method has settings for."""


def parse(spec: str | Method) -> Method:
    """A method from its spec string, such as ``"expedit(alpha=10, grid=(28, 28))"``; a method passes through.

    ``"shrink(scale=0.8) + regions(keep=0.7)"`` is a method on a smaller image, ``"@tuned.json"`` the one that
    ``expedit tune`` wrote there, and ``"mild"``, ``"medium"`` and ``"strong"`` are ``PRESETS``. Arguments are Python
    literals and nothing is evaluated. Names are not case-sensitive.

    Raises:
        ValueError: unknown method, unknown or repeated setting, not a literal, value out of range; the message names
            what is accepted.

    Example:
        >>> parse("ToMe(ratio=0.3)").ratio
        0.3
    """
    if isinstance(spec, Method):
        return spec
    if len(spec) > LONGEST:
        raise ValueError(f"expected a method of at most {LONGEST} characters, got {len(spec)}: {spec[:40]!r}…")
    if spec.startswith("@"):
        return parse(_tuned(Path(spec[1:])))
    spec = spec.strip()
    try:
        node = ast.parse(spec, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        node = None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _on_a_smaller_image(spec, _method(spec, node.left), _method(spec, node.right))
    return _method(spec, node)


def _tuned(path: Path) -> str:
    """The spec in a file of ``expedit tune``; ValueError or FileNotFoundError with its name where there is none."""
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{path}: expected a file of expedit tune, got one of more than {LARGEST} bytes")
        text = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:  # a folder, a name that is too long
        raise ValueError(f"{path}: expected a file of expedit tune, got: {error.strerror}") from None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    spec = content.get("method") if isinstance(content, dict) else None
    if not isinstance(spec, str) or spec.startswith("@"):
        raise ValueError(f"{path}: expected a file of expedit tune, a JSON object with a method")
    if spec == "dense":
        raise ValueError(f"{path}: no setting was good enough when it was tuned; run the model without a method")
    return spec


def _on_a_smaller_image(spec: str, shrink: Method, method: Method) -> Method:
    if not isinstance(shrink, Shrink):
        raise ValueError(
            f"{spec!r}: expected the smaller image before the plus, as in 'shrink(scale=0.8) + {method!r}'"
        )
    try:
        return shrink + method
    except ValueError as error:
        raise ValueError(f"{spec!r}: {error}") from None


def _method(spec: str, node: ast.expr | None) -> Method:
    """The method that ``node`` of ``spec`` calls by name."""
    name, call = _split(spec, node)
    if name in PRESETS and not (call.args or call.keywords):
        return Preset(name)
    if name not in METHODS:
        close = get_close_matches(name, (*METHODS, *PRESETS), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"unknown method {name!r}: expected one of {', '.join(METHODS)}{hint}")
    method = METHODS[name]
    accepted = [field.name for field in fields(method)]  # type: ignore[arg-type]
    signature = f"{name}({', '.join(accepted)})"
    if call.args:
        raise ValueError(f"{spec!r}: settings are given by name, as in {signature}")
    settings = {}
    for keyword in call.keywords:
        if keyword.arg not in accepted:
            raise ValueError(f"{spec!r}: unknown setting {keyword.arg!r}; accepted are {signature}")
        if keyword.arg in settings:
            raise ValueError(f"{spec!r}: expected every setting once, got {keyword.arg!r} twice")
        try:
            settings[keyword.arg] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, RecursionError, MemoryError):  # such as a set of lists, or a thousand signs
            given = ast.get_source_segment(spec, keyword.value)
            raise ValueError(f"{spec!r}: expected a literal for {keyword.arg!r}, got {given!r}") from None
    try:
        return method(**settings)
    except ValueError as error:
        raise ValueError(f"{spec!r}: {error}") from None


def _split(spec: str, node: ast.expr | None) -> tuple[str, ast.Call]:
    """Lower-case name and call node of one method; a bare name is a call without arguments."""
    if isinstance(node, ast.Name):
        node = ast.Call(node, [], [])
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ValueError(f"{spec!r} is not a method: expected a name with settings, as in 'tome(ratio=0.3)'")
    return node.func.id.lower(), node
