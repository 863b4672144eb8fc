"""The web server on --listen: what is answered on each path."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from sidecars.adapter.web.catalogue import Catalogue
from sidecars.adapter.web.connections import Connections
from sidecars.adapter.web.guard import Guard
from sidecars.adapter.web.live import Watcher
from sidecars.adapter.web.pages import Pages
from sidecars.adapter.web.sources import Origins, Queue
from sidecars.adapter.web.threads import Threads
from sidecars.core import door
from sidecars.core.errors import WrongSettings

if TYPE_CHECKING:
    from sidecars.adapter.settings import Settings
    from sidecars.adapter.table import Format
    from sidecars.adapter.web.sieve import Shaped


class Web:
    """Serves the log.

    files        the paths followed now, also those that are not there yet
    formats_for  the format of a path, by the first bytes of its file
    shaping      what becomes of fields; what was blacked out is found by no filter
    recent       the queue of what has no file behind it, None without
    post         takes what is posted; False: full. None: POST is off
    health       whether all is well, and if not why; None: nothing is asked

    `formats_for` and `shaping` are called in threads.
    """

    def __init__(
        self,
        settings: Settings,
        formats_for: Callable[[str, bytes], Format],
        shaping: Shaped,
        files: Callable[[], list[str]],
        recent: Queue | None = None,
        post: Callable[[bytes], bool] | None = None,
        health: Callable[[], tuple[bool, list[str]]] | None = None,
    ) -> None:
        from sidecars.adapter.web.routes import Routes  # aiohttp, 15 MiB: only where there is a server

        if settings.listen is None:
            raise WrongSettings("--listen is off: there is nothing to serve")
        self._address = settings.listen
        self.threads = Threads()
        redacts = bool(settings.redact or settings.redact_pattern)
        self.catalogue = Catalogue(files, formats_for, shaping, Origins(recent, settings.keep))
        self.pages = Pages(self.catalogue, shaping, redacts=redacts)
        self.watcher = Watcher(self.catalogue, self.threads.work)
        self.guard = Guard(settings)
        self.settings = settings
        self.shaping = shaping
        self.post = post
        self.health = health
        self.ending = asyncio.Event()
        self._routes = Routes(self)
        self._connections: Connections | None = None
        self._server: asyncio.Server | None = None
        self._beside: list[asyncio.Task[None]] = []

    async def open(self) -> list[str]:
        """Listen, and give the addresses. Raises WrongSettings when the port is taken."""
        # What a broken or hostile client sends is no failure of ours; what is one, routes.py logs.
        logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
        self._connections = Connections(self._routes.speaker())
        self._routes.answering = self._connections.answering
        loop = asyncio.get_running_loop()
        host, port = self._address.host, self._address.port
        try:
            if host in ("", "*"):
                self._server = await loop.create_server(self._connections, sock=door.everywhere(port))
            else:
                self._server = await loop.create_server(self._connections, host, port)
        except OSError as error:
            raise WrongSettings(_cannot_listen(self._address, error)) from error
        self._beside = [asyncio.create_task(each) for each in (self.watcher.run(), self._connections.sweep())]
        return [door.shown(*each.getsockname()[:2]) for each in self._server.sockets]

    async def close(self, grace: float = 1.0) -> None:
        """Listen no more, end what is followed, and let begun answers finish within the grace, in seconds."""
        if self._server is not None:
            self._server.close()
        self.ending.set()
        self.watcher.wake()
        await self._routes.shut(grace)
        for task in self._beside:
            task.cancel()
        await _ended(self._beside)
        self.threads.close()


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks)


def _cannot_listen(address: object, error: OSError) -> str:
    advice = "choose a port above 1023" if isinstance(error, PermissionError) else "give a free one, or off"
    return f"cannot listen on --listen {address}: {os.strerror(error.errno or 0)}; {advice}"
