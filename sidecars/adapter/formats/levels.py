"""The words and numbers that logs have for severity, as one scale: LEVELS."""

from __future__ import annotations

_WORDS = {
    "trace": "trace trc verbose vrb verb finest silly t trace1 trace2 trace3 trace4 trace5 trace6 trace7 trace8",
    "debug": "debug dbg debu debug1 debug2 debug3 debug4 debug5 fine finer d d1 d2 d3 d4 d5",
    "info": "info inf information informational log i success system",
    "notice": "notice note ntc n",
    "warning": "warning warn wrn warnings w",
    "error": "error err eror errors fail failed severe e",
    "critical": "critical crit crt fatal ftl f c dpanic",
    "alert": "alert alrt a",
    "emergency": "emergency emerg emrg panic pnc",
}
# pino and bunyan count up in tens; syslog counts down from debug, 7, to emergency, 0.
_NUMBERS = {"10": "trace", "20": "debug", "30": "info", "40": "warning", "50": "error", "60": "critical"}
_SYSLOG = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")

_LEVELS: dict[str, str] = {
    **{word: level for level, words in _WORDS.items() for word in words.split()},
    **_NUMBERS,
    **{str(number): level for number, level in enumerate(_SYSLOG)},
}

WORDS = tuple(word for word in _LEVELS if len(word) > 2)


def level(text: str) -> str | None:
    """Give the level that a word or number means, whatever its case: "WARN" and "40" are "warning"; None for others."""
    return _LEVELS.get(text) or _LEVELS.get(text.strip(" []<>()").lower())


def read(cell: bytes) -> str | None:
    """Give the level that a cell means, as `level` does."""
    return level(cell.decode("ascii", "replace"))


def syslog(severity: int) -> str:
    """Give the level of syslog's severity, 0 to 7."""
    return _SYSLOG[severity]
