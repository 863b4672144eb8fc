"""Whole records out of the bytes of a stream, as they come."""

from __future__ import annotations

from sidecars.core.follow.join import Lines, Records

LONGEST = 1 << 20
_LINES = Lines()


class Assembly:
    """The bytes of a stream that are no whole record yet.

    A line longer than 1 MiB goes out in parts of that size, cut between characters; it is never held whole.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._held = bytearray()
        self._inside = False

    def __len__(self) -> int:
        return len(self._held)

    @property
    def line(self) -> bool:
        """Whether a whole line is held: it waits for the next, which may belong to its record."""
        return self._held.find(b"\n") >= 0

    def take(self, data: bytes) -> list[bytes]:
        """Add what came, and give what is whole now, in pieces of at most 1 MiB."""
        pieces = []
        for begin in range(0, len(data), LONGEST):
            self._held += data[begin : begin + LONGEST]
            while piece := self._whole():
                pieces.append(piece)
        return pieces

    def _whole(self) -> bytes:
        full = len(self._held) >= LONGEST
        cut = self._records.cut(self._held, 0, min(len(self._held), LONGEST))
        if cut <= 0 and full:
            cut = _LINES.cut(self._held, 0, LONGEST) or _between_characters(self._held, LONGEST)
        return self._give(cut)

    def lines(self) -> bytes:
        """Give the whole lines that are held, as a record that nothing follows."""
        return self._give(_LINES.cut(self._held, 0, len(self._held)))

    def rest(self) -> bytes:
        """Give all that is held, at the end of the stream; a last line gets its newline."""
        if self._held or self._inside:
            self._held += b"" if self._held.endswith(b"\n") else b"\n"
        return self._give(len(self._held))

    def _give(self, size: int) -> bytes:
        if size <= 0:
            return b""
        with memoryview(self._held) as view:
            piece = bytes(view[:size])
        del self._held[:size]
        self._inside = not piece.endswith(b"\n")
        return piece


def _between_characters(data: bytearray, end: int) -> int:
    for back in range(1, 4):
        byte = data[end - back]
        if byte >= 0xC0:
            return end - back
        if byte < 0x80:
            break
    return end
