"""Edits that make a node of a text another value, and touch nothing but what differs."""

from __future__ import annotations

from typing import Any

from sidecars.pods import writing
from sidecars.pods.nodes import Node
from sidecars.pods.splicing import Fixed, Page, is_json


class Edits(Page):
    """The splices that make nodes of one text become other values.

    dash  how far the dashes of a list are to the right of its key, in what is written anew
    """

    def __init__(self, text: str, dash: int = 2) -> None:
        super().__init__(text)
        self.dash = dash

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
        elif node.kind == "seq" and isinstance(value, list) and (aligned := Aligned(node, value)).whole:
            self.items(node, aligned)
        else:
            self._replace(key, node, value)

    def append(self, node: Node, value: Any) -> None:
        """Put one more item behind the last of a list that has some."""
        last = node.items[-1]
        if node.style == "{":
            self.put(last.end, last.end, f", {writing.flow(value, json=is_json(last))}")
        else:
            self.lines(self.line_behind(last), writing.item(value, node.column, self.dash))

    def items(self, node: Node, aligned: Aligned) -> None:
        """Make the items of a list become others."""
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
        self.put(start, end, self.as_lines(self.comments(dash, end, child), node.column))

    def _replace(self, key: Node, node: Node, value: Any) -> None:
        """Write a value anew. A scalar on its key's line, or of a list, keeps its quotes."""
        simple = node.kind == "scalar" and node.style in {"", "'", '"'} and not isinstance(value, (dict, list))
        if simple and node.end > node.start:
            self.put(node.start, node.end, writing.scalar(value, quote=node.style))
            return
        if key is node:
            raise Fixed("an item of its list cannot be written anew")
        colon = self.colon(key, node)
        comments = self.comments(colon + 1, node.end, node)
        text = writing.after_key(value, key.column, self.dash)
        line_end = "\n" if node.end > node.start and self.text[node.end - 1] == "\n" else ""
        self.put(colon + 1, max(node.end, colon + 1), text + line_end)
        self._keep(comments, key)

    def _keep(self, comments: list[str], key: Node) -> None:
        """Let comments of a value stay, as lines before its key."""
        if comments:
            self.put(key.start, key.start, "".join(f"{comment}\n{' ' * key.column}" for comment in comments))


class Aligned:
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
        if self.edits.alone(first.start):  # whole lines, since the first may go, and goes with its line
            self.edits.lines(self.edits.line_of(first.start), " " * self.column + text)
        else:
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
                kept = self.edits.as_lines(self._comments(name), self.column)
                self.edits.put(start, self.edits.line_behind(self.node.values[name]), kept)

    def _remove_first(self, run: list[str]) -> None:
        """Remove the first keys, which begin on the line of an item's dash, so that the next one begins there."""
        comments: list[str] = []
        start = end = self.node.keys[run[0]].start
        for name in run:
            comments += self.edits.comments(end, self.node.keys[name].start) + self._comments(name)
            end = self.edits.line_behind(self.node.values[name])
        kept = "".join(f"{comment}\n{' ' * self.column}" for comment in comments)
        while self.edits.text[end : end + 1] == " ":  # up to the next key, or a comment before it
            end += 1
        self.edits.put(start, end, kept)

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
        aligned = Aligned(child, value) if child.kind == "seq" and isinstance(value, list) else None
        if aligned and aligned.whole and not aligned.gone:
            self.edits.items(child, aligned)
            return
        if child.end == child.start:
            raise Fixed("a key between braces has no value")
        if self.edits.comments(child.start, child.end, child):
            raise Fixed("it has comments between brackets")
        self.edits.put(child.start, child.end, self._written(value))

    def _written(self, value: Any) -> str:
        return writing.flow(value, json=is_json(self.node))

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
