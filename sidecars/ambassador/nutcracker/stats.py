"""twemproxy's counters: one JSON object to whoever connects, as twemproxy's monitoring expects it."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable, Mapping

from sidecars.ambassador.plan import Counted
from sidecars.ambassador.redis.ring import node_name
from sidecars.ambassador.settings import Listener, Settings
from sidecars.core.errors import WrongSettings
from sidecars.core.log import log

# The version whose behaviour this is.
VERSION = "0.5.0"

_PATIENCE = 10.0  # seconds that a reader may take
_LOOK = 1.0  # seconds between two looks for ejections

_OF_SERVER = {
    "requests": "redis_upstream_requests_total",
    "request_bytes": "redis_upstream_request_bytes_total",
    "responses": "redis_upstream_responses_total",
    "response_bytes": "redis_upstream_response_bytes_total",
}
_LEFT_WELL = ("client", "upstream", "idle", "max_age", "drained", "removed")


class Stats:
    """The port where the counters are told.

    `settings` gives those in force, with twemproxy's pools; `counted` all that was counted, once `refresh` has made it
    fresh.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        counted: Callable[[], Counted],
        refresh: Callable[[], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._counted = counted
        self._refresh = refresh
        self._began = time.time()
        self._ejected: dict[tuple[str, ...], tuple[float, int]] = {}
        self._server: asyncio.Server | None = None
        self._looking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Listen, where the settings say so. A taken port is an error only where somebody has asked for it."""
        settings = self._settings()
        address = settings.stats_address
        if address is None:
            return
        try:
            # asyncio takes the empty host for every address there is.
            self._server = await asyncio.start_server(self._tell, address.host or None, address.port, limit=1)
        except OSError as error:
            text = f"cannot listen on {address}: {error.strerror}; choose another --stats, or off"
            if settings.stats is not None:
                raise WrongSettings(text) from error
            log.warning("no stats of twemproxy's", reason=text)
            return
        self._looking = asyncio.create_task(self._look())
        for sock in self._server.sockets:
            log.info("listening for stats", address="{}:{}".format(*sock.getsockname()[:2]))

    def close(self) -> None:
        """Listen no more."""
        if self._server:
            self._server.close()
        if self._looking:
            self._looking.cancel()

    async def _look(self) -> None:
        """Note when servers are ejected: what is counted does not say it."""
        while True:
            self._note_ejections(self._counted())
            await asyncio.sleep(_LOOK)

    async def _tell(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._refresh()
            writer.write(self.report())
            async with asyncio.timeout(_PATIENCE):
                await writer.drain()
        except (TimeoutError, OSError):
            writer.transport.abort()
        finally:
            writer.close()

    def report(self) -> bytes:
        """Make the object. Times are seconds, but for server_ejected_at, which is in microseconds."""
        settings, counted = self._settings(), self._counted()
        self._note_ejections(counted)
        ejected_at = {labels: when for labels, (_, when) in self._ejected.items()}
        made = summary(settings.every_listener(), settings.pools, counted, ejected_at)
        now = time.time()
        head = {
            "service": "nutcracker",
            "source": socket.gethostname(),
            "version": VERSION,
            "uptime": int(now - self._began),
            "timestamp": int(now),
        }
        return json.dumps({**head, **made}).encode() + b"\n"

    def _note_ejections(self, counted: Counted) -> None:
        for labels, value in _numbers(counted, "ejections_total").items():
            if value > self._ejected.get(labels, (0, 0))[0]:
                self._ejected[labels] = value, int(time.time() * 1e6)


def summary(
    listeners: tuple[Listener, ...],
    pools: Mapping[str, str],
    counted: Counted,
    ejected_at: Mapping[tuple[str, ...], int],
) -> dict[str, object]:
    """Give what twemproxy tells of all connections, and of each pool and its servers, by their names."""
    told: dict[str, object] = {
        "total_connections": _sum(counted, "connections_total") + _sum(counted, "upstream_connections_total"),
        "curr_connections": _sum(counted, "connections") + _sum(counted, "upstream_connections"),
    }
    for listener in listeners:
        if name := pools.get(listener.id):
            told[name] = _pool(listener, counted, ejected_at)
    return told


def _pool(listener: Listener, counted: Counted, ejected_at: Mapping[tuple[str, ...], int]) -> dict[str, object]:
    route = listener.id
    ended = {labels[1]: value for labels, value in _numbers(counted, "ended_total", route).items()}
    pool: dict[str, object] = {
        "client_eof": int(ended.get("client", 0)),
        "client_err": int(sum(value for reason, value in ended.items() if reason not in _LEFT_WELL)),
        "client_connections": _sum(counted, "connections", route),
        "server_ejects": _sum(counted, "ejections_total", route),
        "forward_error": _sum(counted, "redis_errors_total", route),
        "fragments": _sum(counted, "redis_fragments_total", route),
    }
    for upstream in listener.upstreams:
        label = upstream.name or upstream.address
        pool[node_name(upstream).decode()] = _server(counted, (route, label), ejected_at)
    return pool


def _server(counted: Counted, labels: tuple[str, str], ejected_at: Mapping[tuple[str, ...], int]) -> dict[str, int]:
    failed = {each[2]: value for each, value in _numbers(counted, "upstream_failures_total", *labels).items()}
    return {
        "server_eof": int(failed.pop("eof", 0)),
        "server_timedout": int(failed.pop("timeout", 0)),
        "server_err": int(sum(failed.values())),
        "server_connections": _sum(counted, "upstream_connections", *labels),
        "server_ejected_at": ejected_at.get(labels, 0),
        **{key: _sum(counted, name, *labels) for key, name in _OF_SERVER.items()},
        "in_queue": 0,
        "in_queue_bytes": 0,
        "out_queue": _sum(counted, "redis_upstream_queue", *labels),
        "out_queue_bytes": 0,
    }


def _numbers(counted: Counted, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """Give the values of a metric that is no histogram, whose first labels are these."""
    found = counted.get(name, {})
    return {
        each: value for each, value in found.items() if each[: len(labels)] == labels and not isinstance(value, list)
    }


def _sum(counted: Counted, name: str, *labels: str) -> int:
    return int(sum(_numbers(counted, name, *labels).values()))
