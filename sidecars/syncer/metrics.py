"""What git-syncer counts: git-sync's metrics under its names and printed as it prints them, and our own."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.registry import REGISTRY, Collector
from prometheus_client.samples import Sample

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


class Family(NamedTuple):
    """A metric's kind, what it says, and whether a repository has it before it was ever used."""

    kind: str
    help: str
    from_start: bool = False


FAMILIES = {
    "git_sync_duration_seconds": Family("summary", "Summary of git-sync durations"),
    "git_sync_count_total": Family("counter", "How many git syncs completed, partitioned by state"),
    "git_fetch_count_total": Family("counter", "How many git fetches were run", from_start=True),
    "git_sync_askpass_calls": Family("counter", "How many git askpass calls completed, partitioned by state"),
    "git_sync_refresh_github_app_token_count": Family(
        "counter", "How many times the GitHub app token was refreshed, partitioned by state"
    ),
    "git_sync_hook_run_count_total": Family("counter", "How many hook runs completed, partitioned by name and state"),
    "git_syncer_last_sync_timestamp_seconds": Family("gauge", "When the last good sync ended."),
    "git_syncer_last_change_timestamp_seconds": Family("gauge", "When the published revision last changed."),
    "git_syncer_last_sync_duration_seconds": Family("gauge", "How long the last sync took."),
    "git_syncer_commit_info": Family("gauge", "The published revision; always 1."),
    "git_syncer_failure_streak": Family("gauge", "How many syncs in a row have failed.", from_start=True),
    "git_syncer_gate_runs_total": Family("counter", "Runs of the gate's program, by what came of them."),
    "git_syncer_pushes_total": Family("counter", "Announcements of pushes, by what was done about them."),
}


class Metrics:
    """The numbers of all repositories; they carry the label `repository` only where there are several.

    Any thread may count.
    """

    def __init__(self, repositories: Sequence[str] = ("",)) -> None:
        self._several = len(repositories) > 1
        self._lock = threading.Lock()
        self._values: dict[str, dict[Labels, list[float]]] = {name: {} for name in FAMILIES}
        self._process = ProcessCollector(registry=None)
        for repository in repositories:
            for name, family in FAMILIES.items():
                if family.from_start:
                    self.add(name, repository, {}, 0)

    def of(self, repository: str = "") -> Measures:
        """Give what one repository counts with."""
        return Measures(self, repository)

    def show_in(self, registry: CollectorRegistry = REGISTRY) -> None:
        """Have the registry, by default that of the admin door, tell these numbers too; once for each."""
        registry.register(_Collected(self))

    def add(self, name: str, repository: str, labels: Mapping[str, str], amount: float) -> None:
        """Add to a counter, or to the sum of a summary."""
        with self._lock:
            value = self._values[name].setdefault(self._labels(repository, labels), [0.0, 0])
            value[0] += amount
            value[1] += 1

    def put(self, name: str, repository: str, labels: Mapping[str, str], value: float, *, alone: bool = False) -> None:
        """Set a gauge; `alone` takes away what the repository had under other labels."""
        with self._lock:
            own = self._labels(repository, {})
            if alone:
                kept = self._values[name]
                self._values[name] = {each: old for each, old in kept.items() if not set(own) <= set(each)}
            self._values[name][self._labels(repository, labels)] = [value, 1]

    def _labels(self, repository: str, labels: Mapping[str, str]) -> Labels:
        all_labels = {**labels, "repository": repository} if self._several else labels
        return tuple(sorted(all_labels.items()))

    def collect(self) -> Iterator[tuple[str, Family, list[Sample]]]:
        """Give each metric that has values."""
        for name, family in FAMILIES.items():
            with self._lock:
                values = [(dict(labels), total, count) for labels, (total, count) in self._values[name].items()]
            samples = [
                sample
                for labels, total, count in values
                for sample in (
                    [Sample(f"{name}_sum", labels, total), Sample(f"{name}_count", labels, count)]
                    if family.kind == "summary"
                    else [Sample(name, labels, total)]
                )
            ]
            if samples:
                yield name, family, samples

    def text(self) -> bytes:
        """Give all as Prometheus reads it, whole numbers printed as such: 1, never 1.0, for some compare the text."""
        lines = [_lines(name, family.kind, family.help, samples) for name, family, samples in self.collect()]
        lines += [_lines(_head(each), each.type, each.documentation, each.samples) for each in self._process.collect()]
        return "".join(lines).encode()


class Measures:
    """What one repository counts with."""

    def __init__(self, metrics: Metrics, repository: str) -> None:
        self._metrics = metrics
        self._repository = repository

    def synced(self, status: str, seconds: float) -> None:
        """Count a pass: success (changed, or the first one), noop or error."""
        self._add("git_sync_duration_seconds", seconds, status=status)
        self._add("git_sync_count_total", status=status)
        self._put("git_syncer_last_sync_duration_seconds", seconds)

    def fetched(self) -> None:
        """Count a pass that had something to do."""
        self._add("git_fetch_count_total")

    def asked(self, status: str) -> None:
        """Count a call of --askpass-url: success or error."""
        self._add("git_sync_askpass_calls", status=status)

    def token_refreshed(self, status: str) -> None:
        """Count a refresh of a GitHub App's token: success or error."""
        self._add("git_sync_refresh_github_app_token_count", status=status)

    def hook_run(self, name: str, status: str) -> None:
        """Count a run of a hook: success or error."""
        self._add("git_sync_hook_run_count_total", name=name, status=status)

    def gate_run(self, status: str) -> None:
        """Count a run of the gate: passed or refused."""
        self._add("git_syncer_gate_runs_total", status=status)

    def pushed(self, result: str) -> None:
        """Count an announcement: triggered, ignored, ping, refused, invalid or too_large."""
        self._add("git_syncer_pushes_total", result=result)

    def last_sync(self, when: float) -> None:
        """Say when the last good pass ended, in seconds since 1970."""
        self._put("git_syncer_last_sync_timestamp_seconds", when)

    def published(self, hash: str, ref: str, when: float | None = None) -> None:
        """Say what is published, and when that changed, if it did in this process."""
        self._put("git_syncer_commit_info", 1, alone=True, hash=hash, ref=ref)
        if when is not None:
            self._put("git_syncer_last_change_timestamp_seconds", when)

    def failures(self, count: int) -> None:
        """Say how many passes in a row have failed."""
        self._put("git_syncer_failure_streak", count)

    def _add(self, metric: str, amount: float = 1, /, **labels: str) -> None:
        self._metrics.add(metric, self._repository, labels, amount)

    def _put(self, metric: str, value: float, /, *, alone: bool = False, **labels: str) -> None:
        self._metrics.put(metric, self._repository, labels, value, alone=alone)


class _Collected(Collector):
    """The numbers as the client library wants them.

    A counter whose name does not end in _total is of unknown kind to it: OpenMetrics has no such counters.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        """Give no names, so that registering costs nothing."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Give each metric that has values."""
        for name, family, samples in self._metrics.collect():
            odd = family.kind == "counter" and not name.endswith("_total")
            short = name.removesuffix("_total") if family.kind == "counter" else name
            metric = Metric(short, family.help, "unknown" if odd else family.kind)
            metric.samples = samples
            yield metric


def _head(metric: Metric) -> str:
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


def _lines(name: str, kind: str, help: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
    lines += [f"{sample.name}{_shown(sample.labels)} {number(sample.value)}" for sample in samples]
    return "\n".join(lines) + "\n"


def _shown(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def number(value: float) -> str:
    """Print a number, a whole one without a point: 1, 0.25."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))
