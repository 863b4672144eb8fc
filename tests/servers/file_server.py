"""A web server for files: ranges, validators, TLS, passwords; and every way in which one can do badly.

with FileServer() as server:
    server.files["/a.bin"] = b"..."
    server.answer = lambda request: Cut(1000) if len(server.requests) < 2 else None
"""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit


class Asked(NamedTuple):
    """A request as it came; headers by names in lower case."""

    path: str
    query: str
    headers: Mapping[str, str]
    peer: tuple[str, int]

    @property
    def range(self) -> str:
        return self.headers.get("range", "")


class Reply(NamedTuple):
    """What is answered instead of a file; `raw` is all of it, in the place of status and headers."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}
    raw: bytes = b""


class Cut(NamedTuple):
    """Let so many bytes of the body through, then close the connection, or, with `reset`, break it."""

    after: int
    reset: bool = False


class Stall(NamedTuple):
    """Let so many bytes of the body through, then none until the server ends."""

    after: int


class Plain(NamedTuple):
    """Answer with the whole file, as a server without ranges does: with its length, in chunks, or neither."""

    how: str = "length"
    headers: Mapping[str, str] = {}


Answer = Reply | Cut | Stall | Plain | None


class FileServer:
    """Serve files on a free port of loopback.

    files       content by path
    validators  whether ETag and Last-Modified are sent: "both", "modified", "weak" or ""
    answer      called before each request is served
    requests    all that came
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.validators = "both"
        self.modified = "Tue, 01 Sep 2026 10:00:00 GMT"
        self.answer: Callable[[Asked], Answer] = lambda _: None
        self.login = ""
        self.requests: list[Asked] = []
        self.sent = 0
        self.ending = threading.Event()
        self._server = _Server(self, tls)
        self.port = int(self._server.server_address[1])
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self._server.shutdown()
        self._thread.join()
        for connection in list(self._server.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()

    def asked(self, path: str) -> list[Asked]:
        return [each for each in self.requests if each.path == path]


def etag(data: bytes) -> str:
    return f'"{sha256(data).hexdigest()[:16]}"'


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 64

    def __init__(self, owner: FileServer, tls: ssl.SSLContext | None) -> None:
        self.owner, self.tls = owner, tls
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.tls:
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self.connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no fault."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        owner, url = self.server.owner, urlsplit(self.path)
        headers = {name.lower(): text for name, text in self.headers.items()}
        asked = Asked(url.path, url.query, headers, self.client_address)
        owner.requests.append(asked)
        if owner.login and headers.get("authorization", "") != f"Basic {_encoded(owner.login)}":
            self._reply(Reply(401, b"who are you?\n"))
            return
        answer = owner.answer(asked)
        data = owner.files.get(url.path)
        if isinstance(answer, Reply):
            self._reply(answer)
        elif data is None:
            self._reply(Reply(404, b"no such file\n"))
        elif isinstance(answer, Plain):
            self._plain(data, answer)
        else:
            self._file(asked, data, answer)

    def _reply(self, reply: Reply) -> None:
        if reply.raw:
            self.wfile.write(reply.raw)
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, text in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(reply.body)

    def _plain(self, data: bytes, answer: Plain) -> None:
        self.send_response(200)
        for name, text in answer.headers.items():
            self.send_header(name, text)
        if answer.how == "chunks":
            self.send_header("Transfer-Encoding", "chunked")
        elif answer.how == "length":
            self.send_header("Content-Length", str(len(data)))
        else:
            self.close_connection = True
        self.end_headers()
        if answer.how == "chunks":
            for at in range(0, len(data), 50_000):
                piece = data[at : at + 50_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(data)

    def _validators(self, data: bytes) -> dict[str, str]:
        kind, owner = self.server.owner.validators, self.server.owner
        return {
            "both": {"ETag": etag(data), "Last-Modified": owner.modified},
            "modified": {"Last-Modified": owner.modified},
            "weak": {"ETag": f"W/{etag(data)}"},
            "": {},
        }[kind]

    def _file(self, asked: Asked, data: bytes, answer: Cut | Stall | None) -> None:
        validators = self._validators(data)
        known = (asked.headers.get("if-none-match"), asked.headers.get("if-modified-since"))
        if any(known) and known in ((validators.get("ETag"), None), (None, validators.get("Last-Modified"))):
            self._reply(Reply(304, b"", {**validators, "Content-Length": "0"}))
            return
        headers, status, body = {**validators, "Accept-Ranges": "bytes"}, 200, data
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.range)
        condition = asked.headers.get("if-range")
        if match and (condition is None or condition in validators.values()):
            first = int(match[1])
            last = min(int(match[2] or len(data)), len(data) - 1)
            if first >= len(data):
                self._reply(Reply(416, b"", {"Content-Range": f"bytes */{len(data)}"}))
                return
            status, body = 206, data[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        self.send_response(status)
        for name, text in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, text)
        self.end_headers()
        self._send(body if answer is None else body[: answer.after])
        if isinstance(answer, Stall):
            self.server.owner.ending.wait(60)
        if answer is not None:
            self.close_connection = True
            if isinstance(answer, Cut) and answer.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def _send(self, body: bytes) -> None:
        view = memoryview(body)
        while view:
            self.wfile.write(view[:65536])
            self.server.owner.sent += len(view[:65536])
            view = view[65536:]


def _encoded(login: str) -> str:
    return base64.b64encode(login.encode()).decode()
