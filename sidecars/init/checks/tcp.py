"""tcp:// and unix://: something takes a connection, and, where a banner is wanted, speaks first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sidecars.init.checks import Result, shown
from sidecars.init.connecting import Streams, connected, connected_unix

if TYPE_CHECKING:
    from sidecars.init.target import Target

_MOST = 4096  # bytes of what it says first


def validate(target: Target) -> None:
    """Read the options once; WrongSettings."""
    target.pattern("banner")


async def check(target: Target, patience: float) -> Result:
    """Connect to a port; `banner=REGEX` wants to be found in what the other end says first."""
    async with connected(target, patience) as streams:
        return await _listen(target, streams)


async def check_unix(target: Target, patience: float) -> Result:
    """Connect to a socket in the filesystem, likewise."""
    async with connected_unix(target.path, patience) as streams:
        return await _listen(target, streams)


async def _listen(target: Target, streams: Streams) -> Result:
    pattern = target.pattern("banner")
    if pattern is None:
        return Result("ok", "takes connections")
    said = b""
    while len(said) < _MOST:
        try:
            part = await streams.reader.read(_MOST - len(said))
        except ConnectionError:
            part = b""
        said += part
        if pattern.search(said.decode(errors="replace")):
            return Result("ok", f"says {shown(said)}")
        if not part:
            break
        await asyncio.sleep(0)
    what = f"says {shown(said)}, which does not match" if said else "takes a connection and ends it without a word"
    return Result("not-ready", what)
