"""JSONPath as kubectl has it, as far as a wait needs it: members, indices, wildcards and filters that compare."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

Value = Any  # of a JSON document

_STEP = re.compile(
    r"""\.?\[\?\(\s*@(?P<path>(?:\.(?:\\.|[\w/-])+|\['[^']*'\])*)\s*(?P<operator>==|!=)\s*(?P<literal>'[^']*'|"[^"]*"|[\w.+-]+)\s*\)\]"""
    r"""|\.?\[\s*(?P<index>-?\d{1,9})\s*\]"""
    r"""|\.?\[\s*(?:'(?P<single>[^']*)'|"(?P<double>[^"]*)")\s*\]"""
    r"""|(?P<every>\.\*|\.?\[\*\])"""
    r"""|\.(?P<name>(?:\\.|[^.\[\]{}\\\s*])+)""",
)


class Step(NamedTuple):
    """One step down: a member's name, an index, or every one (None), of which a filter may leave some."""

    key: str | int | None
    filter: Filter | None = None


class Filter(NamedTuple):
    """What an element must have at a path of its own: the same text, or another."""

    path: tuple[Step, ...]
    same: bool
    literal: str


def parse(text: str) -> tuple[Step, ...]:
    """Read a path. Raises ValueError with what cannot be read.

        {.status.phase}   .spec.containers[*].image   {.status.conditions[?(@.type=="Ready")].status}
        .metadata.annotations.example\\.com/ready   ['a.b']

    Source: kubernetes.io, "JSONPath Support"; ranges, unions, slices and recursion are not of use here.
    """
    path = text.strip()
    if path.startswith("{") and path.endswith("}"):
        path = path[1:-1].strip()
    path = path.removeprefix("$")
    if path and path[0] not in ".[":
        path = f".{path}"
    if not path:
        raise ValueError("it is empty")
    return _steps(path)


def _steps(path: str) -> tuple[Step, ...]:
    steps, place = [], 0
    while place < len(path):
        match = _STEP.match(path, place)
        if not match:
            raise ValueError(f"{path[place:][:40]!r} in it cannot be read")
        steps.append(_step(match))
        place = match.end()
    return tuple(steps)


def _step(match: re.Match[str]) -> Step:
    if match["operator"]:
        literal = match["literal"]
        literal = literal[1:-1] if literal[0] in "'\"" else literal
        return Step(None, Filter(_steps(match["path"]), match["operator"] == "==", literal))
    if match["index"]:
        return Step(int(match["index"]))
    if match["every"]:
        return Step(None)
    name = match["single"] if match["single"] is not None else match["double"]
    return Step(name if name is not None else re.sub(r"\\(.)", r"\1", match["name"]))


def find(path: Iterable[Step], document: Value) -> list[Value]:
    """Give everything that stands at a path; nothing where a step leads nowhere."""
    found = [document]
    for step in path:
        found = [below for each in found for below in _below(step, each)]
    return found


def _below(step: Step, value: Value) -> Iterator[Value]:
    if isinstance(step.key, str):
        if isinstance(value, dict) and step.key in value:
            yield value[step.key]
    elif isinstance(step.key, int):
        if isinstance(value, list) and -len(value) <= step.key < len(value):
            yield value[step.key]
    else:
        elements = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
        yield from (each for each in elements if step.filter is None or _passes(step.filter, each))


def _passes(filter: Filter, element: Value) -> bool:
    same = filter.literal in map(written, find(filter.path, element))
    return same is filter.same


def written(value: Value) -> str:
    """Write a value as kubectl compares it: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
