"""Metrics of what was read: requests, errors and durations of access logs, levels of others, and an operator's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import REGISTRY, CollectorRegistry

from sidecars.adapter import metrics
from sidecars.adapter.columns import Column, Columns, Read
from sidecars.adapter.histogram import BUCKETS, Histogram
from sidecars.adapter.table import LEVELS, Json, Segment, Table, Unparsed

if TYPE_CHECKING:
    from sidecars.adapter.measures import Measure
    from sidecars.adapter.settings import Settings

# The methods of RFC 9110 and PATCH; WebDAV's and what scanners invent are one.
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"))
OTHER = "OTHER"
_LABELS = ("method", "status_class")
_MOST_REMEMBERED = 4096
_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_integers = msgspec.json.Decoder(list[int])


class Requests:
    """The requests of access logs, by method and class of status. Shown to Prometheus as a collector.

    There is no counter of errors of its own: they are the requests of the classes 4xx and 5xx.
    """

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str]] = Counter()
        self._durations: dict[tuple[str, str], Histogram] = {}
        self._bytes = 0
        self._labels: dict[bytes, tuple[str, str] | None] = {}

    def add(self, requests: Iterable[bytes]) -> None:
        """Count requests, each given as its status and method, b"200 GET". What is equal is looked at once."""
        for request, count in Counter(requests).items():
            labels = self._label(request)
            if labels:
                self._requests[labels] += count

    def add_timed(self, requests: Iterable[bytes], cells: Column, seconds: Read) -> None:
        """Count requests with what says how long they took, if anything."""
        for (request, cell), count in Counter(zip(requests, cells, strict=True)).items():
            labels = self._label(request)
            if labels:
                self._requests[labels] += count
                if cell:
                    self._took(labels, seconds(cell), count)

    def _took(self, labels: tuple[str, str], seconds: object, count: int) -> None:
        if not isinstance(seconds, (int, float)) or not 0 <= seconds < float("inf"):
            return
        durations = self._durations.get(labels)
        if durations is None:
            durations = self._durations[labels] = Histogram(BUCKETS)
        durations.add(seconds, count)

    def _label(self, request: bytes) -> tuple[str, str] | None:
        if request not in self._labels:
            if len(self._labels) >= _MOST_REMEMBERED:  # methods are hostile text
                self._labels.clear()
            self._labels[request] = labels_of(request)
        return self._labels[request]

    def sent(self, cells: Column) -> None:
        """Add the bytes of responses, given as the digits of a Table's integers."""
        text = b",".join(cells)  # type: ignore[arg-type]
        if b",," in text or text[:1] == b"," or text[-1:] == b",":
            text = b",".join(filter(None, cells))  # type: ignore[arg-type]
        try:
            self._bytes += sum(_integers.decode(b"[" + text + b"]"))
        except msgspec.DecodeError:
            self._bytes += sum(int(cell) for cell in text.split(b",") if cell.isdigit())

    def take(self) -> object:
        """Give what was counted since the last time: another process's `merge` adds it."""
        taken = (self._requests, self._durations, self._bytes)
        self._requests, self._durations, self._bytes = Counter(), {}, 0
        return taken

    def merge(self, taken: Any) -> None:
        """Add what another process counted."""
        requests, durations, size = taken
        self._requests.update(requests)
        for labels, each in durations.items():
            self._durations.setdefault(labels, Histogram(BUCKETS)).merge(each)
        self._bytes += size

    def describe(self) -> list[Metric]:
        """Name nothing beforehand."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Give what Prometheus is told. The thread that counts goes on meanwhile."""
        requests = CounterMetricFamily("adapter_requests", "Requests in access logs.", labels=_LABELS)
        for labels, count in list(self._requests.items()):
            requests.add_metric(labels, count)
        yield requests
        durations = HistogramMetricFamily(
            "adapter_request_duration_seconds", "How long the requests in access logs took.", labels=_LABELS
        )
        for labels, each in list(self._durations.items()):
            durations.add_metric(labels, each.buckets(), each.total)
        yield durations
        yield CounterMetricFamily("adapter_response_bytes", "Bytes of the responses in access logs.", self._bytes)


def labels_of(request: bytes) -> tuple[str, str] | None:
    """Give the labels of a request such as b"200 GET"; None where the status is none of HTTP's."""
    status, _, method = request.partition(b" ")
    if len(status) != 3 or not status.isdigit():
        return None
    name = method.decode("latin-1")
    # 000 is what some proxies write for a request whose client had gone.
    kind = f"{status[:1].decode()}xx" if status[:1] in b"12345" else "other"
    return name if name in METHODS else OTHER, kind


class Levels:
    """Records by level. Shown to Prometheus as a collector."""

    def __init__(self) -> None:
        self._events: Counter[str] = Counter()

    def add(self, cells: Column, level: Read) -> None:
        """Count records that have a level."""
        for cell, count in Counter(cells).items():
            name = level(cell) if cell else None
            if name is not None:
                self._events[name if isinstance(name, str) and name in LEVELS else "other"] += count

    def take(self) -> object:
        """Give what was counted since the last time: another process's `merge` adds it."""
        taken, self._events = self._events, Counter()
        return taken

    def merge(self, taken: Any) -> None:
        """Add what another process counted."""
        self._events.update(taken)

    def describe(self) -> list[Metric]:
        """Name nothing beforehand."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Give what Prometheus is told."""
        events = CounterMetricFamily("adapter_events", "Records that have a level, by it.", labels=["level"])
        for level, count in list(self._events.items()):
            events.add_metric([level], count)
        yield events


class Counting:
    """Counts records. Raises WrongSettings for a metric of the settings that can be none.

    The durations of records that are no Table are left out: whether they are seconds only their writer knows, and a
    histogram of the settings says so.
    """

    def __init__(self, settings: Settings, registry: CollectorRegistry = REGISTRY) -> None:
        self._requests = Requests()
        self._levels = Levels()
        self._columns = Columns(("level", "status", "method", "duration", "bytes"))
        self._measures: list[Measure] = []
        if settings.metrics:
            from sidecars.adapter.measures import measures  # only who has some pays for it

            self._measures = measures(settings)
        self._parts: list[Requests | Levels | Measure] = [self._requests, self._levels, *self._measures]
        for each in self._parts:
            registry.register(each)

    def count(self, segments: Sequence[Segment]) -> None:
        """Count the records of a portion, once each. Raises nothing."""
        metrics.RECORDS.inc(sum(segment.count for segment in segments))
        for segment in segments:
            if isinstance(segment, Unparsed):
                metrics.PARSE_ERRORS.inc(segment.count)
            elif isinstance(segment, Table):
                self._count_table(segment)
            else:
                self._count_records(segment)
            for measure in self._measures:
                measure.add(segment)

    def take(self) -> list[object]:
        """Give what was counted since the last time, but for the numbers of records: for merge() of another process."""
        return [each.take() for each in self._parts]

    def merge(self, records: int, wrong: int, taken: Sequence[object]) -> None:
        """Add what another process has counted: records, those of them that did not parse, and what take() gave."""
        metrics.RECORDS.inc(records)
        metrics.PARSE_ERRORS.inc(wrong)
        for part, each in zip(self._parts, taken, strict=True):
            part.merge(each)

    def _count_table(self, table: Table) -> None:
        columns = self._columns.of(table)
        if columns is None:
            return
        names = {field.name for field in table.fields}
        levels, status, method, duration, size = columns
        level, _, _, seconds, _ = self._columns.readers(table)
        if "status" in names:
            # zip() makes one tuple, again and again, when only the join holds it: this is the fastest key.
            requests = map(b" ".join, zip(status, method, strict=True))  # type: ignore[arg-type]
            if "duration" in names:
                self._requests.add_timed(requests, duration, seconds)
            else:
                self._requests.add(requests)
            if "bytes" in names:
                self._requests.sent(size)
        if "level" in names:
            self._levels.add(levels, level)

    def _count_records(self, segment: Segment) -> None:
        seen = _seen(segment)
        self._levels.add([each.level for each in seen], _itself)
        # A status without a method is anything.
        requests = [f"{each.status} {each.method}" for each in seen if each.status is not None and each.method]
        self._requests.add(request.encode("utf-8", "replace") for request in requests)


class _Seen(msgspec.Struct, gc=False):
    """What is counted of a record that stands in no Table."""

    level: str | None = None
    method: str | None = None
    status: int | None = None


_decode = msgspec.json.Decoder(_Seen).decode_lines


def _seen(segment: Segment) -> Sequence[_Seen]:
    if isinstance(segment, Json):
        if segment.seen is not None:
            return segment.seen
        try:
            return _decode(segment.data)
        except _BROKEN:
            pass  # the fields of one of the lines are something else
    return [
        _Seen(_text(record.get("level")), _text(record.get("method")), _status(record.get("status")))
        for record in segment.records()
    ]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _status(value: object) -> int | None:
    try:
        return int(value) if isinstance(value, (int, str)) else None
    except ValueError:
        return None


def _itself(value: object) -> object:
    return value
