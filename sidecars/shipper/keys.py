"""Object keys, made from a format with fluentd's placeholders, Fluent Bit's and our own."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from sidecars.core.errors import WrongSettings
from sidecars.shipper import slices
from sidecars.shipper.plan import Layout
from sidecars.shipper.timestamps import Format

_LONGEST_KEY = 1024  # bytes of UTF-8: S3's limit
_LONGEST_INDEX = 20  # digits, with the zeros before them
_GREATEST_INDEX = 10**15

# What looks like a placeholder of fluentd, of strftime, of Fluent Bit, or of ours; and what begins like one.
_PLACEHOLDER = re.compile(
    r"(%\{[^{}]*\}|%[-0_^#]*:*\d{0,2}[A-Za-z%]"
    r"|\$\{[^{}]*\}|\$(?:TAG\[[^\]]*\]|TAG|UUID|INDEX)"
    r"|\{[^{}]*\}|[%$]?\{\w*|%\W?|\$[A-Za-z_]\w*)"
)
_TAG_PART = re.compile(r"\$\{tag\[(-?\d{1,3})\]\}|\$TAG\[(\d{1,3})\]")
# Those of strftime that make no tabs and newlines.
_DIRECTIVES = frozenset("YCymBbhjdeHkIlPpMSLNzZAauwGgVUWscDFvxXrRT")
_INDEX_FORMAT = re.compile(r"%(?:0(?:1?\d|20)?)?[dxX]")  # fluentd's, which takes any width
_DIGITS = {"d": (10, "[0-9]+"), "x": (16, "[0-9a-f]+"), "X": (16, "[0-9A-F]+")}

_ALIASES = {
    "%{date_slice}": "%{time_slice}",
    "{hostname}": "%{hostname}",
    "{tag}": "${tag}",
    "$TAG": "${tag}",
    "{chunk}": "${chunk_id}",
    "$INDEX": "%{index}",
}
# What comes from the machine: its name among the known facts, and what to do where it is not there.
_FACTS = {
    "%{hostname}": ("hostname", "give the pod a hostname"),
    "{pod}": ("pod", "set POD_NAME by the downward API (fieldRef metadata.name)"),
    "{namespace}": ("namespace", "set POD_NAMESPACE by the downward API (fieldRef metadata.namespace)"),
    "{node}": ("node", "set NODE_NAME by the downward API (fieldRef spec.nodeName)"),
}
_IDS = {"${chunk_id}", "%{uuid_flush}"}
_LONGEST_RANDOM = 16

# Tags and paths come from whoever writes logs. What XML, in which S3 lists keys, cannot hold; what breaks lines; what
# reverses the text on a terminal; and bytes that are not UTF-8.
_HOSTILE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_DOTS = re.compile(r"(?<![^/])\.\.?(?![^/])")
_INDEX = "\0"  # stands for the index in texts, where no other can be


class ChunkFacts(msgspec.Struct, frozen=True):
    """What of a chunk is in its key.

    id      32 random hexadecimal digits
    slice   the beginning of its time slice in epoch seconds, 0 without slices
    opened  when its first line was read, likewise
    """

    id: str
    tag: str
    slice: int
    opened: float


# On a Wednesday in September, whose names are the longest.
_LONGEST = ChunkFacts(id="0" * 32, tag="", slice=1_790_150_400, opened=1_790_150_400.0)

Text = Callable[[ChunkFacts], str]


class _Piece(NamedTuple):
    """A part of a key, and the placeholder that it was."""

    text: Text
    name: str = ""

    @property
    def of_tag(self) -> bool:
        return self.name == "${tag}" or _TAG_PART.fullmatch(self.name) is not None


class KeyFormat:
    """Makes keys. Read one with `key_format`.

    unique   two chunks have different keys whatever the index, because their ids are in them
    indexed  they have not: only the index tells them apart
    """

    def __init__(self, pieces: Sequence[_Piece], layout: Layout) -> None:
        names = {piece.name for piece in pieces}
        random = layout.hex_length == _LONGEST_RANDOM and "%{hex_random}" in names
        self.unique = bool(names & _IDS) or random
        self.indexed = not self.unique and "%{index}" in names
        self._pieces = pieces
        self._index_format = layout.index_format

    def render(self, facts: ChunkFacts, index: int | None) -> str:
        """Give a chunk's key; without an index, it is 0.

        A control character becomes _, as does a segment that is `..` or `.`, and a slash at the beginning is left out.
        Tags are shortened as far as S3's limit asks for it.
        """
        return (self._index_format % (index or 0)).join(self._texts(facts))

    def around_index(self, facts: ChunkFacts) -> tuple[str, str]:
        """Give what is before and behind the first index: ("logs/20260131_", ".gz").

        The same for all chunks whose keys differ in nothing but the index.
        """
        before, *behind = self._texts(facts)
        return before, "%{index}".join(behind)

    def greatest(self, facts: ChunkFacts, keys: Iterable[str]) -> int | None:
        """Give the greatest index that the chunk's key has among these; None when it is not there with any."""
        before, *behind = map(re.escape, self._texts(facts))
        base, digits = _DIGITS[self._index_format[-1]]
        matches = re.compile(f"{before}(?P<index>{digits}){'(?P=index)'.join(behind)}").fullmatch
        texts = [found["index"] for key in keys if behind and (found := matches(key))]
        indices = [(int(text, base), text) for text in texts if len(text) <= _LONGEST_INDEX]
        # A stranger's key may have any number: the ledger must be able to hold the one after it.
        return max((n for n, text in indices if n <= _GREATEST_INDEX and self._index_format % n == text), default=None)

    def _texts(self, facts: ChunkFacts) -> list[str]:
        """Give the texts between which the index is."""
        texts = [_INDEX if each.name == "%{index}" else _HOSTILE.sub("_", each.text(facts)) for each in self._pieces]
        if _size(texts) > _LONGEST_KEY:
            texts = self._shortened(texts)
        return _DOTS.sub("_", "".join(texts)).lstrip("/").split(_INDEX)

    def _shortened(self, texts: list[str]) -> list[str]:
        """Cut what tags gave, each to its share of the room that the others leave: the id stays whole."""
        tags = [piece.of_tag for piece in self._pieces]
        rest = _size(text for text, of_tag in zip(texts, tags, strict=True) if not of_tag)
        share = max(0, _LONGEST_KEY - rest) // max(1, sum(tags))
        cut = [text.encode()[:share].decode(errors="ignore") for text in texts]
        return [short if of_tag else text for text, short, of_tag in zip(texts, cut, tags, strict=True)]


def key_format(layout: Layout, known: Mapping[str, str], *, extension: str) -> KeyFormat:
    """Read a layout's key format. It may have, and so may the prefix, these placeholders:

        fluentd's      %{path}, which is the prefix, %{time_slice} %{date_slice} %{hms_slice} %{index} %{hostname}
                       %{file_extension} %{hex_random} %{uuid_flush} ${tag} ${tag[0]} ${tag[-1]} ${chunk_id}
        Fluent Bit's   $TAG $TAG[0] $UUID $INDEX
        ours           {chunk} {tag} {pod} {namespace} {node} {hostname}
        strftime's     %Y/%m/%d, as Ruby writes them; %% is a percent sign

    Times are those of the slice's beginning, in the layout's zone; without slices, of the chunk's first line, as is
    %{hms_slice}. What is random comes from the chunk's id: it is the same however often the chunk is uploaded.

    A format that can give two chunks one key is refused, since the second would be taken for delivered. It needs the
    index, or the id: in full, or as %{hex_random} of 16 digits, 60 of whose bits are random. Then two of a million keys
    that differ in nothing else are the same with a chance of 1 to 2 million. $UUID and a shorter %{hex_random} do not
    suffice: with the 8 digits of $UUID the chance is even for 77,000 keys.

    `known` has hostname, pod, namespace and node, or some of them. Raises WrongSettings.

    Source: fluent-plugin-s3, out_s3.rb; Fluent Bit, src/aws/flb_aws_util.c, flb_get_s3_key.
    """
    _check(layout)
    values = _values(layout, known, extension)
    pieces = [_piece(token, values, layout) for token in _tokens(layout)]
    made, what = KeyFormat(pieces, layout), f"key format {layout.key_format!r}"
    if not made.unique and not made.indexed:
        raise WrongSettings(
            f"{what} can give two chunks the same key; add {{chunk}}, ${{chunk_id}} or %{{uuid_flush}}, or %{{index}}"
        )
    if not layout.by_tag and any(piece.of_tag for piece in pieces):
        raise WrongSettings(
            f"{what} or its prefix has a tag in it, but a chunk holds lines of several tags; leave the tag out, or let "
            "each tag have chunks of its own (in fluentd: <buffer tag,time>)"
        )
    size = len(made.render(_LONGEST, _GREATEST_INDEX).encode())
    if size > _LONGEST_KEY:
        raise WrongSettings(
            f"{what} with prefix {layout.prefix!r} makes keys of {size} bytes, S3 takes {_LONGEST_KEY}; shorten them"
        )
    return made


def _check(layout: Layout) -> None:
    if not _INDEX_FORMAT.fullmatch(layout.index_format):
        raise WrongSettings(f"index format {layout.index_format!r} is not known; use %d, %04d, %x or %X")
    if not 1 <= layout.hex_length <= _LONGEST_RANDOM:
        raise WrongSettings(f"length of %{{hex_random}} is {layout.hex_length}, expected 1 to {_LONGEST_RANDOM}")
    for token in _cut(layout.slice_format or "", f"time slice format {layout.slice_format!r}"):
        if token.text.startswith("%"):
            _check_directive(token)


class _Token(NamedTuple):
    """A placeholder and the text in which it is; a literal is in none."""

    text: str
    place: str


def _tokens(layout: Layout) -> Iterator[_Token]:
    """Cut the key format, with the prefix put into it, at its placeholders."""
    for token in _cut(layout.key_format, f"key format {layout.key_format!r}"):
        if token.text == "%{path}":
            yield from _cut(layout.prefix, f"prefix {layout.prefix!r}")
        else:
            yield token


def _cut(text: str, place: str) -> Iterator[_Token]:
    for number, part in enumerate(_PLACEHOLDER.split(text)):
        yield _Token(part, place if number % 2 else "")


def _values(layout: Layout, known: Mapping[str, str], extension: str) -> dict[str, Text]:
    """Give what placeholders stand for, as far as it is known."""
    time_of_day = Format("%H%M%S", slices.zone(layout.zone))
    values: dict[str, Text] = {
        "%%": _always("%"),
        "%{time_slice}": lambda facts: slices.text(int(_moment(facts)), layout),
        "%{hms_slice}": lambda facts: time_of_day(facts.opened),
        "%{index}": _always(""),
        "%{file_extension}": _always(extension),
        "%{hex_random}": lambda facts: facts.id[: layout.hex_length],
        "%{uuid_flush}": lambda facts: str(uuid.UUID(facts.id)),
        "${chunk_id}": lambda facts: facts.id,
        "$UUID": lambda facts: facts.id[:8],
        "${tag}": lambda facts: facts.tag,
    }
    return values | {name: _always(known[fact]) for name, (fact, _) in _FACTS.items() if known.get(fact)}


def _piece(token: _Token, values: Mapping[str, Text], layout: Layout) -> _Piece:
    if not token.place:
        return _Piece(_always(token.text))
    name = _ALIASES.get(token.text, token.text)
    if name in values:
        return _Piece(values[name], name)
    part = _TAG_PART.fullmatch(name)
    if part:
        number = int(part[1] or part[2])
        return _Piece(lambda facts: _part(facts.tag, number), name)
    if not name.startswith("%") or name.startswith("%{"):
        raise WrongSettings(f"{token.place} has {token.text}, which is not known; {_advice(name, values)}")
    _check_directive(token)
    written = Format(name, slices.zone(layout.zone))
    return _Piece(lambda facts: written(_moment(facts)), name)


def _check_directive(token: _Token) -> None:
    if token.text != "%%" and token.text[-1] not in _DIRECTIVES:
        raise WrongSettings(f"{token.place} has {token.text}, which strftime does not know; %% is a percent sign")


def _advice(name: str, values: Mapping[str, Text]) -> str:
    if name in _FACTS:
        return _FACTS[name][1]
    if name == "%{path}":
        return "it is the prefix itself: leave it out"
    import difflib  # only a mistake pays for it

    names = dict.fromkeys(["%{path}", "${tag[0]}", "$TAG[0]", *values, *_ALIASES, *_FACTS])
    # What fluentd has dropped, such as %{uuid:random}, has its variety behind a colon.
    match = difflib.get_close_matches(name.partition(":")[0], names, 1)
    return f"did you mean {match[0]}?" if match else f"known are {' '.join(names)}, and those of strftime"


def _part(tag: str, number: int) -> str:
    """Give a part of a tag, as fluentd does: of web.access, access is 1 and -1, and 2 is empty."""
    parts = tag.split(".")
    return parts[number] if -len(parts) <= number < len(parts) else ""


def _moment(facts: ChunkFacts) -> float:
    return facts.slice or facts.opened


def _always(text: str) -> Text:
    return lambda _: text


def _size(texts: Iterable[str]) -> int:
    return sum(_LONGEST_INDEX if text == _INDEX else len(text.encode()) for text in texts)
