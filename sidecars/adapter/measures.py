"""The metrics that an operator makes of fields: counters, gauges and histograms, each with bounded labels."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family

from sidecars.adapter.columns import Columns
from sidecars.adapter.encode.redaction import redactor
from sidecars.adapter.encode.values import text
from sidecars.adapter.histogram import BUCKETS, Histogram
from sidecars.adapter.settings import Metric, Settings
from sidecars.adapter.table import Segment
from sidecars.core.errors import WrongSettings
from sidecars.core.log import log

OTHER = "other"
# Values of labels are text of logs, and so is their number: both have an end, and so have their combinations.
_LONGEST_VALUE = 200
_MOST_SERIES = 10_000
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_CONDITION = re.compile(r"([^=~!]+)(!=|=|~)(.*)", re.DOTALL)
_TAKEN = ("adapter_", "sidecar_", "follow_", "delivery_", "oldest_undelivered_", "process_", "python_")


class Condition(NamedTuple):
    """What a field must be for a record to count."""

    field: str
    met: Callable[[str], bool]


def condition(given: str) -> Condition:
    """Read one `where`: FIELD=VALUE, FIELD!=VALUE or FIELD~REGEX; a field that is absent is empty.

    Raises WrongSettings.
    """
    match = _CONDITION.fullmatch(given)
    if not match:
        raise WrongSettings(f"the condition {given!r} is none; write FIELD=VALUE, FIELD!=VALUE or FIELD~REGEX")
    field, operator, value = match[1].strip(), match[2], match[3].strip()
    if operator == "=":
        return Condition(field, value.__eq__)
    if operator == "!=":
        return Condition(field, value.__ne__)
    try:
        expression = re.compile(value)
    except re.error as error:
        raise WrongSettings(f"the condition {given!r} has no regular expression: {error}") from error
    return Condition(field, lambda cell: expression.search(cell) is not None)


class Labels:
    """Values of labels as they may be shown: redacted, cut, and no more than `most` for each label."""

    def __init__(self, metric: str, names: Sequence[str], most: int, redact: Callable[[str], str]) -> None:
        self._metric = metric
        self._names = names
        self._most = most
        self._redact = redact
        self._known: list[set[str]] = [set() for _ in names]
        self._full: set[str] = set()

    def shown(self, values: Iterable[str]) -> tuple[str, ...]:
        """Give the values of one record's labels."""
        return tuple(self._shown(index, value) for index, value in enumerate(values))

    def _shown(self, index: int, value: str) -> str:
        value = self._redact(value)[:_LONGEST_VALUE]
        known = self._known[index]
        if value in known:
            return value
        if len(known) < self._most:
            known.add(value)
            return value
        name = self._names[index]
        if name not in self._full:
            self._full.add(name)
            advice = "choose a field with fewer values, or raise --max-label-values"
            log.warning("too many values of a label", metric=self._metric, label=name, most=self._most, advice=advice)
        return OTHER


class Measure:
    """One metric of the settings. Shown to Prometheus as a collector; the thread that counts goes on meanwhile."""

    def __init__(self, metric: Metric, most: int, redact: Callable[[str], str]) -> None:
        pairs = [_label(metric, each) for each in metric.labels]
        conditions = [condition(each) for each in metric.where]
        self._metric = metric
        self._names = [name for name, _ in pairs]
        self._labels = Labels(metric.name, self._names, most, redact)
        self._conditions = [(len(pairs) + index, each.met) for index, each in enumerate(conditions)]
        fields = [field for _, field in pairs] + [each.field for each in conditions]
        self._columns = Columns([*fields, metric.field] if metric.field is not None else fields)
        self._bounds = metric.buckets or BUCKETS
        self._sums: dict[tuple[str, ...], float] = {}
        self._histograms: dict[tuple[str, ...], Histogram] = {}

    def add(self, segment: Segment) -> None:
        """Count the records of a segment. What is equal is looked at once, but for a gauge, whose last value counts."""
        columns = self._columns.of(segment) or [(None,) * segment.count] * len(self._columns.names)
        reads = self._columns.readers(segment)
        rows = zip(*columns, strict=True) if columns else iter([()] * segment.count)
        counted = ((row, 1) for row in rows) if self._metric.type == "gauge" else Counter(rows).items()
        for row, count in counted:
            self._add_row(
                [read(cell) if cell is not None else None for read, cell in zip(reads, row, strict=True)], count
            )

    def _add_row(self, values: Sequence[object], count: int) -> None:
        if not all(met(text(values[index])) for index, met in self._conditions):
            return
        value = 1.0 if self._metric.field is None else _number(values[-1])
        if value is None or (value < 0 and self._metric.type == "counter"):
            return
        labels = self._labels.shown(text(each) for each in values[: len(self._names)])
        if self._metric.type == "histogram":
            key = _key(labels, self._histograms)
            if key not in self._histograms:
                self._histograms[key] = Histogram(self._bounds)
            self._histograms[key].add(value, count)
        else:
            key = _key(labels, self._sums)
            self._sums[key] = value if self._metric.type == "gauge" else self._sums.get(key, 0.0) + value * count

    def take(self) -> object:
        """Give what was counted since the last time: another process's `merge` adds it."""
        taken = (self._sums, self._histograms)
        self._sums, self._histograms = {}, {}
        return taken

    def merge(self, taken: Any) -> None:
        """Add what another process counted; of a gauge its value replaces this one's."""
        sums, histograms = taken
        for labels, value in sums.items():
            key = _key(self._labels.shown(labels), self._sums)
            self._sums[key] = value if self._metric.type == "gauge" else self._sums.get(key, 0.0) + value
        for labels, each in histograms.items():
            key = _key(self._labels.shown(labels), self._histograms)
            self._histograms.setdefault(key, Histogram(self._bounds)).merge(each)

    def describe(self) -> list[Family]:
        """Name nothing beforehand."""
        return []

    def collect(self) -> Iterator[Family]:
        """Give what Prometheus is told."""
        metric = self._metric
        about = metric.help or f"Made of the field {metric.field}." if metric.field else metric.help or "Records."
        if metric.type == "histogram":
            family = HistogramMetricFamily(metric.name, about, labels=self._names)
            for labels, each in list(self._histograms.items()):
                family.add_metric(labels, each.buckets(), each.total)
            yield family
            return
        kind = GaugeMetricFamily if metric.type == "gauge" else CounterMetricFamily
        simple = kind(metric.name, about, labels=self._names)
        for labels, total in list(self._sums.items()):
            simple.add_metric(labels, total)
        yield simple


def measures(settings: Settings) -> list[Measure]:
    """Make the metrics of the settings. Raises WrongSettings."""
    redact = redactor(settings.redact, settings.redact_pattern)
    names: set[str] = set()
    for metric in settings.metrics:
        check(metric)
        if metric.name in names:
            raise WrongSettings(f"the metric {metric.name} is there twice; give one of them another name")
        names.add(metric.name)
    hide = redact.text if redact else str
    return [Measure(metric, max(1, settings.max_label_values), hide) for metric in settings.metrics]


def check(metric: Metric) -> None:
    """Raise WrongSettings for a metric that cannot be."""
    name = metric.name
    if not _NAME.fullmatch(name):
        raise WrongSettings(f"{name!r} is no name of a metric; use letters, digits and _")
    if name.startswith(_TAKEN):
        raise WrongSettings(f"the metric {name} begins as those of this program; give it another name")
    if metric.type == "counter" and not name.endswith("_total"):
        raise WrongSettings(f"the counter {name} needs a name that ends in _total, such as {name}_total")
    if metric.type != "counter" and not metric.field:
        raise WrongSettings(f"the {metric.type} {name} needs a field, which has its values")
    if metric.buckets and metric.type != "histogram":
        raise WrongSettings(f"the {metric.type} {name} has buckets, which only a histogram has")
    if list(metric.buckets) != sorted(set(metric.buckets)) or not all(map(math.isfinite, metric.buckets)):
        raise WrongSettings(f"the buckets of {name} are {list(metric.buckets)}, expected numbers that rise")
    labels = [_label(metric, each)[0] for each in metric.labels]
    if len(set(labels)) < len(labels):
        raise WrongSettings(f"the metric {name} has a label twice: {', '.join(labels)}")


def _label(metric: Metric, given: str) -> tuple[str, str]:
    """Read a label: FIELD or NAME=FIELD."""
    name, separator, field = given.partition("=")
    name, field = name.strip(), field.strip() if separator else name.strip()
    if not _LABEL.fullmatch(name) or not field or (name == "le" and metric.type == "histogram"):
        raise WrongSettings(
            f"{given!r} is no label of {metric.name}; write a FIELD, or NAME=FIELD to name it otherwise"
        )
    return name, field


def _key(labels: tuple[str, ...], known: Collection[tuple[str, ...]]) -> tuple[str, ...]:
    """Give where to count: in the series of these labels, unless there are too many already."""
    return labels if labels in known or len(known) < _MOST_SERIES else (OTHER,) * len(labels)


def _number(value: object) -> float | None:
    """Give a value as a number, None if it is none."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
