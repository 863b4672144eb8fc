"""How logs are read: a format per kind of log, made of a name or a description, and told from a file's beginning."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import Literal

from sidecars.adapter.formats import descriptions
from sidecars.adapter.formats.catalogue import ALIASES, HEADED, NAMES, WRAPPERS, made
from sidecars.adapter.formats.detection import Verdict, detect
from sidecars.adapter.formats.times import Times
from sidecars.adapter.formats.times import zone as zone_named
from sidecars.adapter.formats.wrapped import Wrapped
from sidecars.adapter.table import Format
from sidecars.core.errors import WrongSettings

__all__ = ["NAMES", "Verdict", "compile", "detect"]


def compile(
    text: str,
    *,
    zone: str = "UTC",
    continuation: bytes | Literal["own"] | None = "own",
    absent: Collection[str] = (),
) -> Format:
    """Make a format of its name, WRAPPER+FORMAT, or of what describes one.

    That is an nginx log_format, an Apache LogFormat, a grok pattern, or a regular expression with named groups. Times
    that do not say their zone are of `zone`. Lines are joined as the format itself needs it ("own"), never (None), or
    where a line begins as `continuation` matches. `absent` names fields that an encoder will add: see table.Json.

    Raises WrongSettings.
    """
    times = Times(zone_named(zone))
    words = [_known(word) for word in text.split("+")]
    if len(words) == 1 and words[0] in NAMES:
        if words[0] in WRAPPERS and isinstance(continuation, bytes):
            words.append("text")
        else:
            return made(words[0], times, continuation, frozenset(absent))
    if len(words) == 2 and words[0] in WRAPPERS and words[1] in NAMES and words[1] not in HEADED:
        outer = made(words[0], times, None, frozenset())
        return Wrapped(outer, made(words[1], times, continuation, frozenset()))
    described = descriptions.described(text, times, continuation)
    if described:
        return described
    raise WrongSettings(f"--from is {text!r}, which is no format{_hint(words)}")


def _known(word: str) -> str:
    name = word.strip().lower().replace("_", "-")
    return ALIASES.get(name, name)


def _hint(words: Sequence[str]) -> str:
    if len(words) == 2:
        return f"; before a + stands one of {', '.join(WRAPPERS)}, behind it a format without a header line"
    near = get_close_matches(words[0], (*NAMES, *ALIASES), 1)
    return f"; did you mean {near[0]}?" if near else f"; use one of {', '.join(NAMES)}"
