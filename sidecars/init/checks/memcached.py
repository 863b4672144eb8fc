"""memcached://: the server says its version.

A server that wants a login is there: without credentials that is ready. With some, one that asks for them by its text
protocol (memcached -Y) is told them. Source: memcached's doc/protocol.txt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecars.init.checks import Result, shown
from sidecars.init.connecting import Streams, connected

if TYPE_CHECKING:
    from sidecars.init.target import Target

_WANTS = b"CLIENT_ERROR unauthenticated"


async def check(target: Target, patience: float) -> Result:
    """Ask for the version, and log in if that is wanted and there is a password."""
    async with connected(target, patience) as streams:
        line = await _ask(streams, b"version\r\n")
        if line.startswith(_WANTS):
            if target.password is None:
                return Result("ok", "answers, and wants a login")
            # Only now: where no login is wanted this would store the password.
            line = await _ask(streams, _login(target))
            if line != b"STORED\r\n":
                return Result("auth", f"does not accept the user or the password: {shown(line)}")
            line = await _ask(streams, b"version\r\n")
        return _judged(line)


async def _ask(streams: Streams, command: bytes) -> bytes:
    streams.writer.write(command)
    return await streams.reader.readuntil(b"\n")


def _login(target: Target) -> bytes:
    login = f"{target.user} {target.password.reveal() if target.password else ''}".encode()
    return b"set login 0 0 %d\r\n%s\r\n" % (len(login), login)


def _judged(line: bytes) -> Result:
    if line.startswith(b"VERSION "):
        return Result("ok", f"is memcached {shown(line[8:], 40)[1:-1]}")
    if line.startswith(b"SERVER_ERROR"):
        return Result("not-ready", f"answers {shown(line)}")
    return Result("not-ready", f"answers {shown(line)}; is it memcached, and without SASL?")
