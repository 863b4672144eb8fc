"""What an operator makes of the fields of every record: blacked out, renamed, left out, added; in this order."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from sidecars.adapter.encode.values import text
from sidecars.adapter.table import Record, Segment
from sidecars.core.errors import WrongSettings
from sidecars.core.follow.identity import printable

if TYPE_CHECKING:
    from sidecars.adapter.encode.redaction import Redactor

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_VARIABLES = {"pod": "POD_NAME", "namespace": "POD_NAMESPACE", "node": "NODE_NAME"}
# Origins that are no path.
_NO_FILE = ("stdin", "syslog", "post")
_GLOB = re.compile(r"[*?\[]")


class _Group(Protocol):
    @property
    def paths(self) -> tuple[str, ...]: ...


class Wanted(Protocol):
    """The settings that say what becomes of the fields; adapter.settings.Settings has them all."""

    @property
    def rename(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def drop(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def add(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def redact(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def redact_pattern(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def paths(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def sources(self) -> Sequence[_Group]: ...  # noqa: D102
    @property
    def pod_name(self) -> str | None: ...  # noqa: D102
    @property
    def pod_namespace(self) -> str | None: ...  # noqa: D102
    @property
    def node_name(self) -> str | None: ...  # noqa: D102


class Shaping:
    """What becomes of the fields. Raises WrongSettings for a wrong --rename, --drop, --add or --redact-pattern.

    renames   new names by old ones; all take place at once, so that two fields can change names
    drops     fields left out, by the names they have after that; one text may name several, with commas

    names     the fields of a record that anything is done about: JSON in which none of them is needs no decoding

    What --add names replaces a field of the record. `pod`, `namespace` and `node`, where their variables are set, and
    `file`, where more than one file may be read, are only added to records that do not have a field of that name.
    """

    def __init__(self, settings: Wanted) -> None:
        self.renames = _renames(settings.rename)
        self.drops = frozenset(_named(name.strip(), "--drop") for names in settings.drop for name in names.split(","))
        self._pod = {
            name: value
            for name, value in (
                ("pod", settings.pod_name),
                ("namespace", settings.pod_namespace),
                ("node", settings.node_name),
            )
            if value
        }
        self._adds = _adds(settings.add, self._pod)
        self._names_file = _many_files(settings)
        self.names = frozenset((*self.renames, *self.drops, *self._adds, *self._pod, *["file"] * self._names_file))
        self._redactor = _redactor(settings)
        self._known: dict[str, tuple[dict[str, str], dict[str, str]]] = {}

    def name(self, name: str) -> str | None:
        """Give the name that a field has afterwards; None when it is left out."""
        name = self.renames.get(name, name)
        return None if name in self.drops else name

    def added(self, origin: str) -> tuple[dict[str, str], dict[str, str]]:
        """Give what every record of this origin gets, and what it gets unless it has such a field."""
        if (known := self._known.get(origin)) is None:
            if len(self._known) >= 4096:
                self._known.clear()
            known = self._known[origin] = self._added(origin)
        return known

    def _added(self, origin: str) -> tuple[dict[str, str], dict[str, str]]:
        path = printable(origin)
        values = {"file": path, "name": os.path.basename(path), **self._pod}
        always = {name: _PLACEHOLDER.sub(lambda found: values[found[1]], value) for name, value in self._adds.items()}
        file = {"file": path} if self._names_file and origin not in _NO_FILE else {}
        return always, {name: value for name, value in (file | self._pod).items() if name not in always}

    def segments(self, segments: Sequence[Segment], *, lines: bool = False) -> Sequence[Segment]:
        """Black out what is to be; with `lines` in the raw lines too, for encoders that make a message of them."""
        if self._redactor is None:
            return segments
        return [self._redactor.segment(segment, lines=lines) for segment in segments]

    def records(self, segments: Sequence[Segment], origin: str) -> Iterator[Record]:
        """Give the records as they leave: blacked out, renamed, without what is dropped, with what is added."""
        for segment in self.segments(segments):
            yield from self.shaped(segment.records(), origin)

    def documents(self, segments: Sequence[Segment], origin: str) -> Iterator[tuple[Record, str]]:
        """Give the records as they leave, each with its message: its own, or the raw line where it has none.

        A raw line has what --drop leaves out, so with that the values that stay are the message.
        """
        for segment in self.segments(segments, lines=True):
            yield from self.told(segment, origin)

    def told(self, segment: Segment, origin: str) -> Iterator[tuple[Record, str]]:
        """Do that for a segment that is blacked out already."""
        for record, line in zip(self.shaped(segment.records(), origin), segment.lines, strict=True):
            message = record.get("message")
            if not isinstance(message, str):
                message = " ".join(map(text, record.values())) if self.drops else line.decode("utf-8", "replace")
            yield record, message

    def shaped(self, records: Iterable[Record], origin: str) -> Iterator[Record]:
        """Rename, drop and add in records that are blacked out already."""
        always, otherwise = self.added(origin)
        renames, drops = self.renames, self.drops
        for record in records:
            if renames:
                record = {renames.get(name, name): value for name, value in record.items()}
            for name in drops:
                record.pop(name, None)
            record |= always
            for name, value in otherwise.items():
                record.setdefault(name, value)
            yield record

    def redacted(self, text: str) -> str:
        """Black out what is to be in a text."""
        return text if self._redactor is None else self._redactor.text(text)


def _redactor(settings: Wanted) -> Redactor | None:
    if not settings.redact and not settings.redact_pattern:
        return None
    from sidecars.adapter.encode.redaction import redactor  # its patterns take a while to compile

    return redactor(settings.redact, settings.redact_pattern)


def _named(name: str, flag: str) -> str:
    if not name or "=" in name:
        raise WrongSettings(f"{flag} is {name!r}, expected the name of a field")
    return name


def _pairs(texts: Iterable[str], flag: str, form: str) -> Iterator[tuple[str, str]]:
    for pair in texts:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise WrongSettings(f"{flag} is {pair!r}, expected {form}")
        yield name, value


def _renames(texts: Sequence[str]) -> dict[str, str]:
    renames: dict[str, str] = {}
    for old, new in _pairs(texts, "--rename", "OLD=NEW"):
        if not new:
            raise WrongSettings(f"--rename is {old + '='!r}, expected OLD=NEW; to leave a field out, give --drop {old}")
        if renames.setdefault(old, new) != new:
            raise WrongSettings(f"--rename gives {old!r} the names {renames[old]!r} and {new!r}; keep one")
    return renames


def _adds(texts: Sequence[str], pod: Mapping[str, str]) -> dict[str, str]:
    adds = dict(_pairs(texts, "--add", "FIELD=VALUE"))
    for name, value in adds.items():
        for word in _PLACEHOLDER.findall(value):
            if word in _VARIABLES and word not in pod:
                raise WrongSettings(
                    f"--add {name}={value} needs {{{word}}}, but {_VARIABLES[word]} is not set; "
                    "set it by the downward API"
                )
            if word not in ("file", "name", *_VARIABLES):
                raise WrongSettings(
                    f"--add {name}={value} holds {{{word}}}, expected {{file}}, {{name}}, {{pod}}, {{namespace}}, "
                    "{node} or plain text"
                )
    return adds


def _many_files(settings: Wanted) -> bool:
    paths = [*settings.paths, *(path for source in settings.sources for path in source.paths)]
    return len(paths) > 1 or any(_GLOB.search(path) or os.path.isdir(path) for path in paths)
