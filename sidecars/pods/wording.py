"""The words of a shell script, read from the parser's nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from sidecars.pods.hiding import parts
from sidecars.pods.statements import Opaque, Output, Part, Statement, Text, Variable, Word

WORDS = frozenset((
    "word", "number", "string", "raw_string", "ansi_c_string", "translated_string", "concatenation",
    "simple_expansion", "expansion", "command_substitution", "process_substitution", "arithmetic_expansion",
    "brace_expression", "regex", "extglob_pattern", "variable_name", "special_variable_name", "array",
    "command_name", "test_operator",
))  # fmt: skip
_DEEPEST = 30  # words within each other, as in shell.py
_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", "'": "'", '"': '"'}


class Node(Protocol):
    """A node of the parser's tree, as far as a word needs it: shell.py alone knows the parser."""

    @property
    def type(self) -> str:
        """Give its kind in the grammar."""

    @property
    def text(self) -> bytes | None:
        """Give its source."""

    @property
    def start_byte(self) -> int:
        """Say where it begins."""

    @property
    def end_byte(self) -> int:
        """Say where it ends."""

    @property
    def child_count(self) -> int:
        """Say how many parts it has."""

    @property
    def children(self) -> Sequence[Node]:
        """Give its parts."""

    @property
    def named_children(self) -> Sequence[Node]:
        """Give its parts without punctuation."""


class Words:
    """Reads words. What is hidden in the source is put back; statements in `$(...)` are read by `sequence`."""

    def __init__(
        self, source: bytes, hidden: Sequence[Part], sequence: Callable[[Sequence[Any]], tuple[Statement, ...]]
    ) -> None:
        self._source = source
        self._hidden = hidden
        self._sequence = sequence
        self._depth = 0

    def read(self, node: Node) -> Word:
        """Read a word."""
        return Word(tuple(self._word(node)))

    def document(self, node: Node, raw: bool, tabs: bool) -> Word:
        """Read a here-document: `raw` when nothing is put into it, `tabs` when those at its lines' beginnings go."""
        if raw:
            body = tuple(self._literal(self.text(node), quoted=True))
        else:
            body = tuple(self._between(node, node.start_byte, node.end_byte, escapes="$`\\\n"))
        if tabs:
            body = tuple(_without_tabs(part, first=place == 0) for place, part in enumerate(body))
        return Word(body)

    def _word(self, node: Node) -> Iterator[Part]:
        self._depth += 1
        try:
            yield from self._word_parts(node) if self._depth <= _DEEPEST else [Opaque(self.text(node))]
        finally:
            self._depth -= 1

    def _word_parts(self, node: Node) -> Iterator[Part]:
        text = self.text(node)
        match node.type:
            case "concatenation" | "command_name":
                yield from self._joined(node)
            case "string":
                yield from self._string(node)
            case "raw_string":
                yield from self._literal(text[1:-1], quoted=True)
            case "simple_expansion" | "expansion":
                yield self._expansion(node)
            case "command_substitution":
                yield Output(self._sequence([c for c in node.children if c.type not in ("$(", "`")]), text)
            case "ansi_c_string":
                yield self._ansi(text)
            case _:
                yield from [Opaque(text)] if node.child_count else self._plain(text)

    def _joined(self, node: Node) -> Iterator[Part]:
        # {a,b} comes as words with a brace each: as text they would be taken for what they are not.
        if any(child.type == "word" and child.text == b"{" for child in node.children):
            yield Opaque(self.text(node))
            return
        for child in node.children:
            yield from self._word(child)

    def _ansi(self, text: str) -> Part:
        """Read $'...', of which the common escapes are known."""
        result = []
        chars = iter(text[2:-1])
        for char in chars:
            plain = _ESCAPES.get(next(chars, "")) if char == "\\" else char
            if plain is None:
                return Opaque(text)
            result.append(plain)
        return Text("".join(result), True)

    def _string(self, node: Node) -> Iterator[Part]:
        if node.end_byte - node.start_byte == 2:
            yield Text("", True)
        yield from self._between(node, node.start_byte + 1, node.end_byte - 1, escapes='$`"\\\n')

    def _between(self, node: Node, start: int, end: int, escapes: str) -> Iterator[Part]:
        """Read quoted text with expansions in it; what lies between them is taken from the source as it is there."""
        for child in node.named_children:
            if child.type in ("string_content", "heredoc_content"):
                continue
            yield from self._literal(_unescaped(self._slice(start, child.start_byte), escapes), quoted=True)
            yield from self._word(child)
            start = child.end_byte
        yield from self._literal(_unescaped(self._slice(start, end), escapes), quoted=True)

    def _plain(self, text: str) -> Iterator[Part]:
        if text.startswith("~") or ("{" in text and "," in text):
            yield Opaque(text)
        else:
            yield from self._literal(_unescaped(text, ""), quoted="\\" in text)

    def _expansion(self, node: Node) -> Part:
        text = self.text(node)
        names = [child for child in node.children if child.type in ("variable_name", "special_variable_name")]
        plain = {"$", "${", "}", "variable_name", "special_variable_name"}
        rest = [child for child in node.children if child.type not in plain]
        if len(names) != 1:
            return Opaque(text)
        if not rest:
            return Variable(self.text(names[0]), text)
        if rest[0].type in (":-", "-") and len(rest) <= 2:
            default = self.read(rest[1]).literal if len(rest) == 2 else ""
            return Opaque(text) if default is None else Variable(self.text(names[0]), text, default)
        return Opaque(text)

    def _literal(self, text: str, *, quoted: bool) -> Iterator[Part]:
        return parts(text, self._hidden, quoted=quoted)

    def _slice(self, start: int, end: int) -> str:
        return self._source[start:end].decode(errors="replace")

    def text(self, node: Node) -> str:
        """Give the source of a node."""
        return self._slice(node.start_byte, node.end_byte)


def _without_tabs(part: Part, *, first: bool) -> Part:
    """Take away the tabs at the beginning of lines, as <<- does."""
    if not isinstance(part, Text):
        return part
    lines = part.text.split("\n")
    kept = [line.lstrip("\t") if place or first else line for place, line in enumerate(lines)]
    return Text("\n".join(kept), part.quoted)


def _unescaped(text: str, escapes: str) -> str:
    r"""Take backslashes away as the shell does, before `escapes` or, outside of quotes, before anything."""
    if "\\" not in text:
        return text
    result: list[str] = []
    chars = iter(text)
    for char in chars:
        after = next(chars, "") if char == "\\" else None
        if after is None:
            result.append(char)
        elif after != "\n":
            result.append(after if not escapes or after in escapes else char + after)
    return "".join(result)
