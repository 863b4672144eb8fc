"""redis://: the server answers PING."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecars.init.checks import Result, shown
from sidecars.init.connecting import connected

if TYPE_CHECKING:
    from sidecars.init.target import Target


async def check(target: Target, patience: float) -> Result:
    """Send PING; an error such as LOADING or NOAUTH is an answer of a server that is there."""
    async with connected(target, patience) as streams:
        streams.writer.write(b"PING\r\n")
        line = await streams.reader.readline()
    if line.startswith(b"+PONG"):
        return Result("ok", "answers PONG")
    if line.startswith((b"-NOAUTH", b"-WRONGPASS")):
        return Result("auth", f"answers {shown(line)}")
    return Result("not-ready", f"answers {shown(line)}" if line else "ends the connection without an answer")
