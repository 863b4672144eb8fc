"""A text and what is spliced into it: what is not changed stays as it is, byte for byte, and so do comments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sidecars.pods.nodes import Node


class Fixed(Exception):  # noqa: N818  (named for what the text is)
    """A text cannot be edited there; the message says why, as `it stands behind an alias`."""


class Splice(NamedTuple):
    """A part of the text, and what is to stand there instead.

    depth  how deep whole lines are: of those at one place the deepest belong to what is before it, and come first
    """

    start: int
    end: int
    text: str
    depth: int = 0


def spliced(text: str, splices: Iterable[Splice], start: int = 0, end: int | None = None) -> str:
    """Apply splices to a part of the text; what is removed at a place goes after what is put there."""
    parts, at = [], start
    for splice in sorted(splices, key=lambda each: (each.start, each.end, -each.depth)):
        if splice.start < at:
            raise Fixed("two edits of it meet")
        parts += [text[at : splice.start], splice.text]
        at = splice.end
    return "".join([*parts, text[at:end]])


class Page:
    """A text, where its lines and comments are, and the splices so far."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.splices: list[Splice] = []
        self.newline = "\r\n" if "\r\n" in text[:1000] else "\n"

    def put(self, start: int, end: int, text: str) -> None:
        """Put a text in the place of another."""
        self.splices.append(Splice(start, end, text.replace("\n", self.newline) if self.newline != "\n" else text))

    def lines(self, at: int, text: str, *, raw: bool = False) -> None:
        """Put whole lines, given without their last line end, at the beginning of a line or the end of the text.

        raw  they are this text's own, with its line ends
        """
        depth = _depth(text)
        text = text if raw else text.replace("\n", self.newline)
        whole = not at or self.text[at - 1] == "\n"
        self.splices.append(Splice(at, at, text + self.newline if whole else self.newline + text, depth))

    def line_behind(self, node: Node) -> int:
        """The offset where the line after a node begins, behind a comment on its last line."""
        at = node.end
        if at and self.text[at - 1] == "\n" and at > node.start:
            return at  # a block scalar, which ends with its line
        end = self.text.find("\n", at)
        return len(self.text) if end < 0 else end + 1

    def line_of(self, at: int) -> int:
        """The offset where the line of an offset begins."""
        return self.text.rfind("\n", 0, at) + 1

    def alone(self, at: int) -> bool:
        """Whether nothing but blanks stands before an offset on its line."""
        return not self.text[self.line_of(at) : at].strip()

    def between(self, key: Node) -> str:
        """What stands before a key in its map, where that is between braces: a blank, or a line end and blanks."""
        return f"\n{' ' * key.column}" if self.alone(key.start) else " "

    def comments(self, start: int, end: int, node: Node | None = None) -> list[str]:
        """The comments in a part of the text, outside of the scalars of the node that lies in it."""
        found, at = [], start
        for low, high in [*_scalars(node), (end, end)]:
            while at < low:
                hash_ = self.text.find("#", at, low)
                if hash_ < 0 or (hash_ and self.text[hash_ - 1] not in " \t\n"):
                    at = low if hash_ < 0 else hash_ + 1
                    continue
                stop = self.text.find("\n", hash_, end)
                at = end if stop < 0 else stop
                found.append(self.text[hash_:at].rstrip())
            at = max(at, high)
        return found

    def as_lines(self, comments: list[str], column: int) -> str:
        """Write comments as lines, each at a column."""
        return "".join(f"{' ' * column}{comment}\n" for comment in comments)

    def dash_of(self, node: Node, at: int) -> int:
        """The offset of the dash of an item."""
        where = node.items[at - 1].end if at else node.start
        end = node.items[at].start
        while where < end and self.text[where] != "-":
            if self.text[where] == "#":
                where = self.text.find("\n", where, end)
                if where < 0:
                    break
            where += 1
        if not node.start <= where < end:
            raise Fixed("its list is written in an odd way")
        return where

    def colon(self, key: Node, node: Node) -> int:
        """The offset of the colon between a key and its value."""
        colon = self.text.find(":", key.end, max(node.start, key.end + 1))
        if colon < 0 or self.text[key.end : colon].strip():
            raise Fixed("its key is written in an odd way")
        return colon


def _depth(text: str) -> int:
    """How deep lines are: by the first that is no comment, and a list's more than a key's right above it."""
    line = next((line for line in text.splitlines() if not line.lstrip().startswith("#")), "")
    bare = line.lstrip(" ")
    return 2 * (len(line) - len(bare)) + bare.startswith("-")


def is_json(node: Node) -> bool:
    """Whether a collection between brackets is written as JSON."""
    return any(key.style == '"' for key in node.keys.values())


def _scalars(node: Node | None) -> Iterator[tuple[int, int]]:
    """The ranges of the scalars below a node, its keys included, in the order of the text."""
    if node is None:
        return
    if node.kind == "scalar":
        yield node.start, node.end
    for name, child in node.values.items():
        yield node.keys[name].start, node.keys[name].end
        yield from _scalars(child)
    for child in node.items:
        yield from _scalars(child)
