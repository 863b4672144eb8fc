"""Many lines at once: columns of cells, joined with the literals that stand between them in every line."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sidecars.adapter.encode.values import dumps
from sidecars.adapter.table import Field


class Line:
    """The parts of an object in JSON, as they are collected: literals, which all lines share, and columns.

    Every member begins with a comma; that of a line's first becomes the brace.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        # Literals, and an empty one in the place of each column.
        self._pattern: list[bytes] = []
        self._columns: list[tuple[int, Sequence[bytes]]] = []
        self._literal = b""
        self._braced = False

    def literal(self, text: bytes) -> None:
        """Add what all lines have."""
        if not self._columns and not self._literal:
            text, self._braced = b"{" + text[1:], True
        self._literal += text

    def member(self, before: bytes, cells: Sequence[bytes], after: bytes) -> None:
        """Add cells that are their own JSON, with what stands before and after them; nothing for an empty one."""
        if not all(cells):
            self.column([cell and before + cell + after for cell in cells])
        elif alike(cells):
            self.literal(before + cells[0] + after)
        else:
            self.literal(before)
            self.column(cells)
            self._literal = after

    def column(self, cells: Sequence[bytes]) -> None:
        """Add cells as they are."""
        self._pattern += [self._literal, b""]
        self._columns.append((len(self._pattern) - 1, cells))
        self._literal = b""

    def join(self) -> bytes:
        """Give all lines."""
        end = self._literal + b"}\n"
        if not self._columns:
            return (end if self._braced else b"{}\n") * self._count
        pattern = [*self._pattern, end]
        # Assigning to slices and joining a list is a fifth faster than joining chain.from_iterable(zip(...)).
        parts = pattern * self._count
        for position, cells in self._columns:
            parts[position :: len(pattern)] = cells
        lines = b"".join(parts)
        return lines if self._braced else _opened(lines)


def _opened(lines: bytes) -> bytes:
    """Put the brace where a line has a comma first, or nothing: JSON has no newline but those between the lines."""
    data = (b"\n" + lines).replace(b"\n,", b"\n{").replace(b"\n}", b"\n{}")
    return data[1:]


def alike(cells: Sequence[bytes]) -> bool:
    """Say whether all cells are the same."""
    first = cells[0]
    return first == cells[-1] and first == cells[len(cells) // 2] and cells.count(first) == len(cells)


class Cells:
    """Makes a table's cells JSON: bytes that are it as they are, in quotes or not; an empty one has no value."""

    def __init__(self) -> None:
        self._memos: dict[Field, _Memo] = {}

    def json(self, field: Field, cells: Sequence[bytes], *, clean: bool) -> tuple[Sequence[bytes], bytes]:
        """Give the cells as JSON, and the quote that belongs before and after each, if any."""
        if field.kind in ("integer", "number"):
            return cells, b""
        if field.kind != "text":
            return list(map(self._memo(field).__getitem__, cells)), b""
        if clean or _clean(cells):
            return cells, b'"'
        return list(map(_written(field), cells)), b""

    def _memo(self, field: Field) -> _Memo:
        memo = self._memos.get(field)
        if memo is None:
            if len(self._memos) >= 256:
                self._memos.clear()
            memo = self._memos[field] = _Memo(field)
        return memo


def _clean(cells: Sequence[bytes]) -> bool:
    """Say whether no cell of a text column needs an escape: it is ASCII that can be printed, without \\ and \"."""
    joined = b"".join(cells)
    return joined.isascii() and b"\\" not in joined and b'"' not in joined and joined.decode().isprintable()


class _Memo(dict[bytes, bytes]):
    """The JSON of cells seen lately; nothing for a cell without a value."""

    _MOST = 4096

    def __init__(self, field: Field) -> None:
        super().__init__()
        self._json = _written(field)

    def __missing__(self, cell: bytes) -> bytes:
        if len(self) >= self._MOST:
            self.clear()
        text = self[cell] = self._json(cell)
        return text


def _written(field: Field) -> Callable[[bytes], bytes]:
    read = field.read

    def written(cell: bytes) -> bytes:
        if not cell:
            return b""
        value = read(cell) if read else cell.decode("utf-8", "replace")
        return b"" if value is None else dumps(value)

    return written
