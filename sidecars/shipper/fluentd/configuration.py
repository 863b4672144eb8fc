"""fluentd's configuration as a whole: each source's lines to the first match for their tag, as a plan.

What is not known stops the start, with its line. What is known and differs here is warned of.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sidecars.core.errors import WrongSettings
from sidecars.shipper.fluentd import buffers, grammar, outputs, sources, tags
from sidecars.shipper.fluentd.directives import SYSTEM
from sidecars.shipper.fluentd.grammar import Element, shown
from sidecars.shipper.fluentd.outputs import Match
from sidecars.shipper.fluentd.sections import Report, Section, type_of
from sidecars.shipper.fluentd.sources import Tail
from sidecars.shipper.plan import Output, Plan, Stream

_DIRECTIVES = ("source", "match", "label", "system", "filter")
# Only fluentd's own log and its errors go there.
_OWN_LABELS = ("@FLUENT_LOG", "@ERROR")
_STATE = ".sidecars"


class Route(NamedTuple):
    """A match in its place among others: what it is for, and where that goes, which may be nowhere."""

    place: str
    argument: str
    takes: tags.Matches
    match: Match | None


def read(path: str, environ: Mapping[str, str], *, ignore_unknown: bool = False) -> Plan:
    """Read a configuration and all it includes.

    Raises WrongSettings with file and line of what is wrong, and for a configuration that ships nothing. With
    `ignore_unknown` directives that are not known are left out with a warning: a source is not read, a filter does
    nothing, and what a match would take goes nowhere.
    """
    tree = grammar.read(path, environ)
    reading = _Configuration(environ, Report(tree.warnings, ignore_unknown=ignore_unknown))
    reading.take(tree.root, "")
    return reading.plan(path)


class _Configuration:
    """Sources, and matches by label; those outside of labels are under the empty one."""

    def __init__(self, environ: Mapping[str, str], report: Report) -> None:
        self._environ = environ
        self._report = report
        self._tails: list[Tail] = []
        self._routes: dict[str, list[Route]] = {"": []}
        self._matches: list[Match] = []

    def take(self, element: Element, label: str) -> None:
        """Take up the directives of the file, or of a label."""
        for parameter in element.parameters.values():
            self._report.unknown(parameter.place, f"{shown(parameter.name)} outside of any section", ("@include",))
        for inner in element.elements:
            self._directive(inner, label)

    def _directive(self, element: Element, label: str) -> None:
        match element.name:
            case "source" if not label:
                self._source(element)
            case "match":
                self._match(element, label)
            case "filter":
                effect = "lines pass it unchanged"
                self._report.unknown(element.place, "<filter>", ("source", "match", "label", "system"), effect)
            case "label" if not label:
                self._label(element)
            case "system" if not label:
                self._system(element)
            case name:
                known = ("match", "filter") if label else _DIRECTIVES
                self._report.unknown(element.place, f"<{shown(name)}>{' inside <label>' if label else ''}", known)

    def _system(self, element: Element) -> None:
        Section(element, SYSTEM, self._report)
        for inner in element.elements:
            self._report.warn(inner.place, f"<{inner.name}> of <system> has no effect")

    def _label(self, element: Element) -> None:
        if element.argument in _OWN_LABELS:
            self._report.warn(
                element.place, f"<label {element.argument}> differs here: this program's log is on stderr"
            )
            return
        self._routes.setdefault(element.argument, [])
        self.take(element, element.argument)

    def _source(self, element: Element) -> None:
        kind = type_of(element)
        if kind == "tail":
            self._tails.append(sources.tail(element, self._report))
        else:
            self._report.unknown(element.place, f"{shown(kind)} as @type of a source", ("tail",), "it is not read")

    def _match(self, element: Element, label: str) -> None:
        kind = type_of(element)
        match = None
        if kind == "s3":
            match = outputs.match(element, len(self._matches) + 1, self._environ, self._report)
            self._matches.append(match)
        elif kind != "null":
            effect = "what it takes is not shipped"
            self._report.unknown(element.place, f"{shown(kind)} as @type of a match", ("s3", "null"), effect)
        try:
            takes = tags.patterns(element.argument)
        except WrongSettings as error:
            raise WrongSettings(f"{element.place}: {error}") from error
        self._routes[label].append(Route(element.place, element.argument, takes, match))

    # The plan

    def plan(self, path: str) -> Plan:
        """Join sources and matches. Raises WrongSettings when nothing is shipped."""
        streams = [stream for tail in self._tails for stream in self._streams(tail)]
        used = {stream.output.name for stream in streams}
        for route in (route for routes in self._routes.values() for route in routes):
            if route.match and route.match.output.name not in used:
                self._report.warn(route.place, f"<match {route.argument}> takes no source, so it ships nothing")
        if not streams:
            raise WrongSettings(
                f"{path} ships nothing: it needs a <source> of @type tail and a <match> of @type s3 for its tag"
                + "".join(f"; {warning}" for warning in self._report.warnings)
            )
        state_dir = self._state_dir()
        waits = [tail.rotate_wait for tail in self._tails if tail.rotate_wait is not None]
        jobs = [match.buffer.jobs for match in self._matches if match.buffer.jobs]
        return Plan(
            streams=tuple(streams),
            state_dir=state_dir,
            rotate_wait=max(waits, default=5.0),
            backlog_limit=self._backlog_limit(),
            upload_jobs=max(jobs, default=None),
            warnings=tuple(self._report.warnings),
        )

    def _streams(self, tail: Tail) -> Iterator[Stream]:
        """Give a stream for each output that the source's paths go to; with a * in the tag these can be several."""
        if tail.label is not None and tail.label not in self._routes:
            raise WrongSettings(
                f"{tail.place}: there is no <label {tail.label}> for this source; add it, with a <match>"
            )
        routes = self._routes[tail.label or ""]
        paths: dict[str, tuple[Output, list[str]]] = {}
        for path in tail.paths:
            route = self._route(tail, path, routes)
            if route is None or route.match is None:
                self._report.warn(tail.place, f"{path} is not shipped: {_why_not(route, tail.sample_tag(path))}")
                continue
            output = route.match.output
            paths.setdefault(output.name, (output, []))[1].append(path)
        yield from (_stream(tail, tuple(chosen), output) for output, chosen in paths.values())

    def _route(self, tail: Tail, path: str, routes: Sequence[Route]) -> Route | None:
        tag = tail.sample_tag(path)
        number = next((number for number, route in enumerate(routes) if route.takes(tag)), None)
        if number is None:
            return None
        if "*" in tag:
            self._warn_of_overlap(tail, path, routes[number], routes[:number])
        return routes[number]

    def _warn_of_overlap(self, tail: Tail, path: str, taken: Route, passed: Sequence[Route]) -> None:
        """Say which matches could have taken some files of a glob, whose names and so tags are not known yet."""
        begin = tags.literal(tail.sample_tag(path))
        for route in passed:
            others = [tags.literal(pattern) for pattern in route.argument.split()]
            if any(begin.startswith(other) or other.startswith(begin) for other in others):
                self._report.warn(
                    tail.place,
                    f"all files of {path} go to <match {taken.argument}>, also those whose tag "
                    f"<match {route.argument}> of {route.place} is for; give these a source of their own",
                )

    def _state_dir(self) -> str | None:
        """Give where state is kept: below the first buffer's path, or else beside the first file of offsets."""
        paths = [match.buffer.path for match in self._matches if match.buffer.path]
        for path in dict.fromkeys(paths):
            if count := buffers.left_behind(path):
                self._report.warn(
                    path, f"{count} chunks that fluentd has not uploaded are left here; have fluentd upload them"
                )
        if paths:
            return os.path.join(buffers.directory(paths[0]), _STATE)
        files = [tail.pos_file for tail in self._tails if tail.pos_file]
        return os.path.join(os.path.dirname(files[0]), _STATE) if files else None

    def _backlog_limit(self) -> int | None:
        totals = [match.buffer.total for match in self._matches]
        known = [total for total in totals if total is not None]
        return sum(known) if known and len(known) == len(totals) else None


def _why_not(route: Route | None, tag: str) -> str:
    if route is None:
        return f"no <match> is for its tag {tag}"
    return f"<match {route.argument}> of {route.place} takes its tag {tag}, and ships nothing"


def _stream(tail: Tail, paths: tuple[str, ...], output: Output) -> Stream:
    return Stream(
        paths=paths,
        output=output,
        exclude=tail.exclude,
        from_end=tail.from_end,
        tag=tail.tag,
        multiline=tail.multiline,
        parse=tail.parse,
        pos_file=tail.pos_file,
        path_key=tail.path_key,
        path_zone=tail.path_zone,
    )
