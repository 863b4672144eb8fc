"""Access logs of web servers, whose records are one line each."""

from __future__ import annotations

from sidecars.adapter.formats.columnar import Row
from sidecars.adapter.formats.fields import unhex

# A user that Basic authentication gives may hold blanks.
_CLIENT = r"(?P<client>{WORD}) [^ \r\n]++ (?:-(?= \[)|(?P<user>[^ \"\r\n]++(?: (?!\[)[^ \"\r\n]*+)*+)) "
_COMMON = (
    _CLIENT + r'\[(?P<time>[^\]\r\n]++)\] "{REQUEST}" (?:-|{ZEROS}(?P<status>{INT})) (?:-|{ZEROS}(?P<bytes>{INT}))'
)
_COMBINED = _COMMON + r' "(?:-(?=")|(?P<referrer>{QUOTED}))" "(?:-(?=")|(?P<user_agent>{QUOTED}))"'
# What people put behind the agent: the addresses of X-Forwarded-For, then the time in seconds, then more.
_TAIL = (
    r'(?: "(?:-?(?=")|(?P<forwarded_for>[0-9a-fA-F:., ]++|unknown)(?="))")?(?: (?P<duration>{NUM})(?=[ \r\n]))?'
    r"(?: (?P<extra>{REST}))?"
)

NGINX = (
    Row("nginx", _COMBINED, unescape=unhex, quotes=False),
    Row("nginx", _COMBINED + _TAIL, unescape=unhex),
)
