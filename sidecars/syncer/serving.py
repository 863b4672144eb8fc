"""git-sync's HTTP endpoint, --http-bind: whether the repository is there, the metrics, what the process is doing."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Sequence

from sidecars.core.door import Door, Limits, Request, Response, text
from sidecars.core.errors import SidecarError
from sidecars.core.units import Address
from sidecars.syncer.metrics import CONTENT_TYPE, Metrics
from sidecars.syncer.settings import PROG, Settings

_EVERYWHERE = ("", "*", "0.0.0.0", "::")  # noqa: S104  (Go listens by IPv4 and IPv6 on each of them)
_PROFILES = "/debug/pprof"


class CannotListen(SidecarError):  # noqa: N818
    """An address that was asked for cannot be listened on."""


class Serving:
    """The endpoint: /metrics and /debug/pprof/ if they are asked for; any other path tells whether we are ready.

    words  the command line as it may be shown, without secrets
    """

    def __init__(self, settings: Settings, metrics: Metrics, words: Sequence[str] = ()) -> None:
        self.is_ready = False
        self._settings = settings
        self._metrics = metrics
        self._words = (PROG, *words)
        self._door = Door(self.answer, Limits())

    async def open(self) -> list[str]:
        """Listen, and give the addresses; nothing where --http-bind is not given. Raises CannotListen."""
        if not self._settings.http_bind:
            return []
        return await listen(self._door, self._settings.http_bind, "--http-bind")

    def ready(self) -> None:
        """The first good pass is done: from now on the answer is 200, for ever."""
        self.is_ready = True

    def close(self) -> None:
        """Listen no more."""
        self._door.close()

    def answer(self, request: Request) -> Response | Awaitable[Response]:
        """Answer a request, by whatever method."""
        if self._settings.http_metrics and request.path == "/metrics":
            return Response(200, self._metrics.text(), CONTENT_TYPE)
        if self._settings.http_pprof and f"{request.path}/".startswith(f"{_PROFILES}/"):
            from sidecars.syncer import profiles  # only who asks pays for it

            return profiles.answer(request.path.removeprefix(_PROFILES).strip("/"), request.query, self._words)
        return Response(200, b"") if self.is_ready else text(503, "repo is not ready")


async def listen(door: Door, bind: str, flag: str) -> list[str]:
    """Open a door on an address as Go reads it. Raises CannotListen."""
    try:
        address = Address(bind)
    except ValueError:
        raise CannotListen(f"{flag} is {bind!r}, expected {Address.expected}") from None
    host = "" if address.host in _EVERYWHERE else address.host
    try:
        try:
            return await door.open(host, address.port)
        except OSError as error:
            if host != "localhost" or error.errno != errno.EADDRNOTAVAIL:
                raise
            return await door.open("127.0.0.1", address.port)  # /etc/hosts has ::1, the kernel has no IPv6
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
        advice = "choose a port above 1023" if isinstance(error, PermissionError) else "give a free address"
        raise CannotListen(f"cannot listen on {flag} {bind}: {reason}; {advice}") from error
