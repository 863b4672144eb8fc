"""fluentd's patterns for tags, as `<match a.** b.{c,d}>` has them.

Source: fluentd's lib/fluent/match.rb.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from sidecars.core.errors import WrongSettings
from sidecars.shipper.expressions import compiled

Matches = Callable[[str], bool]

_TOKENS = re.compile(
    r"(?P<escaped>\\(.))|(?P<parts>(?P<dot>\.?)\*\*(?P<more>\.?))|(?P<part>\*)|(?P<or>[{},])|(?P<text>[^\\*{},])",
    re.DOTALL,
)
_SPECIAL = re.compile(r"[*{\\]")


def patterns(argument: str) -> Matches:
    """Make what tells whether any of the patterns, with blanks between, is for a tag. None at all is for each tag.

    Raises WrongSettings for a pattern between slashes that is no regular expression.
    """
    matches = [_pattern(pattern) for pattern in argument.split() or ["**"]]
    return lambda tag: any(match(tag) for match in matches)


def literal(pattern: str) -> str:
    """Give what every tag of a pattern begins with: a.b of a.b**, nothing of a regular expression."""
    if pattern.startswith("/"):
        return ""
    return _SPECIAL.split(pattern, maxsplit=1)[0].rstrip(".")


def _pattern(pattern: str) -> Matches:
    if pattern.startswith("/"):
        if len(pattern) < 2 or not pattern.endswith("/"):
            raise WrongSettings(f"pattern {pattern} begins with a slash and does not end in one; close it")
        return _found(compiled(rf"/\A(?:{pattern[1:-1]})\z/").pattern)
    return _found(re.compile(rf"\A(?:{_translated(pattern)})\Z"))


def _found(expression: re.Pattern[str]) -> Matches:
    return lambda tag: expression.search(tag) is not None


def _translated(pattern: str) -> str:
    """Write a pattern as a regular expression. a.** is for a itself too, and **.a for a."""
    pieces, depth = list[str](), 0
    for token in _TOKENS.finditer(pattern):
        if token["or"]:
            piece, depth = _alternative(token["or"], depth)
        elif token["parts"]:
            piece = (r"(?![^.])" if token["dot"] else "") + (r"(?:.*\.|\A)" if token["more"] else ".*")
        elif token["part"]:
            piece = "[^.]*"
        else:
            piece = re.escape(token[0][-1])
        pieces.append(piece)
    return "".join(pieces) + ")" * depth


def _alternative(sign: str, depth: int) -> tuple[str, int]:
    if sign == "{":
        return "(?:", depth + 1
    if not depth:
        return re.escape(sign), 0
    return (")", depth - 1) if sign == "}" else ("|", depth)
