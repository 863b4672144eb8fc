"""Edits of a text at the places of its nodes: what is not changed stays as it is, byte for byte, and so do comments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sidecars.pods import writing
from sidecars.pods.nodes import Node


class Fixed(Exception):  # noqa: N818  (named for what the text is)
    """A text cannot be edited there; the message says why, as `it stands behind an alias`."""


class Splice(NamedTuple):
    """A part of the text, and what is to stand there instead."""

    start: int
    end: int
    text: str


def spliced(text: str, splices: Iterable[Splice], start: int = 0, end: int | None = None) -> str:
    """Apply splices to a part of the text; those that begin at one place go in their order, what is removed last."""
    parts, at = [], start
    for splice in sorted(splices, key=lambda each: each[:2]):
        if splice.start < at:
            raise Fixed("two edits of it meet")
        parts += [text[at : splice.start], splice.text]
        at = splice.end
    return "".join([*parts, text[at:end]])


class Edits:
    """The splices that make nodes of one text become other values.

    dash  how far the dashes of a list are to the right of its key, in what is written anew
    """

    def __init__(self, text: str, dash: int = 2) -> None:
        self.text = text
        self.dash = dash
        self.splices: list[Splice] = []
        self._newline = "\r\n" if "\r\n" in text[:1000] else "\n"

    def put(self, start: int, end: int, text: str) -> None:
        """Put a text in the place of another."""
        self.splices.append(Splice(start, end, text.replace("\n", self._newline) if self._newline != "\n" else text))

    def become(self, node: Node, value: dict[str, Any]) -> None:
        """Make a map become this value. Keys that are new come behind those that they follow in it. Raises Fixed."""
        if node.fixed:
            raise Fixed(f"its text goes through {node.fixed}")
        if not any(key in value for key in node.values):
            raise Fixed("nothing of it would stay")
        if node.style == "{":
            _FlowMap(self, node).become(value)
        else:
            _BlockMap(self, node).become(value)

    def put_raw(self, start: int, text: str, end: int | None = None) -> None:
        """Put a text of this text's own, with its line ends, at a place, or in the place of what is there."""
        self.splices.append(Splice(start, start if end is None else end, text))

    def value(self, key: Node, node: Node, value: Any) -> None:
        """Make the value of a key become another one."""
        if _same(node.data, value):
            return
        if node.fixed:
            raise Fixed(f"its text goes through {node.fixed}")
        if node.kind == "map" and isinstance(value, dict) and any(each in value for each in node.values):
            self.become(node, value)
        elif node.kind == "seq" and isinstance(value, list) and _scalar_by_scalar(node, value):
            for child, new in zip(node.items, value, strict=True):
                self.value(child, child, new)
        elif node.kind == "seq" and isinstance(value, list) and _Aligned(node, value).whole:
            self._items(node, value)
        else:
            self._replace(key, node, value)

    def append(self, node: Node, value: Any) -> None:
        """Put one more item behind the last of a list that has some."""
        last = node.items[-1]
        if node.style == "{":
            self.put(last.end, last.end, f", {writing.flow(value, json=_json(last))}")
        else:
            self.lines(self.line_behind(last), writing.item(value, node.column, self.dash))

    def lines(self, at: int, text: str) -> None:
        """Put whole lines, given without their last line end, at the beginning of a line or the end of the text."""
        if at and self.text[at - 1] != "\n":
            self.put(at, at, f"\n{text}")
        else:
            self.put(at, at, f"{text}\n")

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

    def _items(self, node: Node, value: list[Any]) -> None:
        aligned = _Aligned(node, value)
        for child, new in aligned.kept:
            self.value(child, child, new)
        for at in aligned.gone:
            self._drop(node, at)
        for new in aligned.new:
            self.append(node, new)

    def _drop(self, node: Node, at: int) -> None:
        child = node.items[at]
        if node.style == "{":
            raise Fixed("it stands between brackets")
        dash = self.dash_of(node, at)
        if not self.alone(dash):
            raise Fixed("two lists begin on one line")
        start, end = self.line_of(dash), self.line_behind(child)
        self.put(start, end, self._as_lines(self.comments(dash, end, child), node.column))

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

    def _replace(self, key: Node, node: Node, value: Any) -> None:
        """Write a value anew. A scalar on its key's line, or of a list, keeps its quotes."""
        simple = node.kind == "scalar" and node.style in {"", "'", '"'} and not isinstance(value, (dict, list))
        if simple and node.end > node.start:
            self.put(node.start, node.end, writing.scalar(value, quote=node.style))
            return
        if key is node:
            raise Fixed("an item of its list cannot be written anew")
        colon = self._colon(key, node)
        comments = self.comments(colon + 1, node.end, node)
        text = writing.after_key(value, key.column, self.dash)
        line_end = "\n" if node.end > node.start and self.text[node.end - 1] == "\n" else ""
        self.put(colon + 1, max(node.end, colon + 1), text + line_end)
        self._keep(comments, key, node)

    def _keep(self, comments: list[str], key: Node, node: Node) -> None:
        """Let comments of a value stay, as lines before its key, or behind it where that begins an item of a list."""
        if not comments:
            return
        at = self.line_of(key.start) if self.alone(key.start) else self.line_behind(node)
        self.lines(at, self._as_lines(comments, key.column).rstrip("\n"))

    def _as_lines(self, comments: list[str], column: int) -> str:
        return "".join(f"{' ' * column}{comment}\n" for comment in comments)

    def _colon(self, key: Node, node: Node) -> int:
        colon = self.text.find(":", key.end, max(node.start, key.end + 1))
        if colon < 0 or self.text[key.end : colon].strip():
            raise Fixed("its key is written in an odd way")
        return colon


class _Aligned:
    """Which items of a list stay, perhaps with another value, which go, and which are new; the new ones come last."""

    def __init__(self, node: Node, value: list[Any]) -> None:
        names = [_name(each) for each in value]
        old = [_name(each.data) for each in node.items]
        self.kept = [
            (child, value[names.index(name)]) for child, name in zip(node.items, old, strict=True) if name in names
        ]
        self.gone = [at for at, name in enumerate(old) if name not in names]
        self.new = [each for each, name in zip(value, names, strict=True) if name not in old]
        unique = None not in names + old and len(set(names)) == len(names) and len(set(old)) == len(old)
        whole = [each for _, each in self.kept] + self.new == value
        self.whole = unique and whole and bool(self.kept)


def _scalar_by_scalar(node: Node, value: list[Any]) -> bool:
    """Whether a list of lines becomes another one of as many scalars."""
    simple = all(child.kind == "scalar" and child.style in {"", "'", '"'} for child in node.items)
    new = not any(isinstance(each, (dict, list)) for each in value)
    return simple and new and node.style != "{" and len(node.items) == len(value)


def _name(value: Any) -> Any:
    """What an item of a list is known by: a mount by its path, a variable and most else by its name."""
    return value.get("mountPath", value.get("name")) if isinstance(value, dict) else None


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def _json(node: Node) -> bool:
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


class _BlockMap:
    """A map of lines, while it becomes another one."""

    def __init__(self, edits: Edits, node: Node) -> None:
        self.edits, self.node = edits, node
        self.column = next(iter(node.keys.values())).column

    def become(self, value: dict[str, Any]) -> None:
        for name, child in self.node.values.items():
            if name in value:
                self.edits.value(self.node.keys[name], child, value[name])
        before = None
        for name, new in value.items():
            if name in self.node.values:
                before = name
            else:
                self.add(name, new, before)
        self._remove([name for name in self.node.values if name not in value])

    def add(self, name: str, value: Any, before: str | None) -> None:
        """Put a key behind the one before it, or before the first that stays."""
        text = writing.block({name: value}, self.column, self.edits.dash)
        if before is not None:
            self.edits.lines(self.edits.line_behind(self.node.values[before]), " " * self.column + text)
            return
        first = next(iter(self.node.keys.values()))
        self.edits.put(first.start, first.start, f"{text}\n{' ' * self.column}")

    def _remove(self, names: list[str]) -> None:
        leading = not self.edits.alone(next(iter(self.node.keys.values())).start)
        run = []
        for name in self.node.values:
            if not leading or name not in names:
                break
            run.append(name)
        if run:
            self._remove_first(run)
        for name in names:
            if name not in run:
                start = self.edits.line_of(self.node.keys[name].start)
                kept = self.edits._as_lines(self._comments(name), self.column)
                self.edits.put(start, self.edits.line_behind(self.node.values[name]), kept)

    def _remove_first(self, run: list[str]) -> None:
        """Remove the first keys, which begin on the line of an item's dash, so that the next one begins there."""
        comments: list[str] = []
        start = end = self.node.keys[run[0]].start
        for name in run:
            comments += self.edits.comments(end, self.node.keys[name].start) + self._comments(name)
            end = self.edits.line_behind(self.node.values[name])
        kept = "".join(f"{comment}\n{' ' * self.column}" for comment in comments)
        blanks = len(self.edits.text[end:]) - len(self.edits.text[end:].lstrip(" "))
        self.edits.put(start, end + blanks, kept)

    def _comments(self, name: str) -> list[str]:
        child = self.node.values[name]
        return self.edits.comments(self.node.keys[name].end, self.edits.line_behind(child), child)


class _FlowMap:
    """A map between braces, while it becomes another one."""

    def __init__(self, edits: Edits, node: Node) -> None:
        self.edits, self.node = edits, node

    def become(self, value: dict[str, Any]) -> None:
        for name, child in self.node.values.items():
            if name in value:
                self._value(child, value[name])
        kept = [name for name in self.node.values if name in value]
        before = None
        for name, new in value.items():
            if name in self.node.values:
                before = name
            else:
                self._add(name, new, before, kept[0])
        self._remove(kept)

    def _value(self, child: Node, value: Any) -> None:
        if _same(child.data, value):
            return
        if child.fixed:
            raise Fixed(f"its text goes through {child.fixed}")
        if child.kind == "map" and isinstance(value, dict) and any(name in value for name in child.values):
            _FlowMap(self.edits, child).become(value)
            return
        if child.end == child.start:
            raise Fixed("a key between braces has no value")
        if self.edits.comments(child.start, child.end, child):
            raise Fixed("it has comments between brackets")
        self.edits.put(child.start, child.end, self._written(value))

    def _written(self, value: Any) -> str:
        return writing.flow(value, json=_json(self.node))

    def _add(self, name: str, value: Any, before: str | None, first: str) -> None:
        pair = self._written({name: value})[1:-1]
        if before is None:
            key = self.node.keys[first]
            self.edits.put(key.start, key.start, f"{pair},{self.edits.between(key)}")
        else:
            key = self.node.keys[before]
            at = max(self.node.values[before].end, key.end)
            self.edits.put(at, at, f",{self.edits.between(key)}{pair}")

    def _remove(self, kept: list[str]) -> None:
        """Each run of keys that go, up to the next that stays, or from the last that stays."""
        run: list[str] = []
        last = None
        for name in [*self.node.values, None]:
            if name is not None and name not in kept:
                run.append(name)
                continue
            if run:
                self._cut(run, last, name)
            run, last = [], name

    def _cut(self, run: list[str], last: str | None, following: str | None) -> None:
        for name in run:
            if self.edits.comments(self.node.keys[name].end, self.node.values[name].end, self.node.values[name]):
                raise Fixed("it has comments between brackets")
        if following is not None:
            self.edits.put(self.node.keys[run[0]].start, self.node.keys[following].start, "")
        elif last is not None:
            self.edits.put(self.node.values[last].end, self.node.values[run[-1]].end, "")
