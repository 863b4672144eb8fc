"""What format a file is in, told from its first lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC
from typing import NamedTuple

from sidecars.adapter.formats.catalogue import HEADED, made
from sidecars.adapter.formats.columnar import EMPTY, cleaned
from sidecars.adapter.formats.times import Times
from sidecars.adapter.formats.verdict import Verdict
from sidecars.adapter.table import Format, Segment, Unparsed

# Enough lines to tell.
_LINES = 400
# Less of a file is no proof of a format.
_ENOUGH = 0.5
# Where so few lines begin a record, it is by chance.
_FEWEST = 0.02


class Candidate(NamedTuple):
    """A format that may be it: how much it says that it fits, and bytes of which one must be there to look closer."""

    name: str
    weight: int
    signs: tuple[bytes, ...] = ()
    looks: Callable[[bytes], bool] | None = None


def _has(pattern: bytes) -> Callable[[bytes], bool]:
    return lambda head: re.search(pattern, head, re.MULTILINE) is not None


def _is_csv(separator: bytes) -> Callable[[bytes], bool]:
    """Tell whether the first line has names: words, none of which is a number or a time."""

    def looks(head: bytes) -> bool:
        cells = [cell.strip(b'" \r') for cell in head.partition(b"\n")[0].split(separator)]
        return len(cells) > 1 and all(
            re.fullmatch(rb"[A-Za-z_@][\w.@()/-]{0,40}(?: [\w.()/-]{1,40})?", cell) for cell in cells
        )

    return looks


_SYSLOG = rb"^(?:<\d{1,3}>|[A-Z][a-z]{2} [ \d]\d \d\d:|\d{4}-\d\d-\d\dT\S+ \S+ [^ \n:]+?:)"

# Of equal weight, the one that finds more fields, then the first.
_CANDIDATES = (
    Candidate("docker", 9, (b'"stream":"',), _has(rb'^\{"log":"')),
    Candidate("mongodb", 9, (b'"t":{"$date"',)),
    Candidate("caddy", 9, (b'"http.log',)),
    Candidate("traefik-json", 9, (b'"RequestMethod":',)),
    Candidate("cri", 9, (b" stdout F", b" stderr F", b" stdout P", b" stderr P")),
    Candidate("redis", 9, (b":M ", b":S ", b":C ", b":X ")),
    Candidate("klog", 9, looks=_has(rb"^[IWEF](?:\d{4})?[01]\d[0-3]\d \d\d:")),
    Candidate("mysql-slow", 9, (b"# Query_time:", b"# User@Host:")),
    Candidate("mysql-error", 8, (b" [Note] ", b" [System] ", b" [Warning] ", b" [ERROR] ")),
    Candidate("postgres", 9, (b"LOG:  ", b"ERROR:  ", b"FATAL:  ", b"LOG: ")),
    Candidate("iis", 9, (b"#Software: Microsoft",)),
    Candidate("w3c", 8, (b"#Fields:",)),
    Candidate("alb", 9, (b" app/",)),
    Candidate("envoy", 9, (b'Z] "',)),
    Candidate("haproxy", 8, looks=_has(rb"haproxy\[\d+\]: |:\d+ \[\d\d/[A-Z][a-z]{2}/\d{4}:[\d:]{8}\.\d{3}\] ")),
    Candidate("nginx-ingress", 9, (b" [] ", b"] [")),
    Candidate("traefik", 9, (b'ms\n', b'ms\r\n')),
    Candidate("nginx-error", 9, (b"#",), _has(rb"^\d{4}/\d\d/\d\d [\d:]{8} \[")),
    Candidate("apache-error", 9, looks=_has(rb"^\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d ")),
    Candidate("apache-vhost", 8, (b'] "',)),
    Candidate("nginx", 7, (b'] "',)),
    Candidate("apache", 7, (b'] "',)),
    Candidate("apache-common", 6, (b'] "',)),
    Candidate("gunicorn", 8, looks=_has(rb"^\[\d{4}-\d\d-\d\d [^\]\n]*\] \[\d+\] \[")),
    Candidate("uvicorn", 7, (b"INFO:     ", b"WARNING:  ", b"ERROR:    ")),
    Candidate("ruby", 9, (b" -- ",), _has(rb"^[DIWEFA], \[")),
    Candidate("ltsv", 6, (b"\t",), _has(rb"^[A-Za-z_][\w.-]*:[^\t\n]*\t[A-Za-z_][\w.-]*:")),
    Candidate("syslog", 6, looks=_has(_SYSLOG)),
    Candidate("json", 5, (b"{",)),
    Candidate("python", 5, looks=_has(rb"^\[?\d{4}-|^[A-Z]{4,8}:")),
    Candidate("log4j", 5, looks=_has(rb"^\[?\d\d(?:\d\d-|:)")),
    Candidate("logfmt", 5, (b"=",), _has(rb'^[A-Za-z_@][\w.@/-]*=(?:"[^\n]*"|\S*) [A-Za-z_@][\w.@/-]*=')),
    Candidate("hash", 4, (b"#",), _has(rb"^[^#\n]*\d\d:\d\d[^#\n]*#")),
    Candidate("csv", 4, (b",",), _is_csv(b",")),
    Candidate("tsv", 4, (b"\t",), _is_csv(b"\t")),
)  # fmt: skip
# Which of two formats a file is in whose lines are the same, its name tells.
_TWINS = {"nginx": "apache"}
# Programs in any language write a time, a level and a message: what tells these formats is a trace behind it.
_TRACES = {
    "log4j": re.compile(rb"^(?:\tat [\w.$/<>@]+\(|Caused by: |(?:[\w$]+\.)+[\w$]*(?:Exception|Error)\b)", re.MULTILINE),
    "python": re.compile(rb"^Traceback \(most recent call last\):", re.MULTILINE),
}
_PLAIN = 3


class _Fit(NamedTuple):
    share: float
    weight: int
    fields: float
    name: str
    parsed: int
    total: int


def detect(head: bytes, name: str = "") -> Verdict:
    """Tell the format, as `formats.detect` does."""
    lines = cleaned(head).split(b"\n", _LINES)[:_LINES]
    data = b"\n".join(lines).strip(b"\n") + b"\n"
    total = sum(1 for line in lines if line.strip())
    if not total:
        return Verdict("text", 0.0, 0, "there is no line yet")
    best = _best(data)
    if best is None or best.share < _ENOUGH:
        near = f"; {best.name} fits {best.parsed} of {best.total} lines" if best and best.share else ""
        return Verdict("text", 1.0, total, f"no format fits{near}")
    found = best.name
    reason = f"{best.parsed} of {best.total} lines are {found}"
    if found == "text":
        begin = f"{best.parsed} of {best.total} lines begin with a time and a level, as those of many programs do"
        return Verdict(found, 1.0, total, begin, "all")
    other = _TWINS.get(found)
    if other and re.search(r"apache|httpd", name, re.IGNORECASE):
        return Verdict(
            other, best.share, total, f"{best.parsed} of {best.total} lines are {found} or {other}, and its name"
        )
    if found in ("cri", "docker"):
        return _inside(found, best, data, total)
    return Verdict(found, best.share, total, reason + (f", or {other}" if other else ""))


def _best(data: bytes) -> _Fit | None:
    fits = [
        fit
        for candidate in _CANDIDATES
        if (not candidate.signs or any(sign in data for sign in candidate.signs))
        and (candidate.looks is None or candidate.looks(data))
        and (fit := _fit(candidate, data))
    ]
    # A format that says more is worth some lines that it does not read.
    best = max(fits, key=lambda fit: (fit.share >= _ENOUGH, round(fit.share, 1), fit.weight, fit.fields), default=None)
    return _by_trace(best, fits, data) if best and best.name in _TRACES else best


def _by_trace(best: _Fit, fits: Sequence[_Fit], data: bytes) -> _Fit:
    """Tell formats apart that read the same lines; where nothing tells, it is text with a time and a level."""
    alike = {fit.name: fit for fit in fits if fit.name in _TRACES and round(fit.share, 1) == round(best.share, 1)}
    if alike.keys() != _TRACES.keys():
        return best
    traced = next((fit for name, fit in alike.items() if _TRACES[name].search(data)), None)
    if traced is None and best.fields <= _PLAIN:
        return best._replace(name="text")
    return traced or best


def _format(name: str) -> Format:
    return made(name, Times(UTC), "own", frozenset())


def _fit(candidate: Candidate, data: bytes) -> _Fit | None:
    segments = _format(candidate.name).parse(data)
    parsed = total = heads = fields = 0
    for segment in segments:
        lines = sum(line.count(b"\n") + 1 for line in segment.lines)
        if isinstance(segment, Unparsed):
            total += 0 if segment.error == EMPTY else lines
            continue
        parsed += lines
        total += lines
        heads += segment.count
        fields += sum(len(record) for record in segment.records())
    if not parsed or heads < parsed * _FEWEST:
        return None
    return _Fit(parsed / total, candidate.weight, fields / heads, candidate.name, parsed, total)


def _inside(outer: str, fit: _Fit, data: bytes, total: int) -> Verdict:
    """Tell what stands inside the lines of a container engine."""
    segments = _format(outer).parse(data)
    inner = _best(b"".join(message + b"\n" for message in _messages(segments)))
    reason = f"{fit.parsed} of {fit.total} lines are {outer}"
    if inner and inner.share >= _ENOUGH and inner.name not in (*HEADED, "cri", "docker"):
        return Verdict(
            f"{outer}+{inner.name}",
            fit.share,
            total,
            f"{reason}, {inner.parsed} of {inner.total} in it {inner.name}",
            "all" if inner.name == "text" else "auto",
        )
    return Verdict(outer, fit.share, total, reason)


def _messages(segments: Sequence[Segment]) -> list[bytes]:
    return [
        str(record.get("message", "")).encode("utf-8", "replace")
        for segment in segments
        if not isinstance(segment, Unparsed)
        for record in segment.records()
    ]
