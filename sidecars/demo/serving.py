"""How the demo's servers are met: a door at --listen, for as long as it is wanted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sidecars.core.door import Door
from sidecars.core.errors import SidecarError
from sidecars.core.log import log
from sidecars.core.service import Lifecycle
from sidecars.core.units import Address


@asynccontextmanager
async def serving(door: Door, listen: Address, life: Lifecycle, **said: object) -> AsyncIterator[None]:
    """Open a door, say so with these fields, and close it in the end. Raises SidecarError."""
    try:
        addresses = await door.open(listen.host, listen.port)
    except OSError as error:
        raise SidecarError(f"cannot listen on --listen {listen}: {error.strerror}; choose another") from None
    log.info("serving", addresses=addresses, **said)
    life.health.started()
    try:
        yield
    finally:
        door.close()
