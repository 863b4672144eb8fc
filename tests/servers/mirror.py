"""An HTTP server that answers with the request it was sent, by TCP, TLS or a unix socket; one that fails at first."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class _Handler(BaseHTTPRequestHandler):
    """GET /v1/items, then the headers; and after an empty line the body."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "mirror", ""
    server: Mirror
    # Its head and its body would be two segments, and the second would wait for the first one's acknowledgement.
    wbufsize = -1

    def mirror(self) -> None:
        """Answer as the path says."""
        body = self._body()
        known = self.server.pages.get(self.path)
        if self.server.fails(self.headers.get("X-Request-ID", "")):
            self._answer(503, b"come back later\n")
        elif known is not None:
            self._answer(200, known)
        elif self.path.endswith("/events"):
            self._events()
        elif "upgrade" in self.headers.get("Connection", "").lower():
            self._upgrade()
        else:
            lines = [f"{self.command} {self.path}", *(f"{name}: {value}" for name, value in self.headers.items())]
            self._answer(200, "\n".join([*lines, ""]).encode() + (b"\n" + body if body else b""))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = mirror  # noqa: N815  (its names)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size + 2)[:-2]
        while self.rfile.readline().strip():
            pass
        return body

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Internal", "rack 7")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for text in (b"data: one\n\n", b"data: two\n\n"):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(text), text))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _upgrade(self) -> None:
        self.send_response_only(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", self.headers["Upgrade"])
        self.end_headers()
        self.wfile.write(b"hello\n")
        self.wfile.flush()
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Mirror(ThreadingHTTPServer):
    """Serves at `address`, HOST:PORT or a path, until the end of its block.

    pages  what is answered to some paths
    flaky  the first try of each request, by its X-Request-ID, is answered 503
    """

    daemon_threads = True

    def __init__(
        self,
        path: str | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        pages: dict[str, bytes] | None = None,
        flaky: bool = False,
    ) -> None:
        self.address_family = socket.AF_UNIX if path else socket.AF_INET
        super().__init__(path or ("127.0.0.1", 0), _Handler)  # type: ignore[arg-type]
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.address = path or f"127.0.0.1:{self.server_address[1]}"
        self.pages = pages or {}
        self._flaky = flaky
        self._seen: set[str] = set()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def server_bind(self) -> None:
        """Bind, and ask no name server for our name."""
        socketserver.TCPServer.server_bind(self)

    def fails(self, id: str) -> bool:
        """Whether this try is to fail."""
        first = id not in self._seen
        self._seen.add(id)
        return self._flaky and first

    def handle_error(self, *_: Any) -> None:
        """A client that goes away is no error of ours."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
