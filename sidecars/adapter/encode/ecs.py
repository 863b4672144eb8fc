"""Documents for Elasticsearch: the Elastic Common Schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from sidecars.adapter.encode.ecs_names import ECS_VERSION, INTEGERS, SETS, TEXTS
from sidecars.adapter.encode.ecs_table import Documents, Slow, is_address
from sidecars.adapter.encode.instants import nanoseconds, now
from sidecars.adapter.encode.shaping import Shaping
from sidecars.adapter.encode.values import dump_lines, dumps
from sidecars.adapter.settings import Settings
from sidecars.adapter.table import Record, Segment, Table

_TRACE = re.compile(
    r"^(?:[ \t]++(?:at \S|File \"|from [^\s:]++:\d++:in )|Traceback \(most|goroutine \d++ \[|Caused by: )", re.MULTILINE
)
_BEGINS_TRACE = re.compile(r"(?:Traceback \(most|panic: |(?:Exception in thread )?[\w.$\"\- ]*(?:Exception|Error)\b)")


class Encoder:
    """ECS documents, one per line.

        {"@timestamp":"2026-11-23T06:00:00Z","log.level":"info","message":"...","ecs.version":"8.11.0","http":{...}}

    The first four stand as the ecs-logging libraries write them, `log.level` and `ecs.version` with their dots, so that
    a person finds them at a line's beginning (elastic/ecs-logging, spec/spec.json); everything else is nested, as Beats
    nest it. Fields that the schema does not know are labels, flat as it asks for: nested names are joined by `_`. A
    record that has objects or dotted names of the schema already keeps them.
    """

    def __init__(self, settings: Settings, shaping: Shaping) -> None:
        self._shaping = shaping
        self._documents = Documents(shaping)

    def encode(self, segments: Sequence[Segment], origin: str) -> list[bytes]:
        """Encode each record as a document."""
        return [self._segment(segment, origin) for segment in self._shaping.segments(segments, lines=True)]

    def _segment(self, segment: Segment, origin: str) -> bytes:
        if isinstance(segment, Table):
            try:
                return self._documents.encode(segment, origin)
            except Slow:
                pass
        return dump_lines([_document(*document) for document in self._shaping.told(segment, origin)])


def _document(record: Record, message: str) -> dict[str, object]:
    time = record.get("time")
    timed = nanoseconds(time) is not None
    document: dict[str, object] = {
        "@timestamp": record.pop("time") if timed else record.pop("@timestamp", None) or now()
    }
    if isinstance(record.get("level"), str):
        document["log.level"] = record.pop("level")
    if isinstance(record.get("message"), str):
        del record["message"]
    document["message"], trace = split_trace(message)
    document["ecs.version"] = ECS_VERSION
    for name, value in record.items():
        for path, member in _members(name, value):
            _put(document, path, member)
    if trace:
        _put(document, "error.stack_trace", trace)
    return document


def split_trace(message: str) -> tuple[str, str]:
    """Split a message of several lines that holds a stack trace: its first line, and the trace.

    A trace that begins with the first line is given whole.
    """
    if "\n" not in message or not _TRACE.search(message):
        return message, ""
    first, _, rest = message.partition("\n")
    return first, message if _BEGINS_TRACE.match(first) else rest


def _members(name: str, value: object) -> Iterator[tuple[str, object]]:
    """Give the members of the document that a field becomes, by dotted paths."""
    if value is None:
        return
    if name in _SEVERAL and isinstance(value, str):
        yield from _SEVERAL[name](value)
    elif name in TEXTS and isinstance(value, str):
        yield TEXTS[name], value
    elif name in INTEGERS and type(value) is int:
        yield INTEGERS[name], value
    elif name == "duration" and isinstance(value, (int, float)) and _finite(value):
        yield "event.duration", round(value * 1e9)
    else:
        yield from _foreign(name, value)


def _client(value: str) -> Iterator[tuple[str, object]]:
    yield "source.address", value
    # Elasticsearch refuses a whole document for an `ip` that is none.
    if is_address(value):
        yield "source.ip", value


def _path(value: str) -> Iterator[tuple[str, object]]:
    path, _, query = value.partition("?")
    yield "url.original", value
    if path:
        yield "url.path", path
    if query:
        yield "url.query", query


def _protocol(value: str) -> Iterator[tuple[str, object]]:
    name, slash, version = value.partition("/")
    if slash and name == "HTTP":
        yield "http.version", version
    else:
        yield "network.protocol", value.lower()


_SEVERAL: dict[str, Callable[[str], Iterator[tuple[str, object]]]] = {
    "client": _client,
    "path": _path,
    "protocol": _protocol,
}


def _foreign(name: str, value: object) -> Iterator[tuple[str, object]]:
    root, dot, _ = name.partition(".")
    if root in SETS and (dot or isinstance(value, dict)):
        yield from _own(name, value)
    elif name == "tags" and isinstance(value, list):
        yield name, value
    else:
        yield from _labels(name, value)


def _own(path: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _own(f"{path}.{name}", inner)
    else:
        yield path, value


def _labels(name: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for inner, member in value.items():
            yield from _labels(f"{name}_{inner}", member)
    elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        yield f"labels.{name.replace('.', '_')}", dumps(value).decode()
    else:
        yield f"labels.{name.replace('.', '_')}", value


def _put(document: dict[str, object], path: str, value: object) -> None:
    """Put a value at a dotted path; where a text stands in the way, under the whole path as a name.

    What stands there with its dots, such as `log.level`, is not said twice: Elasticsearch would make a list of it.
    """
    if path in document:
        return
    *parents, last = path.split(".")
    place = document
    for parent in parents:
        inner = place.setdefault(parent, {})
        if not isinstance(inner, dict):
            document[path] = value
            return
        place = inner
    place[last] = value


def _finite(value: float) -> bool:
    # True is an int, too; and there are integers that no float can be.
    return not isinstance(value, bool) and abs(value) < 1e300
