"""What people ask before they run it: in what format is this file, and what does that format find in these lines."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from sidecars.core.errors import WrongSettings

if TYPE_CHECKING:
    from sidecars.adapter.formats import Verdict

DETECT = """\
usage: log-adapter detect FILE...

Tell in what format each file is, by its first 64 KiB, and what would be made of it. - is the standard input.
Files that end in .gz or .zst are decompressed.
"""

TEST = """\
usage: log-adapter test --from FORMAT [--time-zone ZONE] [--multiline RULE] [FILE] < SAMPLE

Read the sample in this format, and print which fields were found, in how many records, with an example.

  --from FORMAT       a format's name, or a log_format, LogFormat, grok pattern or regular expression; auto
  --time-zone ZONE    the zone of times that do not say theirs (default: UTC)
  --multiline RULE    which lines are one record: java, python, go, ..., a regular expression for the first line, or off
"""

_HEAD = 64 << 10
# A sample is looked at whole, within reason.
_MOST = 64 << 20
_WIDTH = 60
_SHOWN = 5

Words = Sequence[str]


def inspect(command: Literal["detect", "test"] | str, words: list[str]) -> int:
    """Run `log-adapter detect` or `test`, and give the exit code: 1 if a file cannot be read, 2 for wrong words."""
    usage = DETECT if command == "detect" else TEST
    if {"--help", "-h"} & set(words):
        print(usage, end="")
        return 0
    try:
        return _detect(words) if command == "detect" else _test(words)
    except WrongSettings as error:
        print(f"log-adapter {command}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # `| head` has seen enough.
        sys.stderr.close()
        return 0


def _detect(words: Words) -> int:
    unknown = [word for word in words if word.startswith("-") and word != "-"]
    if unknown or not words:
        raise WrongSettings(f"{unknown[0]} is not known" if unknown else "no file is given; see --help")
    code = 0
    for path in words:
        data = _read(path, _HEAD)
        if data is None:
            code = 1
        else:
            print("\n".join(_verdict(path, data)), flush=True)
    return code


def _verdict(path: str, data: bytes) -> Iterator[str]:
    from sidecars.adapter import formats

    # A line that is cut at the end tells nothing.
    head = data[: data.rfind(b"\n") + 1] or data
    verdict = formats.detect(head, path)
    yield f"{_plain(path)}: {verdict.format}"
    yield f"  parsed   {verdict.share:.0%} of {verdict.lines} lines"
    yield f"  because  {verdict.reason}"
    example = _example(verdict, head)
    if example:
        yield f"  example  {example}"
    rule = "" if verdict.multiline == "auto" else f" --multiline {verdict.multiline}"
    yield f"  use      log-adapter --from {verdict.format}{rule} {_quoted(path)}"


def _example(verdict: Verdict, head: bytes) -> str:
    import msgspec

    from sidecars.adapter import formats
    from sidecars.adapter.table import Unparsed

    format = formats.compile(verdict.format, continuation=_continuation(verdict.multiline))
    for segment in format.parse(head):
        if not isinstance(segment, Unparsed):
            for record in segment.records():
                return _plain(msgspec.json.encode(record).decode("utf-8", "replace"))
    return ""


def _quoted(path: str) -> str:
    import shlex

    return shlex.quote(_plain(path))


def _test(words: Words) -> int:
    from sidecars.adapter import formats

    options, paths = _options(words)
    if len(paths) > 1:
        raise WrongSettings(f"{paths[1]!r} is one file too many")
    data = _read(paths[0] if paths else "-", _MOST)
    if data is None:
        return 1
    name, rule = options.get("--from", "auto"), options.get("--multiline", "auto")
    if name == "auto":
        verdict = formats.detect(data[:_HEAD], paths[0] if paths else "")
        print(f"{verdict.format}: {verdict.reason}")
        name = verdict.format
        rule = verdict.multiline if rule == "auto" else rule
    chosen = formats.compile(name, zone=options.get("--time-zone", "UTC"), continuation=_continuation(rule))
    print("\n".join(_report(chosen.parse(data))), flush=True)
    return 0


def _options(words: Words) -> tuple[dict[str, str], list[str]]:
    known = ("--from", "--time-zone", "--multiline")
    options: dict[str, str] = {}
    paths: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in known:
            options[name] = value if equals else next(rest, "")
            if not options[name]:
                raise WrongSettings(f"{name} has no value")
        elif word.startswith("-") and word != "-":
            raise WrongSettings(f"{word} is not known; use {', '.join(known)}")
        else:
            paths.append(word)
    return options, paths


def _continuation(rule: str) -> bytes | Literal["own"] | None:
    if rule == "auto":
        return "own"
    if rule == "off":
        return None
    from sidecars.core.follow import join

    join.check(rule)
    return join.continuation(rule)


def _report(segments: Sequence[object]) -> Iterator[str]:
    from sidecars.adapter.table import Segment, Unparsed

    counts: Counter[str] = Counter()
    kinds: dict[str, str] = {}
    examples: dict[str, str] = {}
    failed: list[tuple[bytes, str]] = []
    total = 0
    for segment in segments:
        if isinstance(segment, Unparsed):
            failed += [(line, segment.error) for line in segment.lines]
            continue
        found: Segment = segment  # type: ignore[assignment]
        for record in found.records():
            total += 1
            for name, value in record.items():
                counts[name] += 1
                kinds.setdefault(name, _kind(name, value))
                examples.setdefault(name, _shortened(str(value)))
    rows = [("field", "kind", "records", "example")]
    rows += [(name, kinds[name], str(counts[name]), examples[name]) for name in counts]
    yield from _aligned(rows)
    yield f"\n{total} records, {len(failed)} lines that did not parse"
    for line, error in failed[:_SHOWN]:
        yield f"  {error}: {_shortened(line.decode('utf-8', 'replace'))}"


def _kind(name: str, value: object) -> str:
    if name in ("time", "level"):
        return name
    if isinstance(value, bool):
        return "boolean"
    return {int: "integer", float: "number", str: "text", dict: "object", list: "list"}.get(type(value), "null")


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(_plain(row[column])) for row in rows) for column in range(3)]
    for row in rows:
        cells = [_plain(cell).ljust(width) for cell, width in zip(row[:3], widths, strict=True)]
        yield "  ".join((*cells, row[3])).rstrip()


def _shortened(text: str) -> str:
    plain = _plain(text)
    return plain if len(plain) <= _WIDTH else plain[: _WIDTH - 3] + "..."


def _plain(text: str) -> str:
    """Give text that does nothing to a terminal."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "replace").decode()
        for character in text
    )


def _read(path: str, most: int) -> bytes | None:
    """Give the beginning of a file; None, having said why, if it cannot be read."""
    from sidecars.core.follow import compressed, find

    try:
        if path == "-":
            return _taken(sys.stdin.buffer, most)
        with open(path, "rb") as file:
            ending = find.packed_ending(path)
            if ending and compressed.readable(ending):
                return _taken(compressed.Stream(file.fileno(), ending), most)
            return _taken(file, most)
    except (OSError, compressed.Unfinished, compressed.Damaged) as error:
        reason = getattr(error, "strerror", None) or str(error) or "it is damaged"
        print(f"log-adapter: cannot read {_plain(path)}: {reason}", file=sys.stderr)
        return None


class _Bytes(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _taken(file: _Bytes, most: int) -> bytes:
    parts, size = [], 0
    while size < most and (part := file.read(min(most - size, 1 << 20))):
        parts.append(part)
        size += len(part)
    return b"".join(parts)
