"""TLS where a check's scheme or options ask for it, also on a connection that began without."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sidecars.core.errors import WrongSettings
from sidecars.init.checks import TLS, Unmet

if TYPE_CHECKING:
    import ssl

    from sidecars.init.connecting import Streams
    from sidecars.init.target import Target

REQUIRE = ("off", "require")


def validate(target: Target, secure: bool, how: str) -> None:
    """Read the options for TLS once; without TLS there are to be none, and `how` tells to ask for it. WrongSettings."""
    if secure:
        from sidecars.init.tls import validate as validate_tls

        validate_tls(target)
    elif target.options.keys() & set(TLS.split()):
        raise WrongSettings(f"{target.text} has options for TLS; {how}")


def context_of(target: Target, secure: bool) -> ssl.SSLContext | None:
    """Make the context, or none without TLS. Raises Unmet."""
    if not secure:
        return None
    from sidecars.init.tls import context_of as made

    return made(target)


async def upgrade(target: Target, streams: Streams) -> None:
    """Speak TLS from here on. Raises Unmet, and OSError of TLS.

    What has come in clear and was not read yet may be from anyone on the way, and would be taken for an answer.
    """
    from sidecars.init.tls import context_of as made

    context = made(target)
    if await _waits(streams.reader):
        raise Unmet("tls", "says more in clear than its protocol lets it before TLS; is somebody in between?")
    name = (target.options.get("server_name") or target.host).rstrip(".")
    await streams.writer.start_tls(context, server_hostname=name)


async def _waits(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(0):
            return bool(await reader.read(1))
    except TimeoutError:
        return False
