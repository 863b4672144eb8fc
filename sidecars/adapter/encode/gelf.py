"""Messages for Graylog: GELF 1.1, as its payload specification says."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence

import msgspec

from sidecars.adapter.encode.instants import nanoseconds
from sidecars.adapter.encode.shaping import Shaping
from sidecars.adapter.encode.values import dumps, text
from sidecars.adapter.settings import Settings
from sidecars.adapter.table import LEVELS, Record, Segment

# Syslog's severities. Without a level Graylog would take a message for an alert.
SEVERITIES = dict(zip(LEVELS, (7, 7, 6, 5, 4, 3, 2, 1, 0), strict=True))
_NAMES = {"client": "_client_ip"}
_FOREIGN = re.compile(r"[^\w.\-]", re.ASCII)
_OURS = ("time", "level", "message", "host")


class Encoder:
    """GELF 1.1, one message per record.

        {"version":"1.1","host":"web-0","short_message":"GET / HTTP/1.1","timestamp":1.5,"level":6,"_status":200}

    `host` is the record's, else the pod's name, else this machine's. A message of several lines is the full message;
    its first line is the short one. Additional fields are texts or numbers: true is "true", and what is nested is JSON.
    """

    def __init__(self, settings: Settings, shaping: Shaping) -> None:
        self._shaping = shaping
        self._host = settings.pod_name or socket.gethostname() or "unknown"

    def encode(self, segments: Sequence[Segment], origin: str) -> list[bytes]:
        """Encode each record as a message."""
        return [dumps(self._message(*document)) for document in self._shaping.documents(segments, origin)]

    def _message(self, record: Record, message: str) -> dict[str, object]:
        short, newline, _ = message.strip().partition("\n")
        document: dict[str, object] = {
            "version": "1.1",
            "host": text(record.get("host")) or self._host,
            "short_message": short.strip() or "-",
        }
        if newline:
            document["full_message"] = message
        if (instant := nanoseconds(record.get("time"))) is not None:
            document["timestamp"] = _seconds(instant)
            record.pop("time")
        level = record.get("level")
        document["level"] = SEVERITIES.get(level, 6) if isinstance(level, str) else 6
        for name, value in record.items():
            if name not in _OURS or (name == "time" and value is not None):
                document[_name(name)] = _value(value)
        return {name: value for name, value in document.items() if value is not None}


def _seconds(instant: int) -> msgspec.Raw:
    sign, whole = ("-", -instant) if instant < 0 else ("", instant)
    return msgspec.Raw(f"{sign}{whole // 10**9}.{whole % 10**9:09}".rstrip("0").encode() + b"0")


def _name(name: str) -> str:
    name = _NAMES.get(name) or "_" + _FOREIGN.sub("_", name)
    # Graylog keeps `_id` for itself.
    return "_id_" if name == "_id" else name


def _value(value: object) -> object:
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 1 << 63 and not isinstance(value, bool)):
        return value
    return None if value is None else text(value)
