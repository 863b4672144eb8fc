"""Requests for OpenTelemetry collectors: OTLP's JSON, with the names of its semantic conventions."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from itertools import islice

from sidecars import __version__
from sidecars.adapter.encode.instants import nanoseconds
from sidecars.adapter.encode.shaping import Shaping
from sidecars.adapter.encode.values import dumps, text, whole
from sidecars.adapter.settings import Settings
from sidecars.adapter.table import LEVELS, Record, Segment

MOST_RECORDS = 1000

# The range from 21 is for what ends a program: `critical` is also what log4j's FATAL and Python's CRITICAL become.
SEVERITIES = dict(zip(LEVELS, (1, 5, 9, 10, 13, 17, 21, 22, 23), strict=True))

_NAMES = {
    "client": "client.address",
    "user": "user.name",
    "method": "http.request.method",
    "status": "http.response.status_code",
    "bytes": "http.response.body.size",
    "user_agent": "user_agent.original",
    "duration": "http.server.request.duration",
    "host": "host.name",
    "process": "process.executable.name",
    "pid": "process.pid",
    "thread": "thread.name",
    "logger": "logger.name",
    "file": "log.file.path",
    "file_name": "code.file.path",
    "line": "code.line.number",
    "facility": "syslog.facility.name",
    "pod": "k8s.pod.name",
    "namespace": "k8s.namespace.name",
    "node": "k8s.node.name",
    "container": "k8s.container.name",
}
# What says where records come from, and so is said once per request.
_OF_RESOURCE = ("service.", "k8s.", "deployment.", "cloud.", "host.", "container.", "telemetry.")
_TRACE = {"trace_id": ("traceId", re.compile("[0-9a-f]{32}")), "span_id": ("spanId", re.compile("[0-9a-f]{16}"))}
_PROTOCOL = re.compile(r"([A-Za-z]+)/([0-9.]+)")


class Encoder:
    """ExportLogsServiceRequest in JSON, of at most 1,000 records each.

    The resource has `service.name`, from --add service.name=NAME, else the file's name without its ending, and the pod.
    What else --add adds under service., k8s., deployment., cloud., host. or container. is the resource's too.
    """

    def __init__(self, settings: Settings, shaping: Shaping) -> None:
        self._shaping = shaping

    def encode(self, segments: Sequence[Segment], origin: str) -> list[bytes]:
        """Encode the records as requests."""
        resource = self._resource(origin)
        start = b'{"resourceLogs":[{"resource":{"attributes":%b},"scopeLogs":[{"scope":%b,"logRecords":[' % (
            dumps([_attribute(_NAMES.get(name, name), value) for name, value in resource.items()]),
            dumps({"name": "log-adapter", "version": __version__}),
        )
        observed = str(time.time_ns())
        records = self._records(segments, origin, resource, observed)
        bodies = []
        while some := list(islice(records, MOST_RECORDS)):
            bodies.append(start + b",".join(some) + b"]}]}]}")
        return bodies

    def _resource(self, origin: str) -> dict[str, str]:
        """Give the attributes of the resource, by the names they have in records."""
        always, otherwise = self._shaping.added(origin)
        stem = os.path.basename(origin).partition(".")[0] if "/" in origin or "." in origin else ""
        resource = {"service.name": whole(stem) or "unknown_service"}
        for name, value in (otherwise | always).items():
            if _NAMES.get(name, name).startswith(_OF_RESOURCE):
                resource[name] = value
        return resource

    def _records(
        self, segments: Sequence[Segment], origin: str, resource: dict[str, str], observed: str
    ) -> Iterator[bytes]:
        for record, message in self._shaping.documents(segments, origin):
            for name, value in resource.items():
                if record.get(name) == value:
                    del record[name]
            yield dumps(_log_record(record, message, observed))


def _log_record(record: Record, message: str, observed: str) -> dict[str, object]:
    document: dict[str, object] = {}
    instant = nanoseconds(record.get("time"))
    # The field is unsigned: a time before 1970 is an attribute.
    if instant is not None and 0 <= instant < 1 << 64:
        document["timeUnixNano"] = str(instant)
        del record["time"]
    document["observedTimeUnixNano"] = observed
    level = record.pop("level", None)
    if isinstance(level, str):
        document["severityNumber"] = SEVERITIES.get(level, 0)
        document["severityText"] = whole(level)
    if isinstance(record.get("message"), str):
        del record["message"]
    document["body"] = {"stringValue": whole(message)}
    for name, (own, form) in _TRACE.items():
        if isinstance(value := record.get(name), str) and form.fullmatch(value):
            document[own] = record.pop(name)
    document["attributes"] = [
        _attribute(key, value) for name, field in record.items() for key, value in _attributes(name, field)
    ]
    return document


def _attributes(name: str, value: object) -> Iterator[tuple[str, object]]:
    """Give the attributes that a field becomes."""
    match name, value:
        case _, None:
            return
        case "path", str():
            path, mark, query = value.partition("?")
            yield "url.path", path
            if mark:
                yield "url.query", query
        case "protocol", str() if found := _PROTOCOL.fullmatch(value):
            yield "network.protocol.name", found[1].lower()
            yield "network.protocol.version", found[2]
        case "referrer", _:
            # A header may come several times, so the conventions make its value a list.
            yield "http.request.header.referer", [value]
        case "thread", int():
            yield "thread.id", value
        case _:
            yield _NAMES.get(name, name), value


def _attribute(name: str, value: object) -> dict[str, object]:
    return {"key": whole(name), "value": any_value(value)}


def any_value(value: object, depth: int = 0) -> dict[str, object]:
    """Give an AnyValue: {"intValue": "200"}, say; 64-bit integers are strings in the JSON of Protocol Buffers."""
    match value:
        case bool():
            return {"boolValue": value}
        case int() if -(1 << 63) <= value < 1 << 63:
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value if math.isfinite(value) else _special(value)}
        case dict() if depth < 50:
            pairs = [{"key": whole(str(key)), "value": any_value(inner, depth + 1)} for key, inner in value.items()]
            return {"kvlistValue": {"values": pairs}}
        case list() | tuple() if depth < 50:
            return {"arrayValue": {"values": [any_value(inner, depth + 1) for inner in value]}}
        case None:
            return {}
    return {"stringValue": text(value)}


def _special(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
