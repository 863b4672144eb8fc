"""syslog, as RFC 3164 describes and RFC 5424 prescribes it, and as it stands in /var/log/syslog: without priority."""

from __future__ import annotations

import re

from sidecars.adapter.formats import levels
from sidecars.adapter.formats.columnar import Row

_FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", *(f"local{number}" for number in range(8)),
)  # fmt: skip
_MOST = 191


def _level(cell: bytes) -> str | None:
    return levels.syslog(int(cell) % 8) if int(cell) <= _MOST else None


def _facility(cell: bytes) -> str | None:
    return _FACILITIES[int(cell) // 8] if int(cell) <= _MOST else None


_ELEMENT = re.compile(rb'\[([^ \]"=]++)((?: [^ \]"=]++="[^"\\]*+(?:\\.[^"\\]*+)*+")*+)\]', re.DOTALL)
_PARAMETER = re.compile(rb' ([^ \]"=]++)="([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
_ESCAPE = re.compile(rb'\\(["\\\]])')


def structured_data(cell: bytes) -> object:
    r"""Read RFC 5424's structured data: `[id name="va\"l\]ue"]` is {"id": {"name": 'va"l]ue'}}."""
    return {
        name.decode("utf-8", "replace"): {
            key.decode("utf-8", "replace"): _ESCAPE.sub(rb"\1", value).decode("utf-8", "replace")
            for key, value in _PARAMETER.findall(parameters)
        }
        for name, parameters in _ELEMENT.findall(cell)
    }


_PRI = r"<(?P<level>[0-9]{1,3})>"
_ALSO = (("level", "facility", _facility),)
_READ = {"level": _level}
_TIME = r"(?P<time>[A-Z][a-z]{2} [ 0-9][0-9] (?:[0-9]{4} )?[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?+|{ISO})"
_TAG = r"(?:(?P<process>[^ :\[\r\n]{1,64}+)(?:\[(?:(?P<pid>{INT})|(?P<process_id>[^\]\r\n]*+))\])?: ?)?"
# A host's name does not end in a colon: on local sockets the tag stands in its place.
_REST = r" (?:(?P<host>[^ \[\r\n]++(?<!:)) )?" + _TAG + r"(?P<message>{REST})"

RFC5424 = Row(
    "syslog-rfc5424",
    _PRI + r"1 (?:-|(?P<time>{WORD})) (?:-(?= )|(?P<host>{WORD})) (?:-(?= )|(?P<process>{WORD})) "
    r"(?:-(?= )|(?P<pid>{INT})(?= )|(?P<process_id>{WORD})) (?:-(?= )|(?P<message_id>{WORD})) "
    r'(?:-|(?P<structured_data>(?:\[[^\]"\r\n]*+(?:"{ESCAPED}"[^\]"\r\n]*+)*+\])++))(?: (?:\xef\xbb\xbf)?'
    r"(?P<message>{REST}))?",
    {**_READ, "structured_data": structured_data},
    also=_ALSO,
)
RFC3164 = (
    Row("syslog-rfc3164", _PRI + _TIME + _REST, _READ, also=_ALSO),
    Row("syslog-rfc3164", _TIME + _REST),
    # The message alone, as small senders write it.
    Row(
        "syslog-rfc3164",
        _PRI + r"(?!1 )(?:(?P<process>[^ :\[\r\n]{1,64}+)(?:\[(?P<pid>{INT})\])?: )?(?P<message>{REST})",
        _READ,
        also=_ALSO,
    ),
)
