"""Where syslog messages begin and end: in datagrams, and in streams by their length or the character after each."""

from __future__ import annotations

import re

LONGEST = 1 << 20

# A message in front of which its length stands. The < of the priority makes it sure: a text may begin with a number.
_COUNTED = re.compile(rb"([1-9][0-9]{0,8}) (?=<)")
# What may become one: the rest has not come yet.
_BEGUN = re.compile(rb"[1-9][0-9]{0,8} ?\Z")
# Two expressions: one that begins with a single byte is searched for many times faster than one of a set.
_AFTER_NEWLINE = re.compile(rb"\n(?=[1-9][0-9]{0,8} <)")
_AFTER_NUL = re.compile(rb"\0(?=[1-9][0-9]{0,8} <)")
_ENDS = re.compile(rb"[\n\0]+")
_BLANK_LINE = re.compile(rb"\n(?=\n)")


def flat(message: bytes) -> bytes:
    """Make a message one line, ended by a newline; empty if nothing is in it.

    A newline at its end, and the NUL that some senders put there, are left out; one inside becomes a space.
    """
    line = message.strip(b"\r\n\0")
    if b"\n" in line:
        line = line.replace(b"\r\n", b" ").replace(b"\n", b" ")
    return line + b"\n" if line else b""


class Framing:
    """The messages of one TCP connection, each told for itself to be counted or ended by a newline or a NUL.

    One longer than 1 MiB becomes several records. Source: RFC 6587, section 3.4.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._needed = 0  # as long as less is held there is nothing to look for
        self._searched = False  # no message in what is held is counted, and none has ended
        self._owed = 0  # bytes that are still to come of a counted message of which a part has gone out

    def __len__(self) -> int:
        return len(self._held)

    def take(self, data: bytes) -> bytes:
        """Add what came, and give the messages that are whole now, each as a line."""
        self._held += data
        if len(self._held) < self._needed or (
            self._searched and b"\n" not in data and b"\0" not in data and len(self._held) < LONGEST
        ):
            return b""
        data = bytes(self._held)
        self._needed, self._searched = 0, False
        position = 0
        lines = []
        while position < len(data):
            line, end = self._next(data, position)
            if end == position:
                break
            lines.append(line)
            position = end
        self._needed -= position
        del self._held[:position]
        return b"".join(lines)

    def rest(self) -> bytes:
        """Give what is held, as a message: the connection has ended, or there is no room for more of it."""
        counted = _COUNTED.match(self._held)
        begin = 0
        if counted and not self._owed:
            begin = counted.end()
            self._owed = int(counted[1])
        self._owed = max(0, self._owed - (len(self._held) - begin))
        rest = flat(bytes(self._held[begin:]))
        self._held.clear()
        self._needed, self._searched = 0, False
        return rest

    def _next(self, data: bytes, position: int) -> tuple[bytes, int]:
        """Give one counted message, or all those up to the next, and where that ends; the same position if none is."""
        if self._owed:
            return self._part(data, position)
        counted = _COUNTED.match(data, position)
        if counted:
            return self._counted(data, counted)
        if _BEGUN.match(data, position):
            return b"", position
        line, end = _ended(data, position)
        self._searched = end == position
        return line, end

    def _counted(self, data: bytes, counted: re.Match[bytes]) -> tuple[bytes, int]:
        begin, size = counted.end(), int(counted[1])
        if size > LONGEST:
            self._owed = size
            return b"", begin
        if len(data) - begin < size:
            self._needed = begin + size
            return b"", counted.start()
        return flat(data[begin : begin + size]), begin + size

    def _part(self, data: bytes, position: int) -> tuple[bytes, int]:
        size = min(self._owed, LONGEST)
        if len(data) - position < size:
            self._needed = position + size
            return b"", position
        self._owed -= size
        return flat(data[position : position + size]), position + size


def _ended(data: bytes, position: int) -> tuple[bytes, int]:
    """Give the messages that a newline or a NUL ends, up to the next counted one."""
    found = [match.end() for each in (_AFTER_NEWLINE, _AFTER_NUL) if (match := each.search(data, position))]
    if found:
        end = min(found)
    else:
        end = max(data.rfind(b"\n", position), data.rfind(b"\0", position)) + 1
        if end <= position and len(data) - position >= LONGEST:
            return flat(data[position : position + LONGEST]), position + LONGEST
        if end <= position:
            return b"", position
    block = data[position:end]
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    if b"\0" in block or _BLANK_LINE.search(block):
        block = _ENDS.sub(b"\n", block)
    return block.removeprefix(b"\n"), end
