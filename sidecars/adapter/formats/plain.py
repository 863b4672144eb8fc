"""Formats of next to no form: the text itself, and the time and message that adapter-node-server reads."""

from __future__ import annotations

from sidecars.adapter.formats.columnar import Row

# `time` is text, as it stands: bbachin1/adapter-node-server's lines are "Sat Jan 31 09:30:00 UTC 2026#This is log".
HASH = Row(
    "hash", r"(?=[^\r\n])(?P<time>[^#\r\n]*+(?:\r++(?!\n)[^#\r\n]*+)*+)(?:#(?P<message>{REST}))?", {"time": None}
)

_TIME = (
    r"[0-9]{4}[-/][01][0-9][-/][0-3][0-9][T ][0-9:]{8}(?:[.,][0-9]{1,9}+)?+"
    r"(?:Z| ?[+-][0-9]{2}:?[0-9]{2}| (?:UTC|GMT|MSK|[A-Z]{1,3}T)(?= ))?+"
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-3][0-9] [0-9:]{8}(?: [A-Z]{3,4})? [0-9]{4}"
    r"|[A-Z][a-z]{2} [ 0-3][0-9] [0-9:]{8}"
)
_UPPER = "TRACE|DEBUG|INFO|NOTICE|WARNING|WARN|ERROR|CRITICAL|FATAL|ALERT|EMERGENCY|PANIC"
TEXT = Row(
    "text",
    rf"(?=[^\r\n])(?:[\[(]?(?P<time>{_TIME})[\])]?+(?=[ :,|-]|\r?$)[ :,|-]*+)?"
    rf"(?:\[? *+(?P<level>{{LEVEL}}(?= *+[\]:])|(?:{_UPPER})(?= )) *+[\]:]*+[ -]*+)?"
    r"(?P<message>{REST})",
)
