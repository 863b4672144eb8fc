"""A proxy before an S3 server: it refuses, cuts, loses, corrupts and stalls what it is told to, and passes on the rest.

In a test:          with S3Proxy(server.endpoint) as proxy: proxy.fault("refuse", code="SlowDown", times=3)
As its own process: python tests/servers/s3_proxy.py --upstream http://127.0.0.1:5000 --seed 7 --every 5

It also serves as an HTTP proxy, for requests that name a whole URL: they too go to its upstream.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import http.client
import json
import random
import signal
import socket
import ssl
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from xml.sax.saxutils import escape

FAULTS = {
    "refuse": "answer with --code and --status as S3 does, or with a body of one's own; pass nothing on",
    "cut": "close the connection in the middle of the request's body; pass nothing on",
    "lose": "pass it on, and close the connection without an answer",
    "corrupt": "change a byte of the body; what has a Content-MD5 is then refused as S3 does, unless --unnoticed",
    "pause": "wait for --delay seconds in the middle of the body",
    "stall": "wait for --delay seconds before it is passed on",
    "slow": "read the body at --rate bytes a second",
    "unconditional": "pass it on without If-None-Match, as an endpoint that ignores conditional writes",
}
# These go together with others; of the rest the first one that matches is committed alone.
ADDED = ("pause", "slow", "unconditional")
# S3's errors, in its words.
ANSWERS = {
    "AccessDenied": (403, "Access Denied"),
    "BadDigest": (400, "The Content-MD5 you specified did not match what we received."),
    "ConditionalRequestConflict": (409, "The conditional request cannot succeed due to a conflicting operation."),
    "ExpiredToken": (400, "The provided token has expired."),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "InvalidAccessKeyId": (403, "The AWS Access Key Id you provided does not exist in our records."),
    "NoSuchBucket": (404, "The specified bucket does not exist"),
    "NotImplemented": (501, "A header you provided implies functionality that is not implemented"),
    "RequestTimeTooSkewed": (403, "The difference between the request time and the current time is too large."),
    "ServiceUnavailable": (503, "Service is unable to handle request."),
    "SlowDown": (503, "Please reduce your request rate."),
}
# What an S3 in bad weather does; each is followed by success if it is tried again.
RANDOM: tuple[tuple[str, dict[str, Any]], ...] = (
    *(("refuse", {"code": code}) for code in ANSWERS if code not in ("NoSuchBucket", "NotImplemented")),
    ("cut", {}), ("cut", {}), ("cut", {}), ("corrupt", {}), ("pause", {"delay": 0.2}), ("stall", {"delay": 0.2}),
    *[("lose", {})] * 6,
)  # fmt: skip
NOT_PASSED_ON = ("connection", "keep-alive", "proxy-connection", "expect", "transfer-encoding", "te", "upgrade")
KEPT_BODY = 4 << 10
PIECE = 16 << 10
PATIENCE = 60.0


@dataclass
class Fault:
    """What is done to requests of this method (any if empty) whose path has this text in it.

    `times` and `seconds` say for how many requests and for how long. `committed` counts.
    """

    kind: str
    times: float = float("inf")
    seconds: float = float("inf")
    method: str = ""
    path: str = ""
    code: str = "SlowDown"
    status: int = 0
    message: str = ""
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    rate: float = 1e6
    unnoticed: bool = False
    committed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise ValueError(f"no fault is called {self.kind!r}; there are {', '.join(FAULTS)}")
        status, message = ANSWERS.get(self.code, (500, self.code))
        self.status, self.message = self.status or status, self.message or message
        self._ends = time.monotonic() + self.seconds

    def fits(self, request: Request) -> bool:
        """Whether it is to be committed with this request."""
        if self.committed >= self.times or time.monotonic() > self._ends:
            return False
        if self.kind in ("corrupt", "pause", "slow") and not request.length:
            return False
        if self.kind == "unconditional" and "if-none-match" not in request.headers:
            return False
        return self.method in ("", request.method) and self.path in request.path

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of a refusal."""
        if self.body is not None:
            return self.status, self.headers, self.body
        text = f"<Error><Code>{escape(self.code)}</Code><Message>{escape(self.message)}</Message></Error>"
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
        return self.status, {"Content-Type": "application/xml", **self.headers}, body


@dataclass
class Request:
    """One request as it came. `status` is that of the answer: None before there is one, and 0 if there was none.

    `headers` have small letters; `body` is its beginning, 4 KiB at most; `faults` were committed with it.
    """

    method: str
    path: str
    headers: dict[str, str]
    length: int
    body: bytes = field(default=b"", repr=False)
    status: int | None = None
    faults: tuple[str, ...] = ()


class Closed(Exception):  # noqa: N818
    """The connection is to be closed at once."""


class S3Proxy:
    """Listens from the moment it is made; each connection has its thread."""

    def __init__(
        self, upstream: str, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self.upstream = urllib.parse.urlsplit(upstream)
        self.tls = tls
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.committed = self.connections = 0
        self.ending = threading.Event()
        self._dice: tuple[random.Random, int] | None = None
        self._changed = threading.Condition()
        self._server = Server((host, port), self)
        scheme = "https" if tls else "http"
        self.endpoint = f"{scheme}://{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def fault(self, kind: str, **options: Any) -> Fault:
        """Commit this fault from now on; see Fault for what it takes. Earlier ones go first."""
        fault = Fault(kind, **options)
        with self._changed:
            self.faults.append(fault)
        return fault

    def random_faults(self, *, seed: int, every: int) -> None:
        """Commit faults of all kinds, with one in so many requests on average."""
        with self._changed:
            self._dice = random.Random(seed), every

    def recover(self) -> None:
        """Commit no faults any more."""
        with self._changed:
            self.faults, self._dice = [], None

    def wait_for(self, happened: Callable[[], bool], timeout: float = 20) -> None:
        """Wait until something is so, which a request that came or an answer that went has changed."""
        with self._changed:
            assert self._changed.wait_for(happened, timeout), f"did not happen; requests: {self.requests[-20:]}"

    def close(self) -> None:
        """Close every connection and stop."""
        self.ending.set()
        self._server.shutdown()
        self._thread.join()
        self._server.disconnect()
        self._server.server_close()

    # For the threads of the connections

    def take(self, request: Request) -> list[Fault]:
        """Record a request that came, and choose its faults."""
        with self._changed:
            faults = list(self._chosen(request))
            for fault in faults:
                fault.committed += 1
            self.committed += len(faults)
            request.faults = tuple(fault.kind for fault in faults)
            self.requests.append(request)
            self._changed.notify_all()
            return faults

    def _chosen(self, request: Request) -> Iterator[Fault]:
        alone = False
        for fault in self.faults:
            if fault.fits(request) and (fault.kind in ADDED or not alone):
                alone |= fault.kind not in ADDED
                yield fault
        if self._dice and not alone and self._dice[0].random() < 1 / self._dice[1]:
            kind, options = self._dice[0].choice(RANDOM)
            yield Fault(kind, **options)

    def answered(self, request: Request, status: int) -> None:
        """Record how a request was answered."""
        with self._changed:
            request.status = status
            self._changed.notify_all()


class Server(ThreadingHTTPServer):
    """The listener; it knows its connections, to end them."""

    request_queue_size = 128
    daemon_threads = False  # they are joined when it closes

    def __init__(self, address: tuple[str, int], proxy: S3Proxy) -> None:
        self.proxy = proxy
        self._open: set[socket.socket] = set()
        super().__init__(address, Connection)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.proxy.tls:
            connection = self.proxy.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self._open.add(connection)
        self.proxy.connections += 1
        return connection, address

    def close_request(self, request: Any) -> None:
        self._open.discard(request)
        super().close_request(request)

    def disconnect(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client went away, as it may
            super().handle_error(request, client_address)


class Connection(BaseHTTPRequestHandler):
    """One connection: a request after the other."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        super().setup()

    def handle_expect_100(self) -> bool:
        return True  # said when the body is wanted: S3 refuses before it

    def do_PUT(self) -> None:
        proxy, headers = self.server.proxy, {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self._path(), headers, int(headers.get("content-length", 0)))
        faults = {fault.kind: fault for fault in proxy.take(request)}
        try:
            self._serve(request, faults)
        except Closed:
            self.close_connection = True
        finally:
            if request.status is None:
                proxy.answered(request, 0)

    do_GET = do_HEAD = do_POST = do_DELETE = do_CONNECT = do_PUT  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass

    def _path(self) -> str:
        """The path with the query, also of a request that names a whole URL, as to an HTTP proxy."""
        whole = self.path.startswith("http://")
        return "/" + self.path.split("/", 3)[-1] if whole else self.path

    def _serve(self, request: Request, faults: dict[str, Fault]) -> None:
        if "refuse" in faults:
            self._refuse(request, faults["refuse"])
            return
        body = self._body(request, faults)
        if "stall" in faults and self.server.proxy.ending.wait(faults["stall"].delay):
            raise Closed
        if "corrupt" in faults and body:
            body[len(body) // 2] ^= 1
            digest = base64.b64encode(hashlib.md5(body).digest()).decode()
            if not faults["corrupt"].unnoticed and request.headers.get("content-md5", digest) != digest:
                self._answer(request, *Fault("refuse", code="BadDigest").answer())
                return
        answer = self._passed_on(request, body, "unconditional" in faults)
        if "lose" in faults:
            raise Closed
        self._answer(request, *answer)

    def _refuse(self, request: Request, fault: Fault) -> None:
        if "expect" in request.headers:
            self.close_connection = True  # whether the body comes all the same is not known
        else:
            self._body(request, {})
        self._answer(request, *fault.answer())

    def _body(self, request: Request, faults: dict[str, Fault]) -> bytearray:
        """Read the body: slowly, with a pause, or only the half of it."""
        if request.headers.get("expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        body = self._read(bytearray(), request.length // 2, faults)
        if "cut" in faults or ("pause" in faults and self.server.proxy.ending.wait(faults["pause"].delay)):
            raise Closed
        self._read(body, request.length, faults)
        request.body = bytes(body[:KEPT_BODY])
        return body

    def _read(self, body: bytearray, length: int, faults: dict[str, Fault]) -> bytearray:
        while len(body) < length:
            piece = self.rfile.read(min(PIECE, length - len(body)))
            if not piece or ("slow" in faults and self.server.proxy.ending.wait(len(piece) / faults["slow"].rate)):
                raise Closed
            body += piece
        return body

    def _passed_on(self, request: Request, body: bytearray, unconditional: bool) -> tuple[int, dict[str, str], bytes]:
        """Ask the upstream. The Host stays what it was: it is signed."""
        upstream = self.server.proxy.upstream
        connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port, timeout=PATIENCE)
        try:
            connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in NOT_PASSED_ON and not (unconditional and name.lower() == "if-none-match"):
                    connection.putheader(name, value)
            connection.putheader("Connection", "close")
            connection.endheaders(memoryview(body) if body else None)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        except (OSError, http.client.HTTPException) as error:
            return 502, {"Content-Type": "text/html"}, f"<html><h1>502 Bad Gateway</h1>{error!r}<hr></html>".encode()
        finally:
            connection.close()

    def _answer(self, request: Request, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in (*NOT_PASSED_ON, "content-length"):
                self.send_header(name, value)
        length = {name.lower(): value for name, value in headers.items()}.get("content-length")
        self.send_header("Content-Length", length if length and request.method == "HEAD" else str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.server.proxy.answered(request, status)
        self.end_headers()
        if request.method != "HEAD":
            self.wfile.write(body)


def arguments() -> argparse.Namespace:
    faults = "".join(f"\n  {name:14} {text}" for name, text in FAULTS.items())
    parser = argparse.ArgumentParser(
        description=f"Stand before an S3 server, and fail.\n\nfaults:{faults}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--upstream", required=True, metavar="URL")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: the kernel chooses; see the first line of stdout")
    parser.add_argument("--seed", type=int, default=0, help="for the faults at random")
    parser.add_argument("--every", type=int, default=0, metavar="N", help="any fault with one in N requests, at random")
    parser.add_argument("--fault", choices=FAULTS, help="this fault, with the flags below")
    parser.add_argument("--times", type=float, default=float("inf"), metavar="N", help="with the next N requests")
    parser.add_argument("--seconds", type=float, default=float("inf"), metavar="N", help="for so long")
    parser.add_argument("--method", default="", help="only of these requests")
    parser.add_argument("--path", default="", metavar="TEXT", help="only where this is in the path")
    parser.add_argument("--code", default="SlowDown", help=f"such as {', '.join(ANSWERS)}")
    parser.add_argument("--status", type=int, default=0, help="if it is not the code's own")
    parser.add_argument("--delay", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--rate", type=float, default=1e6, metavar="BYTES")
    parser.add_argument("--unnoticed", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Say `{"event": "listening", "endpoint": URL}`, serve until SIGTERM, then say the counts."""
    given = arguments()
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with S3Proxy(given.upstream, host=given.host, port=given.port) as proxy:
        if given.fault:
            flags = ("times", "seconds", "method", "path", "code", "status", "delay", "rate", "unnoticed")
            proxy.fault(given.fault, **{name: getattr(given, name) for name in flags})
        if given.every:
            proxy.random_faults(seed=given.seed, every=given.every)
        print(json.dumps({"event": "listening", "endpoint": proxy.endpoint}), flush=True)
        signal.sigwait(signals)
    print(json.dumps({"event": "ended", "requests": len(proxy.requests), "faults": proxy.committed}), flush=True)


if __name__ == "__main__":
    main()
