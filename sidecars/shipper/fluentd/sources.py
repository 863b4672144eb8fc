"""`<source>` of @type tail: which files are read, how, and under which tag."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from sidecars.core.errors import WrongSettings
from sidecars.shipper import expressions, parsers
from sidecars.shipper.fluentd import zones
from sidecars.shipper.fluentd.directives import PARSE, TAIL
from sidecars.shipper.fluentd.grammar import Element
from sidecars.shipper.fluentd.sections import Report, Section
from sidecars.shipper.plan import Parse

_KINDS = ("none", "json", "nginx", "apache2", "regexp", "multiline")
_STRFTIME = re.compile(r"(?:%[-0_^#]*:*\d*[A-Za-z+])+")
_BRACES = re.compile(r"\{([^{}]*)\}")
_MAGIC = {
    "backward_compatible": re.compile(r"\*"),
    "extended": re.compile(r"[*?]|\[.*\]"),
    "always": re.compile(r"[*?]|\[.*\]|\{.*,.*\}"),
}
_ACCESS_TIME = "%d/%b/%Y:%H:%M:%S %z"
_SAME = ("keep_time_key", "null_value_pattern", "null_empty_string", "estimate_current_event")


class Tail(msgspec.Struct, frozen=True, kw_only=True):
    """One source; `label` is where its lines go to, if not to the matches outside of labels."""

    place: str
    tag: str
    paths: tuple[str, ...]
    exclude: tuple[str, ...]
    from_end: bool
    rotate_wait: float | None
    parse: Parse
    multiline: str | None
    pos_file: str | None
    path_key: str | None
    path_zone: str | None
    label: str | None

    def sample_tag(self, path: str) -> str:
        """Give the tag of a path's lines; of a glob, with its * and ? in it, as no file is known yet."""
        return self.tag.replace("*", re.sub(r"[/.]+", ".", path).removeprefix("."), 1)


def tail(element: Element, report: Report) -> Tail:
    """Read a source. Raises WrongSettings, with the line."""
    section = Section(element, TAIL, report)
    _warn(section)
    parse = _parse(section)
    return Tail(
        place=section.place,
        tag=section.needed("tag"),
        paths=_paths(section),
        exclude=_exclude(section),
        from_end=not section.get("read_from_head", False),
        rotate_wait=section.get("rotate_wait"),
        parse=parse,
        multiline=_first_line(section, parse),
        pos_file=section.get("pos_file"),
        path_key=section.get("path_key"),
        path_zone=zones.named(section, "path_timezone") if section.get("path_timezone") else None,
        label=section.get("@label"),
    )


def _warn(section: Section) -> None:
    for name in ("encoding", "from_encoding"):
        if section.get(name, "utf-8").lower() not in ("utf-8", "ascii-8bit", "us-ascii"):
            section.report.warn(
                section.where(name), f"{name} differs here: lines are shipped in the encoding they have"
            )
    for group in section.inner("group"):
        section.report.warn(group.place, "<group> differs here: reading is not slowed down")


# Paths


def _paths(section: Section) -> tuple[str, ...]:
    texts = section.needed("path").split(section.get("path_delimiter", ","))
    paths = tuple(path for text in texts if text.strip() for path in _expanded(section, "path", text.strip()))
    if not paths:
        raise section.wrong("path", "is empty; was it written with a variable that is not set?")
    return tuple(dict.fromkeys(paths))


def _exclude(section: Section) -> tuple[str, ...]:
    texts = section.get("exclude_path", ())
    for text in texts:
        if "/" not in text:
            section.report.warn(
                section.where("exclude_path"),
                f"{text} has no folder: files of that name are left out wherever they are; fluentd leaves out none",
            )
    return tuple(path for text in texts for path in _expanded(section, "exclude_path", text))


def _expanded(section: Section, name: str, text: str) -> Iterator[str]:
    """Give a path as globs of our own. Where fluentd sees no glob, * ? and [ are themselves."""
    magic = _MAGIC[section.get("glob_policy", "backward_compatible")].search(text)
    for path in _alternatives(text.replace("[^", "[!")) if magic else [glob.escape(text)]:
        yield _undated(section, name, path)


def _alternatives(path: str) -> Iterator[str]:
    found = _BRACES.search(path)
    if found is None:
        yield path
        return
    for choice in found[1].split(","):
        yield from _alternatives(path[: found.start()] + choice + path[found.end() :])


def _undated(section: Section, name: str, path: str) -> str:
    """Put * for the parts of a date: /logs/app.%Y%m%d.log -> /logs/app.*.log."""
    names = [_undated_name(each) for each in path.split("/")]
    undated = "/".join(names)
    if undated != path.replace("%%", "%"):
        section.report.warn(
            section.where(name), f"{name} has a date in it: it is taken for {undated}, whatever the day"
        )
    return undated


def _undated_name(name: str) -> str:
    undated = _STRFTIME.sub("*", name.replace("%%", "\0"))
    # Two stars that make up a whole name would mean folders.
    changed = re.sub(r"\*{2,}", "*", undated) if undated != name else name
    return changed.replace("\0", "%")


# Parsing


def _parse(section: Section) -> Parse:
    given = _given(section)
    kind, time_format = given["kind"], given.get("time_format")
    if kind not in _KINDS:
        raise WrongSettings(f"{given['place']}: format {kind} is not known here; known are {', '.join(_KINDS)}")
    parse = Parse(
        kind=kind,
        message_key=given.get("message_key", "message"),
        expression=given["expression"],
        firstline=given.get("format_firstline"),
        formats=given["formats"],
        time_key=given.get("time_key") or (None if kind == "none" else "time"),
        time_format=time_format or (_ACCESS_TIME if kind in ("nginx", "apache2") else None),
        time_type=given.get("time_type") or ("float" if kind == "json" and not time_format else "string"),
        zone=given["zone"],
        types=given["types"],
        **{name: given[name] for name in _SAME if name in given},
    )
    try:
        parsers.parser(parse)
    except WrongSettings as error:
        raise WrongSettings(f"{given['place']}: {error}") from error
    return parse


def _given(section: Section) -> dict[str, Any]:
    """Gather what says how lines are parsed: from <parse>, or, as in 0.12, from the source itself."""
    inner = section.section("parse", PARSE)
    if inner is None:
        return _described(section, "format", section.needed("format") if "format" in section.values else None)
    for name in section.values:
        if name in PARSE.known and name not in ("@type", "type"):
            section.report.warn(section.where(name), f"{name} has no effect beside <parse>; move it there")
    name = "@type" if "@type" in inner.values else "type"
    return _described(inner, name, inner.get(name))


def _described(section: Section, name: str, kind: str | None) -> dict[str, Any]:
    if not kind:
        raise WrongSettings(f"{section.place}: it is not said how lines are parsed; add <parse> with @type none")
    expression = section.get("expression")
    if kind.startswith("/"):
        kind, expression = "regexp", kind
    return {
        **section.values,
        "place": section.where(name),
        "kind": kind,
        "expression": expression,
        "formats": _formats(section),
        "zone": zones.of(section),
        "types": _types(section),
    }


def _formats(section: Section) -> tuple[str, ...]:
    formats = [section.get(f"format{number}") for number in range(1, 21)]
    count = formats.index(None) if None in formats else len(formats)
    for number, text in enumerate(formats, 1):
        if text and number > count:
            raise section.wrong(f"format{number}", f"has no format{count + 1} before it; number them without a gap")
        if text and not (len(text) > 1 and text.startswith("/") and text.endswith("/")):
            raise section.wrong(f"format{number}", "is no expression between slashes, such as /^(?<time>[^ ]+) /")
    return tuple(formats[:count])


def _types(section: Section) -> dict[str, str]:
    """Read JSON, or `name:type` with commas between. What follows a second colon is the type's own."""
    text: str = section.get("types", "")
    if text.startswith("{"):
        try:
            return msgspec.json.decode(text, type=dict[str, str])
        except msgspec.MsgspecError as error:
            raise section.wrong("types", 'is not what it can be, expected {"field": "type"} or field:type') from error
    between, inside = section.get("types_delimiter", ","), section.get("types_label_delimiter", ":")
    pairs = [pair.strip().partition(inside) for pair in text.split(between) if pair.strip()]
    if not all(name and kind for name, _, kind in pairs):
        raise section.wrong("types", f"is {text!r}, expected field:type with commas between")
    return {name: kind for name, _, kind in pairs}


def _first_line(section: Section, parse: Parse) -> str | None:
    if parse.kind != "multiline":
        return None
    if parse.firstline is None:
        raise WrongSettings(
            f"{section.place}: format multiline needs format_firstline here, so that a record's end is known"
        )
    try:
        return expressions.first_line(parse.firstline)
    except WrongSettings as error:
        raise WrongSettings(f"{section.place}: format_firstline: {error}") from error
