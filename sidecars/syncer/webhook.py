"""A call of a URL, done in its time whatever the other end does: the HTTP client of the webhook."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import http.client
import ipaddress
import os
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Mapping
from email.message import Message
from typing import IO, Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import sidecars
from sidecars.core.errors import SidecarError, redacted
from sidecars.syncer.settings import PROG

_PIECE = 64 * 1024
_SPARE = 0.5  # seconds


class CallFailed(SidecarError):  # noqa: N818
    """The call was not answered, not in time, or not as wanted."""


class Call(NamedTuple):
    """What is asked of whom, within how many seconds."""

    method: str
    url: str
    headers: Mapping[str, str]
    timeout: float
    ca: str | None = None


async def call(asked: Call, wanted: int) -> int:
    """Make a call, follow where it is sent, read the answer to its end, and give the status.

    The status has to be the one wanted; any will do when that is 0 or -1. Raises CallFailed.
    """
    line = _Line()
    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    threading.Thread(target=_work, args=(asked, line, done), name="webhook", daemon=True).start()
    try:
        async with asyncio.timeout(asked.timeout):
            status = await done
    except TimeoutError:
        raise CallFailed(f"no whole answer from {place(asked.url)} within {asked.timeout:g} s") from None
    finally:
        line.cut()
    if wanted > 0 and status != wanted:
        raise CallFailed(f"received response code {status} expected {wanted}")
    return status


class _Line:
    """The sockets of one call, which can be cut from outside: a thread that waits for an answer cannot be."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._cut = False

    def connect(self, address: tuple[str, int], *given: Any, **named: Any) -> socket.socket:
        """Do as socket.create_connection does."""
        made = socket.create_connection(address, *given, **named)
        with self._lock:
            # A second descriptor: TLS takes the first one over, and leaves it closed.
            self._sockets.append(made.dup())
            cut = self._cut
        if cut:
            self.cut()
        return made

    def cut(self) -> None:
        """End every connection of the call, now or as soon as it is made."""
        with self._lock:
            self._cut = True
            sockets, self._sockets = self._sockets, []
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def _work(asked: Call, line: _Line, done: asyncio.Future[int]) -> None:
    try:
        result: int | CallFailed = _get(asked, line)
    except CallFailed as error:
        result = error
    with contextlib.suppress(RuntimeError):  # The loop is closed: the process ends.
        done.get_loop().call_soon_threadsafe(_tell, done, result)


def _tell(done: asyncio.Future[int], result: int | CallFailed) -> None:
    if done.done():
        return
    if isinstance(result, CallFailed):
        done.set_exception(result)
    else:
        done.set_result(result)


def _get(asked: Call, line: _Line) -> int:
    try:
        request, opener = _request(asked), _opener(asked, line)
        # The line is cut at the timeout; this is for what cannot be cut yet, a connection that is being made.
        patience = asked.timeout + _SPARE
        end = time.monotonic() + patience
        try:
            response = opener.open(request, timeout=patience)
        except HTTPError as error:  # An answer like any other.
            response = error
        with response:
            while time.monotonic() < end and response.read(_PIECE):
                pass
            return int(response.status)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise CallFailed(f"cannot call {place(asked.url)}: {redacted(str(reason) or repr(reason))}") from error


def _request(asked: Call) -> urllib.request.Request:
    """Make the request; a user and a password in the URL become a header, as Go's client does it."""
    url = urlsplit(asked.url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("it is no http:// or https:// URL")
    userinfo, _, place = url.netloc.rpartition("@")
    headers = {"User-Agent": f"{PROG}/{sidecars.__version__}", **asked.headers}
    if userinfo:
        user, _, password = userinfo.partition(":")
        word = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode())
        headers["Authorization"] = f"Basic {word.decode()}"
    target = urlunsplit((url.scheme, place, url.path or "/", url.query, ""))
    return urllib.request.Request(target, headers=headers, method=asked.method)  # noqa: S310


def _opener(asked: Call, line: _Line) -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    for handler in (
        _Proxy(), _Http(line), _Https(line, asked.ca), _Redirect(), urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(), urllib.request.UnknownHandler(),
    ):  # fmt: skip
        opener.add_handler(handler)
    opener.addheaders = []
    return opener


class _Http(urllib.request.HTTPHandler):
    def __init__(self, line: _Line) -> None:
        super().__init__()
        self._line = line

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_connection, http.client.HTTPConnection, self._line), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, line: _Line, ca: str | None) -> None:
        super().__init__()
        self._line = line
        self._ca = ca

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        # Read anew for each call: certificates are renewed while we run.
        context = ssl.create_default_context(cafile=self._ca)
        kind = functools.partial(http.client.HTTPSConnection, context=context)
        return self.do_open(functools.partial(_connection, kind, self._line), req)


def _connection(kind: Any, line: _Line, host: str, **given: Any) -> Any:
    made = kind(host, **given)
    # There is no other way to learn of the socket before the answer has come.
    made._create_connection = line.connect
    return made


class _Redirect(urllib.request.HTTPRedirectHandler):
    """Redirects as Go's client follows them: 307 and 308 keep the method, the others make it a GET."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        method = req.get_method()
        if code not in (307, 308) and method not in ("GET", "HEAD"):
            method = "GET"
        kept = dict(req.headers)
        if urlsplit(newurl).netloc != req.host:
            kept.pop("Authorization", None)
        return urllib.request.Request(  # noqa: S310
            newurl.replace(" ", "%20"), headers=kept, method=method, origin_req_host=req.origin_req_host,
            unverifiable=True,
        )  # fmt: skip


class _Proxy(urllib.request.ProxyHandler):
    """The proxy of the environment, chosen anew where a redirect leads elsewhere."""

    def __init__(self) -> None:
        super().__init__({})

    def http_open(self, req: urllib.request.Request) -> Any:
        return self._choose(req, "http")

    def https_open(self, req: urllib.request.Request) -> Any:
        return self._choose(req, "https")

    def _choose(self, req: urllib.request.Request, scheme: str) -> Any:
        proxy = proxy_of(urlsplit(req.full_url), os.environ)
        return self.proxy_open(req, proxy, scheme) if proxy and not req.has_proxy() else None


def proxy_of(url: SplitResult, environ: Mapping[str, str]) -> str | None:
    """Give the proxy for a URL, as Go chooses it: never one for this machine, and networks count in NO_PROXY.

    Source: golang.org/x/net/http/httpproxy.
    """
    host = (url.hostname or "").lower()
    proxy = _variable(environ, f"{url.scheme}_proxy")
    if not proxy or host == "localhost" or _excepted(host, url.port, _variable(environ, "no_proxy")):
        return None
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name.upper()) or environ.get(name) or ""


def _excepted(host: str, port: int | None, exceptions: str) -> bool:
    return any(_matches(host, port, each.strip().lower()) for each in exceptions.split(",") if each.strip())


def _matches(host: str, port: int | None, exception: str) -> bool:
    if exception == "*":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host) in ipaddress.ip_network(exception, strict=False)
    name, _, number = exception.partition(":")
    if number and number != str(port):
        return False
    name = name.removeprefix("*")
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")


def place(url: str) -> str:
    """The URL without what may be secret in it: chat systems put their tokens into the path and the query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
