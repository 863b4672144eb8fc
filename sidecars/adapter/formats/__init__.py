"""How logs are read: a format per kind of log, made of a name or a description, and told from a file's beginning."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from sidecars.adapter.formats.catalogue import ALIASES, HEADED, NAMES, WRAPPERS, made
from sidecars.adapter.formats.times import Times
from sidecars.adapter.formats.times import zone as zone_named
from sidecars.adapter.formats.verdict import Verdict
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
    outer, plus, inner = text.partition("+")
    if plus and _known(outer) in WRAPPERS:
        return _wrapped(_known(outer), inner, text, zone, continuation)
    name = _known(text)
    if name in WRAPPERS and isinstance(continuation, bytes):
        return _wrapped(name, "text", text, zone, continuation)
    times = Times(zone_named(zone))
    if name in NAMES:
        return made(name, times, continuation, frozenset(absent))
    from sidecars.adapter.formats.descriptions import described

    found = described(text, times, continuation, frozenset(absent))
    if found is None:
        raise WrongSettings(f"--from is {text!r}, which is no format{_hint(name)}")
    return found


def _wrapped(name: str, inner: str, text: str, zone: str, continuation: bytes | Literal["own"] | None) -> Format:
    if not inner.strip() or _known(inner) in (*HEADED, *WRAPPERS):
        raise WrongSettings(f"--from is {text!r}; behind {name}+ stands a format without a header line, such as nginx")
    outer = made(name, Times(zone_named(zone)), None, frozenset())
    return Wrapped(outer, compile(inner, zone=zone, continuation=continuation))


def _known(word: str) -> str:
    name = word.strip().lower().replace("_", "-")
    return ALIASES.get(name, name)


def _hint(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, (*NAMES, *ALIASES), 1)
    return f"; did you mean {near[0]}?" if near else f"; use one of {', '.join(NAMES)}"


def detect(head: bytes, name: str = "") -> Verdict:
    """Tell the format of a file by its first lines, and by its name where lines do not tell. Never raises.

    It is "text" when nothing fits. `head` is the beginning of the file, up to 64 KiB of whole lines.
    """
    from sidecars.adapter.formats import detection

    return detection.detect(head, name)
