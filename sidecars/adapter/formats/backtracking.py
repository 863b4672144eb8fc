"""How badly a regular expression can backtrack: those of users meet hostile lines too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

# The parser of the standard library, whose result is what the engine runs. It has no public name.
_parse = re._parser  # type: ignore[attr-defined]

_ALL = (1 << 256) - 1
_SPACE = sum(1 << code for code in b" \t\n\r\f\v")
_DIGIT = sum(1 << code for code in b"0123456789")
_WORD = _DIGIT | 1 << ord("_") | sum(1 << code | 1 << code + 32 for code in range(65, 91))
_CATEGORIES = {"SPACE": _SPACE, "DIGIT": _DIGIT, "WORD": _WORD}
# More repetitions than this are as good as no end.
_MANY = 32

Node = tuple[Any, Any]


class Danger(Exception):  # noqa: N818
    """A repetition within a repetition that can take the same text in more ways than there are bytes."""


def degree(pattern: bytes) -> int:
    """Give the power of the length with which the time grows at worst: 1 is linear. Raises Danger if it is no power.

    An estimate from the possible next bytes of each repetition; possessive ones and atomic groups do not count.
    """
    tree = list(_parse.parse(pattern))
    ambiguous, repeats = _ambiguous(tree, 0), _repeats(tree)
    anchored = bool(tree) and str(tree[0][0]) == "AT" and "BEGINNING" in str(tree[0][1])
    # Each place where one ends, and each where the search begins, may be followed by one that goes to the line's end.
    return max(1, ambiguous + (repeats > ambiguous) + (repeats > 0 and not anchored))


def _ambiguous(nodes: Sequence[Node], follow: int) -> int:
    """Count the repetitions that can end at several places, because what follows them begins as they go on."""
    count = 0
    for index, (op, value) in enumerate(nodes):
        after = _first(nodes[index + 1 :], follow)
        name = str(op)
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            count += _repeat(value, after)
        elif name in ("SUBPATTERN", "ATOMIC_GROUP"):
            count += _ambiguous(list(value[-1] if name == "SUBPATTERN" else value), after)
        elif name == "BRANCH":
            count += max(_ambiguous(list(branch), after) for branch in value[1])
        elif name in ("ASSERT", "ASSERT_NOT"):
            count += _ambiguous(list(value[1]), 0)
    return count


def _repeat(value: Any, after: int) -> int:
    _, most, body = value
    nodes = list(body)
    if most <= _MANY:
        return _ambiguous(nodes, after)
    begin = _first(nodes, 0)
    if _ambiguous(nodes, begin):
        raise Danger
    return 1 if _chars(nodes) & after else 0


def _repeats(nodes: Sequence[Node]) -> int:
    """Count the repetitions without an end."""
    count = 0
    for op, value in nodes:
        name = str(op)
        if name.endswith("REPEAT"):
            count += 1 if value[1] > _MANY else _repeats(list(value[2]))
        elif name in ("SUBPATTERN", "ATOMIC_GROUP"):
            count += _repeats(list(value[-1] if name == "SUBPATTERN" else value))
        elif name == "BRANCH":
            count += max(_repeats(list(branch)) for branch in value[1])
    return count


def _first(nodes: Sequence[Node], follow: int) -> int:
    """Give the bytes with which the nodes can begin, those of what follows them if they can be empty."""
    found = 0
    for node in nodes:
        chars, empty = _begin(node)
        found |= chars
        if not empty:
            return found
    return found | follow


def _begin(node: Node) -> tuple[int, bool]:
    op, value = node
    name = str(op)
    if name.endswith("REPEAT"):
        body = list(value[2])
        return _first(body, 0), value[0] == 0 or _nullable(body)
    if name in ("SUBPATTERN", "ATOMIC_GROUP"):
        body = list(value[-1] if name == "SUBPATTERN" else value)
        return _first(body, 0), _nullable(body)
    if name == "BRANCH":
        bodies = [list(branch) for branch in value[1]]
        return _union(_first(body, 0) for body in bodies), any(_nullable(body) for body in bodies)
    if name in ("AT", "ASSERT", "ASSERT_NOT"):
        return 0, True
    return _set(node), False


def _nullable(nodes: Sequence[Node]) -> bool:
    return all(_begin(node)[1] for node in nodes)


def _chars(nodes: Sequence[Node]) -> int:
    """Give all bytes that the nodes can match."""
    found = 0
    for node in nodes:
        op, value = node
        name = str(op)
        if name.endswith("REPEAT"):
            found |= _chars(list(value[2]))
        elif name in ("SUBPATTERN", "ATOMIC_GROUP"):
            found |= _chars(list(value[-1] if name == "SUBPATTERN" else value))
        elif name == "BRANCH":
            found |= _union(_chars(list(branch)) for branch in value[1])
        elif name not in ("AT", "ASSERT", "ASSERT_NOT"):
            found |= _set(node)
    return found


def _union(sets: Any) -> int:
    found = 0
    for each in sets:
        found |= each
    return found


def _set(node: Node) -> int:
    """Give the bytes that one node of one byte matches; all for what is not known."""
    op, value = node
    match str(op):
        case "LITERAL":
            return 1 << int(value) if int(value) < 256 else _ALL
        case "NOT_LITERAL":
            return _ALL & ~(1 << int(value))
        case "ANY":
            return _ALL & ~(1 << 10)
        case "RANGE":
            return _union(1 << code for code in range(value[0], min(value[1], 255) + 1))
        case "CATEGORY":
            word = str(value).removeprefix("CATEGORY_")
            known = _CATEGORIES.get(word.removeprefix("NOT_"), _ALL)
            return (_ALL & ~known) if word.startswith("NOT_") else known
        case "IN":
            negated = str(value[0][0]) == "NEGATE"
            found = _union(_set(each) for each in value[negated:])
            return _ALL & ~found if negated else found
        case _:
            return _ALL
