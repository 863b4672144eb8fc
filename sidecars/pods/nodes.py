"""YAML as a tree that knows where each of its nodes stands in the text, so that an edit may leave all else as it is.

The one door to PyYAML in `pods`. Its libyaml reads a manifest in a quarter of a millisecond, where parsers written in
Python take six; and as kubectl's it reads YAML 1.1, in which `0644` is an octal number and `on` a boolean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

import yaml

from sidecars.core.errors import WrongSettings

# What its aliases may make of a document: kubectl refuses more as well.
_LARGEST = 5_000_000
ALIAS = "an alias"
"""Why a node is fixed that stands in several places."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
_SCALARS = yaml.constructor.SafeConstructor()
_TEMPLATE = re.compile(r"\{\{|\{%")


class WrongManifest(WrongSettings):
    """A text that is no YAML, or no manifest: the message has the file, the line and what to do."""


class Node:
    """One mapping, sequence or scalar.

    kind          map, seq or scalar
    start, end    offsets in the text, of its first character and behind its last; comments that follow are not in it
    line, column  of its first character; lines count from 1, columns from 0
    style         how it is written: a scalar `'`, `"`, `|`, `>` or nothing (plain), a collection `{` or nothing (block)
    data          its plain Python value: dict, list, str, int, float, bool or None. Read it only
    keys, values  of a map, by key: the key's node and the value's
    items         of a seq
    fixed         why its text cannot be edited, as `an alias`; empty when it can
    size          how many nodes it is, counted wherever aliases put it
    """

    __slots__ = ("column", "data", "end", "fixed", "items", "keys", "kind", "line", "size", "start", "style", "values")

    def __init__(self, kind: Literal["map", "seq", "scalar"], node: yaml.Node) -> None:
        self.kind = kind
        mark = node.start_mark
        self.start, self.end = mark.index, node.end_mark.index
        self.line, self.column = mark.line + 1, mark.column
        self.size = 1
        self.style = ""
        self.data: Any = None
        self.keys, self.values = _NO_KEYS, _NO_KEYS
        self.items = _NO_ITEMS
        self.fixed = ""

    def at(self, *path: str | int) -> Node | None:
        """Give the node below this one, as `at("spec", "containers", 0)`; None when there is none."""
        node: Node | None = self
        for step in path:
            if node is None:
                return None
            if isinstance(step, str):
                node = node.values.get(step)
            else:
                node = node.items[step] if -len(node.items) <= step < len(node.items) else None
        return node


# Most nodes are scalars, which have neither: of a large file the empty ones would be half.
_NO_KEYS: dict[str, Node] = {}
_NO_ITEMS: list[Node] = []


def compose(text: str, name: str) -> Iterator[Node]:
    """Read the documents of a text, one after the other; those that are empty are left out.

    The name is the file's, for the message. Raises WrongManifest when it is no YAML, or what no manifest can be.
    """
    if text.startswith("\ufeff"):
        raise WrongManifest(f"{name}:1: begins with a byte order mark; save it as UTF-8 without one")
    try:
        for root in yaml.compose_all(text, Loader=_LOADER):
            node = None if root is None else _Reader(text, name).node(root)
            if node is not None and node.data is not None:
                yield node
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise WrongManifest(
            _said(text, name, mark.line + 1 if mark else 1, str(error.problem or error.context))
        ) from None
    except yaml.reader.ReaderError as error:
        code = error.character if isinstance(error.character, int) else ord(error.character)
        line = text.count("\n", 0, text.find(chr(code))) + 1
        raise WrongManifest(f"{name}:{line}: the character U+{code:04X} cannot be in YAML; remove it") from None
    except RecursionError:
        raise WrongManifest(f"{name}:1: is nested too deeply to be a manifest") from None


def _said(text: str, name: str, line: int, problem: str) -> str:
    if _TEMPLATE.search(text):
        return (
            f"{name}:{line}: is a template and no YAML yet ({problem}); render it first, as with "
            "`helm template CHART | sidecars convert -`"
        )
    return f"{name}:{line}: is no YAML: {problem}; correct that line or the one before it"


class _Reader:
    """Makes our nodes of one document's, each once however often aliases name it."""

    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._name = name
        self._known: dict[int, Node | None] = {}

    def node(self, node: yaml.Node) -> Node:
        if id(node) in self._known:
            known = self._known[id(node)]
            if known is None:
                raise WrongManifest(
                    f"{self._name}:{_line(node)}: an alias stands inside of what it names; write it out"
                )
            known.fixed = ALIAS
            return known
        self._known[id(node)] = None
        made = self._made(node)
        self._known[id(node)] = made
        return made

    def _made(self, node: yaml.Node) -> Node:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if isinstance(node, yaml.MappingNode):
            return self._map(node)
        return self._seq(node)

    def _scalar(self, node: yaml.ScalarNode) -> Node:
        made = Node("scalar", node)
        made.style = node.style or ""
        made.data = str(node.value) if node.tag == _TEXT else _plain(node, self._name)
        if made.style in {"|", ">"} and made.end > made.start:
            self._chomp(made)
        return made

    def _chomp(self, made: Node) -> None:
        """Blank lines behind a block scalar are not its own, unless it says so by a plus in its first line."""
        text = self._text[made.start : made.end]
        if "+" not in text.partition("\n")[0]:
            last = len(text.rstrip())
            made.end = made.start + (text.find("\n", last) + 1 or len(text))

    def _map(self, node: yaml.MappingNode) -> Node:
        made = Node("map", node)
        made.keys, made.values = {}, {}
        made.style = "{" if node.flow_style else ""
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise WrongManifest(_said(self._text, self._name, _line(key), "a key that is a collection"))
            child = self.node(value)
            if key.tag == _MERGE:
                made.fixed = "a merge key"
                made.size += child.size
                for each in child.items or [child]:
                    merged = {**(each.data if isinstance(each.data, dict) else {}), **merged}
                continue
            name = str(key.value)
            if name in made.values:
                made.fixed = f"the key {name}, which is given twice"
            made.keys[name], made.values[name] = self._scalar(key), child
        values = {name: child.data for name, child in made.values.items()}
        made.data = {**merged, **values} if merged else values
        self._ended(made, [*made.keys.values(), *made.values.values()])
        return made

    def _seq(self, node: Any) -> Node:
        made = Node("seq", node)
        made.style = "{" if node.flow_style else ""
        made.items = [self.node(value) for value in node.value]
        made.data = [child.data for child in made.items]
        self._ended(made, made.items)
        return made

    def _ended(self, made: Node, children: list[Node]) -> None:
        """A block ends with its last child: libyaml has it end where the next token begins, behind comments."""
        end = made.start
        for child in children:
            made.size += child.size
            if child.start < made.start:  # it stands elsewhere, and nothing says where its alias does
                made.fixed = made.fixed or "an alias in it"
            elif child.end > end:
                end = child.end
        if made.size > _LARGEST:
            raise WrongManifest(f"{self._name}:{made.line}: its aliases make more of it than any cluster would take")
        if made.style != "{" and children:
            made.end = end


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _plain(node: yaml.ScalarNode, name: str) -> Any:
    """The value that JSON would have: a date stays a text."""
    kind = node.tag.rpartition(":")[2]
    try:
        match kind:
            case "int":
                return _SCALARS.construct_yaml_int(node)
            case "float":
                return _SCALARS.construct_yaml_float(node)
            case "bool":
                return _SCALARS.construct_yaml_bool(node)
            case "null":
                return None
    except (ValueError, KeyError):
        raise WrongManifest(f"{name}:{_line(node)}: {node.value!r} is no {kind}; put it in quotes") from None
    return str(node.value)


def walk(node: Node, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Node]]:
    """Give every map below a node, itself included, with the path that leads there."""
    todo = [(path, node)]
    while todo:
        path, node = todo.pop()
        if node.kind == "map":
            yield path, node
            todo += [((*path, key), child) for key, child in reversed(node.values.items()) if child.kind != "scalar"]
        todo += [((*path, at), child) for at, child in reversed(list(enumerate(node.items))) if child.kind != "scalar"]
