"""Receivers of what log-adapter sends, on loopback: OTLP over HTTP, GELF over UDP and TCP. They can misbehave."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import ssl
import threading
import time
import zlib
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

PATIENCE = 20.0


@dataclass
class Reply:
    """How the OTLP receiver answers one request.

    taken  whether it keeps the records; what: "" to answer, "close" to close without one, "stall" to say nothing,
           "garbage" to answer what is not HTTP
    """

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    taken: bool = True
    what: str = ""


@dataclass
class Request:
    """One request as it came."""

    at: float
    path: str
    headers: dict[str, str]
    status: int


class OtlpReceiver:
    """An HTTP server that takes ExportLogsServiceRequests in JSON.

    `replies` are for the first requests, in their order; all others are taken. `lines` has the body of each record.
    """

    def __init__(self, *replies: Reply, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.lines: list[str] = []
        self.violations: list[str] = []
        self.released = threading.Event()
        self.connections = 0
        self._replies = list(replies)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one segment for an answer: two would wait for each other

            def setup(self) -> None:
                super().setup()
                receiver.connections += 1
                receiver._open.add(self.connection)

            def finish(self) -> None:
                receiver._open.discard(self.connection)
                with contextlib.suppress(OSError):
                    super().finish()

            def do_POST(self) -> None:
                receiver._serve(self)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    super().handle()

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        data = handler.rfile.read(int(handler.headers["Content-Length"]))
        with self._lock:
            reply = self._replies.pop(0) if self._replies else Reply()
            self.requests.append(Request(time.monotonic(), handler.path, dict(handler.headers), reply.status))
            try:
                lines = self._read(handler, data)
            except (ValueError, KeyError, TypeError, OSError) as error:
                self.violations.append(repr(error))
                reply = Reply(400)
            if reply.taken and reply.status == 200:
                self.lines += lines
        if reply.what == "stall":
            self.released.wait(PATIENCE)
        if reply.what == "garbage":
            handler.wfile.write(b"\0\1\2\r\n\r\n")
        if reply.what:
            handler.close_connection = True
            return
        handler.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(reply.body)))
        handler.end_headers()
        handler.wfile.write(reply.body)

    @staticmethod
    def _read(handler: BaseHTTPRequestHandler, data: bytes) -> list[str]:
        if handler.headers["Content-Type"] != "application/json":
            raise ValueError(handler.headers["Content-Type"])
        if handler.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        return [
            record["body"]["stringValue"]
            for resource in json.loads(data)["resourceLogs"]
            for scope in resource["scopeLogs"]
            for record in scope["logRecords"]
        ]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Die: no connection outlives it."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()


class GelfUdpReceiver:
    """Takes datagrams, joins chunks, and holds each to the rules of GELF."""

    def __init__(self, port: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._socket.bind(("127.0.0.1", port))
        self._socket.settimeout(0.05)
        self.port = self._socket.getsockname()[1]
        self.messages: list[dict[str, Any]] = []
        self.datagrams: list[int] = []
        self.violations: list[str] = []
        self._partial: dict[bytes, dict[int, bytes]] = {}
        self._ending = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._ending:
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                continue
            self.datagrams.append(len(data))
            try:
                self._take(data)
            except (ValueError, AssertionError, zlib.error, OSError) as error:
                self.violations.append(repr(error))

    def _take(self, data: bytes) -> None:
        if data[:2] == b"\x1e\x0f":
            name, number, count, part = data[2:10], data[10], data[11], data[12:]
            assert number < count <= 128 and part
            parts = self._partial.setdefault(name, {})
            assert number not in parts
            parts[number] = part
            if len(parts) < count:
                return
            data = b"".join(parts[each] for each in range(count))
            del self._partial[name]
        self.messages.append(read_gelf(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        self._thread.join()
        self._socket.close()


class GelfTcpReceiver:
    """Takes messages that end with a NUL, from one connection after another.

    break_after  how many bytes it reads from the first connections before it resets them, one number for each
    """

    def __init__(self, *break_after: int, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Small, so that what is sent and not read stays with the sender.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 10)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen()
        self._listener.settimeout(0.05)
        self.port = self._listener.getsockname()[1]
        self.messages: list[dict[str, Any]] = []
        self.violations: list[str] = []
        self.connections = 0
        self.reading = threading.Event()
        self.reading.set()
        self._break_after = list(break_after)
        self._tls = tls
        self._ending = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._ending:
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            with contextlib.suppress(ssl.SSLError), self._secured(connection) as connection:
                self._take(connection, self._break_after.pop(0) if self._break_after else None)

    def _secured(self, connection: socket.socket) -> socket.socket:
        connection.settimeout(PATIENCE)
        return self._tls.wrap_socket(connection, server_side=True) if self._tls else connection

    def _take(self, connection: socket.socket, most: int | None) -> None:
        connection.settimeout(0.05)
        rest, size = b"", 0
        while not self._ending:
            data = self._read(connection)
            if data == b"":
                return
            size += len(data or b"")
            *whole, rest = (rest + (data or b"")).split(b"\0")
            self._keep(whole)
            if most is not None and size >= most:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                return

    def _read(self, connection: socket.socket) -> bytes | None:
        if not self.reading.wait(0.05):
            return None
        try:
            return connection.recv(64 << 10)
        except TimeoutError:
            return None
        except ConnectionError:
            return b""

    def _keep(self, messages: list[bytes]) -> None:
        for each in messages:
            try:
                self.messages.append(read_gelf(each))
            except (ValueError, AssertionError) as error:
                self.violations.append(repr(error))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        self._thread.join()
        self._listener.close()


def read_gelf(data: bytes) -> dict[str, Any]:
    message = json.loads(data)
    assert (
        message["version"] == "1.1" and isinstance(message["host"], str) and isinstance(message["short_message"], str)
    )
    return dict(message)


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """Give a port where nobody listens."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
