"""ECS documents of a table, without making a record of each line: the columns become a tree of members."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Union

from sidecars.adapter.encode.ecs_names import ECS_VERSION, INTEGERS, SETS, TEXTS
from sidecars.adapter.encode.instants import nanoseconds
from sidecars.adapter.encode.line import Cells, Line
from sidecars.adapter.encode.shaping import Shaping
from sidecars.adapter.encode.values import dumps
from sidecars.adapter.table import Field, Kind, Table

_BYTE = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_ADDRESSES = re.compile(rb"(?:(?:" + rb"\.".join([_BYTE] * 4) + rb")?\n)++")
# Digits enough for a century in nanoseconds, and few enough for a float.
_MOST_DIGITS = 15


class Slow(Exception):  # noqa: N818  (it is no error)
    """The table has something that only the records themselves tell."""


class Column:
    """Cells that are JSON between two quotes, or between none; an empty one has no value."""

    __slots__ = ("cells", "full", "kind", "quote")

    def __init__(self, kind: Kind, cells: Sequence[bytes], quote: bytes = b"") -> None:
        self.kind = kind
        self.cells = cells
        self.quote = quote
        self.full = all(cells)

    def mapped(self, change: Callable[[bytes], bytes]) -> Column:
        """Change what is between the quotes of texts, each different one once."""
        quoted = not self.quote
        changes = {}
        for cell in dict.fromkeys(self.cells):
            text = change(cell[1:-1] if quoted else cell) if cell else b""
            changes[cell] = b'"%b"' % text if quoted and text else text
        return Column(self.kind, list(map(changes.__getitem__, self.cells)), self.quote)


Tree = dict[str, Union[Column, "Tree"]]


class Documents:
    """Makes documents of tables in which names and kinds of the columns tell where the cells go."""

    def __init__(self, shaping: Shaping) -> None:
        self._shaping = shaping
        self._cells = Cells()

    def encode(self, table: Table, origin: str) -> bytes:
        """Encode a table, each document ended by a newline. Raises Slow."""
        columns = self._columns(table, origin)
        time, level = columns.pop("time", None), columns.pop("level", None)
        if time is None or not time.full or not _times(time.cells):
            raise Slow
        line = Line(table.count)
        line.member(b',"@timestamp":', time.cells, b"")
        if level is not None:
            line.member(b',"log.level":', level.cells, b"")
        self._message(line, table, columns.pop("message", None))
        line.literal(b',"ecs.version":"%b"' % ECS_VERSION.encode())
        tree: Tree = {}
        for name, column in columns.items():
            for path, member in _members(name, column):
                _put(tree, path, member)
        for name, node in tree.items():
            _emit(line, b",%b:" % dumps(name), node)
        return line.join()

    def _columns(self, table: Table, origin: str) -> dict[str, Column]:
        """Give the columns by the names they have afterwards, and those that are added."""
        always, otherwise = self._shaping.added(origin)
        columns: dict[str, Column] = {}
        for field, cells in zip(table.fields, table.columns, strict=True):
            name = self._shaping.name(field.name)
            if name is None or name in always or not any(cells):
                continue
            column = Column(field.kind, *self._cells.json(field, cells, clean=table.clean))
            if name in columns or not _plain(name, field) or (name in otherwise and not column.full):
                raise Slow
            columns[name] = column
        for name, value in (otherwise | always).items():
            if name in ("time", "level", "message"):
                raise Slow
            columns.setdefault(name, Column("text", [dumps(value)] * table.count))
        return columns

    def _message(self, line: Line, table: Table, message: Column | None) -> None:
        if message is None and not self._shaping.drops:
            line.member(b',"message":"', _escaped(table.lines), b'"')
        elif message is not None and message.full and message.quote:
            line.member(b',"message":"', message.cells, b'"')
        else:
            raise Slow


def _plain(name: str, field: Field) -> bool:
    """Say whether a column's name and kind alone tell where it goes."""
    if field.kind == "other" or name in ("@timestamp", "log.level", "ecs.version"):
        return False
    return (name == "time") == (field.kind == "time") and (name == "level") == (field.kind == "level")


def _times(cells: Sequence[bytes]) -> bool:
    return all(nanoseconds(cell[1:-1].decode()) is not None for cell in dict.fromkeys(cells))


def _escaped(lines: Sequence[bytes]) -> Sequence[bytes]:
    """Escape raw lines as JSON does: all at once where they have only quotes to escape."""
    joined = b"\n".join(lines)
    if joined.count(b"\n") >= len(lines) or not all(lines):
        raise Slow  # a line with a newline in it may hold a stack trace
    if joined.isascii() and b"\\" not in joined and joined.replace(b"\n", b"").decode().isprintable():
        return joined.replace(b'"', b'\\"').split(b"\n")
    return [dumps(line.decode("utf-8", "replace"))[1:-1] for line in lines]


def _members(name: str, column: Column) -> Iterator[tuple[str, Column]]:
    """Give the members that a column becomes, by dotted paths: as the module ecs does for a value."""
    text = column.kind == "text"
    root, dot, _ = name.partition(".")
    if text and name in _SEVERAL:
        yield from _SEVERAL[name](column)
    elif text and name in TEXTS:
        yield TEXTS[name], column
    elif column.kind == "integer" and name in INTEGERS:
        yield INTEGERS[name], column
    elif not text and name == "duration":
        yield "event.duration", _in_nanoseconds(column)
    elif dot and root in SETS:
        yield name, column
    else:
        yield f"labels.{name.replace('.', '_')}", column


def _client(column: Column) -> Iterator[tuple[str, Column]]:
    yield "source.address", column
    if column.quote and _ADDRESSES.fullmatch(b"\n".join(column.cells) + b"\n"):
        yield "source.ip", column
    else:
        yield "source.ip", column.mapped(lambda cell: cell if is_address(cell.decode()) else b"")


def _path(column: Column) -> Iterator[tuple[str, Column]]:
    yield "url.original", column
    if not column.quote:
        yield "url.path", column.mapped(lambda cell: cell.partition(b"?")[0])
        yield "url.query", column.mapped(lambda cell: cell.partition(b"?")[2])
        return
    # Paths differ from line to line, so remembering them does not pay.
    parts = [cell.partition(b"?") for cell in column.cells]
    yield "url.path", Column("text", [path for path, _, _ in parts], column.quote)
    yield "url.query", Column("text", [query for _, _, query in parts], column.quote)


def _protocol(column: Column) -> Iterator[tuple[str, Column]]:
    yield "http.version", column.mapped(_version)


def _version(cell: bytes) -> bytes:
    name, _, version = cell.partition(b"/")
    if name != b"HTTP" or not version:
        raise Slow
    return version


_SEVERAL: dict[str, Callable[[Column], Iterator[tuple[str, Column]]]] = {
    "client": _client,
    "path": _path,
    "protocol": _protocol,
}


def _in_nanoseconds(column: Column) -> Column:
    if max(map(len, column.cells)) > _MOST_DIGITS:
        raise Slow
    return Column("integer", [cell and b"%d" % round(float(cell) * 1e9) for cell in column.cells])


def is_address(text: str) -> bool:
    """Say whether Elasticsearch takes a text for an address: IPv4 or IPv6, without a zone."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _put(tree: Tree, path: str, column: Column) -> None:
    *parents, last = path.split(".")
    if not any(column.cells):
        return
    for parent in parents:
        inner = tree.setdefault(parent, {})
        if isinstance(inner, Column):
            raise Slow
        tree = inner
    if last in tree:
        raise Slow
    tree[last] = column


def _full(node: Column | Tree) -> bool:
    return node.full if isinstance(node, Column) else any(map(_full, node.values()))


def _emit(line: Line, key: bytes, node: Column | Tree) -> None:
    """Add a member, or an object of members of which one that is always there comes first and needs no comma."""
    if isinstance(node, Column):
        line.member(key + node.quote, node.cells, node.quote)
    elif not _full(node):
        line.column(_objects(key, node))
    else:
        line.literal(key + b"{")
        for index, (name, inner) in enumerate(sorted(node.items(), key=lambda item: not _full(item[1]))):
            _emit(line, b"," * bool(index) + dumps(name) + b":", inner)
        line.literal(b"}")


def _objects(key: bytes, node: Column | Tree) -> list[bytes]:
    """Give a member line by line; nothing where it is not there."""
    if isinstance(node, Column):
        before = key + node.quote
        return [cell and before + cell + node.quote for cell in node.cells]
    columns = [_objects(b",%b:" % dumps(name), inner) for name, inner in node.items()]
    bodies = map(b"".join, zip(*columns, strict=True))
    return [body and b"%b{%b}" % (key, body[1:]) for body in bodies]
