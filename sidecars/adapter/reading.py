"""Which format each origin has, given or found in its first bytes, and where in it a portion of records begins."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Literal

from msgspec.structs import replace

from sidecars.adapter import formats
from sidecars.adapter.encode.shaping import Shaping
from sidecars.adapter.formats import compile as compiled
from sidecars.adapter.formats.times import zone
from sidecars.adapter.portion import Portion
from sidecars.adapter.settings import Settings, Source
from sidecars.adapter.table import Format, Objects, Segment, Unparsed
from sidecars.core.follow import join
from sidecars.core.follow.find import Patterns
from sidecars.core.follow.identity import printable
from sidecars.core.log import log

# What --from and --multiline say of a format.
Key = tuple[str, str | None]

AUTO, SYSLOG = "auto", "syslog"
# kubelet's pkg/kubelet/kuberuntime/logs: time, stream, tag.
_CRI = re.compile(rb"\d{4}-\d\d-\d\dT[0-9:.+Z-]++ std(?:out|err) [PF]")
# What a format is found by: so much of a file's beginning.
HEAD_BYTES = 64 << 10
# What is parsed, counted and encoded before the next is: more does not stay in a processor's cache from the one to the
# other, less has more calls than records.
PIECE_BYTES = 128 << 10
# A file that has a smaller share of its lines in its format, among so many, is looked at again: it may have changed.
_FEW, _ENOUGH = 0.1, 20


class Formats:
    """The formats of the sources, compiled once; for `auto`, those that were found, by origin."""

    def __init__(self, settings: Settings) -> None:
        self._zone = settings.time_zone
        self._added = Shaping(settings).names  # JSON that has none of them can be added to without being decoded
        zone(self._zone)  # also where no format is known yet that would complain
        self._default = settings.every_source()[0]
        self._sources = [(source, Patterns(source.paths, source.exclude or ())) for source in settings.every_source()]
        self._compiled: dict[Key, Format] = {}
        self._found: dict[str, Format] = {}
        for source, _ in self._sources:
            if source.from_ != AUTO:
                self._compile(source.from_ or AUTO, source.multiline)

    def given(self, source: Source) -> Format | None:
        """Give the format of a source, None where it is to be found."""
        return None if source.from_ == AUTO else self._compile(source.from_ or AUTO, source.multiline)

    def of(self, origin: str, head: bytes) -> Format:
        """Give the format of a file or another origin, from the head of what it holds where none is given."""
        source = self._source(origin)
        given = self.given(source)
        if given is not None:
            return given
        return self._found.get(origin) or self._detect(origin, source, head)

    def doubt(self, origin: str, total: int, wrong: int, data: bytes) -> Format | None:
        """Give another format for data most of whose records did not parse; None if there is none better."""
        if origin not in self._found:
            return None
        if total < _ENOUGH or total - wrong > total * _FEW:
            return None
        before = self._found[origin].name
        found = self._detect(origin, self._source(origin), data[:HEAD_BYTES])
        return None if found.name == before else found

    def _detect(self, origin: str, source: Source, head: bytes) -> Format:
        verdict = formats.detect(head, os.path.basename(origin))
        found = self._compile(verdict.format, verdict.multiline if source.multiline == AUTO else source.multiline)
        if verdict.lines:
            self._found[origin] = found
            share = f"{verdict.share:.0%}"
            log.info("format found", origin=printable(origin), format=verdict.format, share=share, why=verdict.reason)
        return found

    def key(self, format: Format) -> Key:
        """Give what another process makes the same format of, by `compiled`."""
        return next(key for key, made in self._compiled.items() if made is format)

    def compiled(self, key: Key) -> Format:
        """Give the format of a key."""
        return self._compile(*key)

    def _source(self, origin: str) -> Source:
        for source, patterns in self._sources:
            if patterns.matches(origin):
                return source
        # What came by syslog is syslog, unless somebody says otherwise.
        syslog = origin == SYSLOG and self._default.from_ == AUTO
        return replace(self._default, from_=SYSLOG) if syslog else self._default

    def _compile(self, text: str, multiline: str | None) -> Format:
        key = (text, multiline)
        if key not in self._compiled:
            joined = _continuation(multiline)
            self._compiled[key] = compiled(text, zone=self._zone, continuation=joined, absent=self._added)
        return self._compiled[key]


def _continuation(multiline: str | None) -> bytes | Literal["own"] | None:
    if multiline == AUTO:
        return "own"
    return None if multiline is None else join.continuation(multiline)


class _Unknown:
    """Cuts bytes whose format is not known yet, so that no trace is torn, and no line of a container's log in parts."""

    def __init__(self) -> None:
        self._traces, self._cri, self._docker = (join.records(rule) for rule in ("all", "cri", "docker"))

    def cut(self, buffer: bytearray, start: int, end: int) -> int:
        """Give the position after the last record that is known to be complete."""
        rule = self._traces
        if _CRI.match(buffer, start, end):
            rule = self._cri
        elif buffer.startswith(b'{"log":', start, end):
            rule = self._docker
        return rule.cut(buffer, start, end)

    def split(self, data: bytes) -> Iterator[bytes]:
        """Give the records."""
        return self._traces.split(data)


def records_of(format: Format | None) -> join.Records:
    """Give how bytes are cut into records of a format; None: it is not known yet."""
    if format is None:
        return _Unknown()
    if format.parts:
        return join.records(format.parts)
    return join.Lines() if format.continuation is None else join.Joined(rb"(?!" + format.continuation + rb")")


class Reader:
    """Reads portions: finds the format of each origin, and keeps what a header said, for each file."""

    def __init__(self, formats: Formats) -> None:
        self._formats = formats
        self._contexts: dict[str, tuple[object, object]] = {}
        self._parts: dict[str, int] = {}

    def place(self, portion: Portion) -> tuple[Format, object]:
        """Give the format of a portion and the context it begins in; portions of an origin in their order."""
        format = self._formats.of(portion.origin, portion.data[:HEAD_BYTES])
        content = _content(portion)
        known = self._contexts.get(portion.origin)
        before = known[1] if known and known[0] == content else self._at_start(portion, format)
        self._contexts[portion.origin] = (content, format.context(portion.data, before))
        if known is None:
            _cut(portion, format)
        return format, before

    def read(self, portion: Portion) -> Iterator[list[Segment]]:
        """Read a portion, piece by piece."""
        format, context = self.place(portion)
        if in_parts(portion):
            yield self._in_parts(portion, format, context)
            return
        data, start = ended(portion.data), 0
        for piece in pieces(format, context, data):
            segments = format.parse(piece, context)
            other = self._formats.doubt(portion.origin, total(segments), wrong(segments), piece)
            if other is not None:
                del self._contexts[portion.origin]
                self.place(portion)
                yield other.parse(data[start:], None)
                return
            yield segments
            start += len(piece)

    def _at_start(self, portion: Portion, format: Format) -> object:
        """Give the context at a portion that is the first one of its content which is read here."""
        if portion.batch is None or portion.batch.start == 0:
            return None
        if portion.batch.file.packed:
            return None  # its head is in an archive; who has a header there has had it before
        try:
            with open(portion.origin, "rb") as file:
                status = os.fstat(file.fileno())
                if (status.st_dev, status.st_ino) != portion.batch.file.identity:
                    return None  # it was rotated away
                head = file.read(min(HEAD_BYTES, portion.batch.start))
        except OSError:
            return None
        return format.context(head[: head.rfind(b"\n") + 1], None)

    def _in_parts(self, portion: Portion, format: Format, context: object) -> list[Segment]:
        """Read a portion that begins or ends inside a line longer than a batch: its parts go out as they are."""
        begin = portion.data.find(b"\n") + 1 if portion.continued else 0
        if portion.continued and not begin:
            begin = len(portion.data)
        end = portion.data.rfind(b"\n", begin) + 1 if _overlong(portion) else len(portion.data)
        end = max(begin, end)
        first, middle, last = portion.data[:begin], portion.data[begin:end], portion.data[end:]
        segments: list[Segment] = [self._part(portion.origin, first, not first.endswith(b"\n"))] if first else []
        if middle:
            segments += format.parse(ended(middle), context)
        if last:
            segments.append(self._part(portion.origin, last, True))
        return segments

    def _part(self, origin: str, piece: bytes, goes_on: bool) -> Segment:
        number = self._parts.pop(origin, 0) + 1
        if goes_on:
            self._parts[origin] = number
        line = piece.removesuffix(b"\n")
        record: dict[str, object] = {
            "message": line.decode("utf-8", "replace"),
            "parse_error": "the line is longer than 1 MiB",
            "part": number,
            "last": not goes_on,
        }
        return Objects([record], [line])


def pieces(format: Format, context: object, data: bytes) -> Iterator[bytes]:
    """Cut whole records into what is read and encoded at once, unless the format keeps something from line to line."""
    start = 0
    if format.continuation is None and format.parts is None and context is format.context(data, context) is None:
        while len(data) - start > PIECE_BYTES:
            end = data.rfind(b"\n", start, start + PIECE_BYTES) + 1 or data.find(b"\n", start) + 1
            yield data[start:end]
            start = end
    if start < len(data) or not data:
        yield data[start:]


def total(segments: Sequence[Segment]) -> int:
    """Count the records."""
    return sum(segment.count for segment in segments)


def wrong(segments: Sequence[Segment]) -> int:
    """Count the records that did not parse."""
    return sum(segment.count for segment in segments if isinstance(segment, Unparsed))


def ended(data: bytes) -> bytes:
    """Give data whose last line is ended."""
    return data if data.endswith(b"\n") else data + b"\n"


def in_parts(portion: Portion) -> bool:
    """Tell a portion that begins or ends inside a line that is longer than a batch."""
    return portion.continued or _overlong(portion)


def _cut(portion: Portion, format: Format) -> None:
    """From now on cut this file into records as its format does."""
    if portion.batch is not None:
        portion.batch.file.lane.cut_as(records_of(format))


def _content(portion: Portion) -> object:
    return (portion.batch.file.identity, portion.batch.generation) if portion.batch else None


def _overlong(portion: Portion) -> bool:
    """Tell a line that goes on beyond a full batch from a last line that has no newline yet."""
    return not portion.complete and len(portion.data) > _LONGEST


# A batch is cut between characters, so that one that is full may lack some bytes.
_LONGEST = (1 << 20) - 8
