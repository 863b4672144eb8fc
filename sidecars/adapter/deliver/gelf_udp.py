"""GELF over UDP: nobody confirms a datagram, so what has left this machine counts as delivered."""

from __future__ import annotations

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from sidecars.adapter.deliver.datagrams import datagrams
from sidecars.adapter.deliver.metrics import TRUNCATED_RECORDS, Delivered
from sidecars.adapter.deliver.pipeline import Pipeline
from sidecars.adapter.deliver.push import Push
from sidecars.adapter.deliver.specs import GelfUdp
from sidecars.adapter.portion import Portion
from sidecars.core.errors import DeliveryFailed
from sidecars.core.health import Health
from sidecars.core.log import log

# A name may lead elsewhere by now, and no error says so.
_RESOLVE_AGAIN_SECONDS = 30.0


def push(name: str, to: GelfUdp, pipeline: Pipeline, delivered: Delivered, health: Health) -> Push[list[bytes]]:
    """Make the output."""
    truncated = TRUNCATED_RECORDS.labels(name)
    said = False

    def encode(portion: Portion) -> list[list[bytes]]:
        nonlocal said
        unit = []
        for message in pipeline.encode(portion):
            made, cut = datagrams(message, to.datagram, to.compress)
            unit += made
            if cut:
                truncated.inc()
            if cut and not said:
                said = True
                log.warning("record truncated", output=name, size=len(message), reason="128 chunks do not hold it")
        delivered.made(portion)
        return [unit]

    return Push(name, encode, UdpSender(name, to), delivered, health)


class UdpSender:
    """A connected socket, so that a machine where nobody listens can say so.

    There is no confirmation in UDP. Datagrams are lost unseen when the receiver is down on a machine that does not say
    so, when it is slower than they come, and on the way. What the kernel does report, a closed port above all, fails
    the batch, which is sent again.
    """

    def __init__(self, name: str, to: GelfUdp) -> None:
        self._to = to
        self._socket: socket.socket | None = None
        self._connected_at = 0.0
        self._thread = ThreadPoolExecutor(1, name)

    async def send(self, unit: list[bytes]) -> None:
        """Send datagrams; DeliveryFailed when the kernel reports an error for one of them."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._send, unit)

    async def close(self) -> None:
        """Close the socket once the thread has done what it is at."""
        self._thread.submit(self._close)
        self._thread.shutdown(wait=False)

    def _send(self, unit: list[bytes]) -> None:
        try:
            connected = self._connection()
            for datagram in unit:
                connected.send(datagram)
            reported = connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if reported:
                raise OSError(reported, "an earlier datagram was refused")
        except OSError as error:
            self._close()
            raise self._failure(error) from error

    def _connection(self) -> socket.socket:
        now = time.monotonic()
        if self._socket is not None and now - self._connected_at < _RESOLVE_AGAIN_SECONDS:
            return self._socket
        self._close()
        [(family, _, _, _, address), *_] = socket.getaddrinfo(self._to.host, self._to.port, type=socket.SOCK_DGRAM)
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.settimeout(self._to.ack_timeout)
        self._socket.connect(address)
        self._connected_at = now
        return self._socket

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _failure(self, error: OSError) -> DeliveryFailed:
        match error:
            case socket.gaierror():
                code, hint = "dns", "is the name right, and the cluster's DNS reachable?"
            case ConnectionRefusedError():
                code, hint = "refused", "is the receiver running, and the port right?"
            case TimeoutError():
                code, hint = "timeout", "is the network up?"
            case _:
                code, hint = "send", "is it reachable, and `datagram` small enough?"
        return DeliveryFailed(code, f"cannot send to {self._to}: {error.strerror or error}; {hint}")
