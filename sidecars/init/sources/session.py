"""The door to http.client: answers to requests, with redirects that leak nothing and errors in words."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import NamedTuple
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from sidecars import __version__
from sidecars.core.errors import SidecarError, WrongSettings
from sidecars.init.sources import Again, Patience

_REDIRECTS, _MOST_REDIRECTS = (301, 302, 303, 307, 308), 10
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers that the same request need not get again
_SHOWN = 200  # characters of an answer that is an error
_LONGEST_TEXT = 1 << 20
_SAFE = "%/:=&?~#+!$,;'@()*[]"


class Origin(NamedTuple):
    """Whom a request goes to, and whom credentials are for."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"http": 80, "https": 443}[self.scheme]
        return f"{self.scheme}://{host}" + ("" if self.port == usual else f":{self.port}")


class Url(NamedTuple):
    """A URL that can be requested, without userinfo and fragment."""

    origin: Origin
    path: str
    query: str

    @property
    def target(self) -> str:
        """What stands in the first line of a request."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def shown(self) -> str:
        """The URL as it may be seen: a query may be a signature."""
        return f"{self.origin}{self.path}"

    @property
    def whole(self) -> str:
        """The URL with its query."""
        return f"{self.origin}{self.target}"


def url(text: str) -> Url:
    """Read a URL; ValueError when it is none of http or https. What no URL may hold, such as a space, is escaped."""
    split: SplitResult = urlsplit(quote(text, safe=_SAFE))
    host = unquote(split.hostname or "")
    if split.scheme not in ("http", "https") or not host or re.search(r"[\x00-\x20\x7f/?#@\\]", host):
        raise ValueError(text)
    if not host.isascii():
        host = host.encode("idna").decode()
    port = split.port if split.port is not None else {"http": 80, "https": 443}[split.scheme]
    return Url(Origin(split.scheme, host, port), split.path or "/", split.query)


class Credentials(NamedTuple):
    """What a server is told of who asks; headers are read when they are needed, for secrets are renewed."""

    headers: Mapping[str, str] = {}
    ca: str | None = None
    cert: str | None = None
    cert_key: str | None = None


class Session:
    """Connections of one thread. A connection is kept while its answers are read to their end."""

    def __init__(self, first: Origin, credentials: Credentials, patience: Patience) -> None:
        self._first = first
        self._credentials = credentials
        self._patience = patience
        self._connections: dict[Origin, HTTPConnection] = {}
        self._response: HTTPResponse | None = None

    def get(self, address: Url, headers: Mapping[str, str]) -> HTTPResponse:
        """Ask, and follow redirects. Gives any answer that is none of them. Raises Again, SidecarError."""
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._ask(address, headers)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None:
                return response
            response.close()
            self._drop(address.origin)
            address = _redirected(address, location)
        raise SidecarError(f"{address.origin} redirects more than {_MOST_REDIRECTS} times; is the URL right?")

    def _ask(self, address: Url, headers: Mapping[str, str]) -> HTTPResponse:
        # Who is redirected to another host, port or scheme gets no credentials.
        private = self._credentials.headers if address.origin == self._first else {}
        given = {"User-Agent": f"pod-init/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
        try:
            connection = self._connection(address)
            through = getattr(connection, "through", "")
            connection.request("GET", f"{through}{address.target}", headers={**given, **headers, **private})
            used = connection.sock
            response = self._response = connection.getresponse()
            response.connection = used  # type: ignore[attr-defined]  # http.client lets go of one that will be closed
            return response
        except (OSError, HTTPException, UnicodeError) as error:  # the last for a label that is too long
            self._drop(address.origin)
            raise broken(error, str(address.origin)) from error

    def _connection(self, address: Url) -> HTTPConnection:
        origin = address.origin
        made = self._connections.get(origin)
        if made is None:
            made = self._connections[origin] = _connection(origin, self._credentials, self._patience)
        if made.sock is None:
            made.timeout = self._patience.connect
            made.connect()
            made.sock.settimeout(self._patience.read)  # type: ignore[attr-defined]
        return made

    def _drop(self, origin: Origin) -> None:
        with contextlib.suppress(KeyError):
            self._connections.pop(origin).close()

    def drop(self) -> None:
        """Close all connections."""
        if self._response is not None:
            self._response.close()  # It may hold one that http.client has let go of.
        for origin in list(self._connections):
            self._drop(origin)

    def text(self, address: Url) -> str:
        """Give a small text, such as a list of digests. Raises Again, SidecarError."""
        response = self.get(address, {})
        check(response, address)
        try:
            data = response.read(_LONGEST_TEXT + 1)
        except (OSError, HTTPException) as error:
            raise broken(error, str(address.origin)) from error
        finally:
            self.drop()
        if len(data) > _LONGEST_TEXT:
            raise SidecarError(f"{address.shown} is larger than {_LONGEST_TEXT:,} bytes; is it a list of digests?")
        return data.decode(errors="replace")


def _redirected(address: Url, location: str) -> Url:
    # http.client gives the bytes of a header as Latin-1.
    text = quote(location.encode("latin-1", "replace"), safe=_SAFE)
    try:
        there = url(urljoin(address.whole, text))
    except ValueError:
        scheme = re.match(r"(?!https?:)[a-z][a-z0-9+.-]*(?=:)", text.lower())
        what = f"to another scheme, {scheme[0]}" if scheme else "to what is no URL"
        raise SidecarError(f"{address.shown} redirects {what}; that is not followed") from None
    if address.origin.scheme == "https" and there.origin.scheme == "http":
        raise SidecarError(
            f"{address.shown} redirects to {there.shown}, without TLS; that is not followed: is it right? give it"
        )
    return there


class _Plain(HTTPConnection):
    """A connection to a server, or to a proxy, which wants whole URLs."""

    through = ""


def _connection(origin: Origin, credentials: Credentials, patience: Patience) -> HTTPConnection:
    proxy = _proxy(origin)
    if origin.scheme == "http":
        there = proxy.origin if proxy else origin
        plain = _Plain(there.host, there.port, timeout=patience.connect)
        plain.through = str(origin) if proxy else ""
        return plain
    context = _context(credentials)
    if proxy is None:
        return HTTPSConnection(origin.host, origin.port, timeout=patience.connect, context=context)
    tunnel = HTTPSConnection(proxy.origin.host, proxy.origin.port, timeout=patience.connect, context=context)
    tunnel.set_tunnel(origin.host, origin.port)
    return tunnel


def _context(credentials: Credentials) -> ssl.SSLContext:
    from sidecars.core import tls
    from sidecars.core.errors import DeliveryFailed

    try:
        return tls.context(ca=credentials.ca, cert=credentials.cert, cert_key=credentials.cert_key, verify=True)
    except DeliveryFailed as error:
        raise SidecarError(str(error)) from error


def _proxy(origin: Origin) -> Url | None:
    """The proxy that the usual variables name: http_proxy, https_proxy, all_proxy, no_proxy."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]  # 15 ms that few need

    proxies: dict[str, str] = getproxies_environment()
    text = proxies.get(origin.scheme) or proxies.get("all")
    if not text or proxy_bypass_environment(f"{origin.host}:{origin.port}", proxies):
        return None
    try:
        found = url(text if "://" in text else f"http://{text}")
    except ValueError:
        found = None
    if found is None or found.origin.scheme != "http" or "@" in text:
        raise WrongSettings(f"the proxy for {origin.scheme} is no http://HOST:PORT without a password; set another")
    return found


def broken(error: Exception, where: str) -> SidecarError:
    """Tell what went wrong with a connection. What a person has to change is no Again."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return SidecarError(f"{where} has a certificate that is not trusted: {error.verify_message}; give its --ca")
    if isinstance(error, socket.gaierror):
        return Again(f"cannot look up the name of {where}: {error.strerror}; is it right?")
    if isinstance(error, TimeoutError):
        return Again(f"no answer from {where} in time; is it up, and does no NetworkPolicy drop what is sent?")
    if isinstance(error, UnicodeError):
        return SidecarError(f"{where} cannot be asked: {error}; is the URL right?")
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return Again(f"the connection to {where} broke: {plain(reason)}; is it up?")


def plain(text: str) -> str:
    """What a server says, on one line and not for ever."""
    return re.sub(r"[^\x20-\x7e\xa0-\uffff]+", " ", text)[:_SHOWN].strip()


def check(response: HTTPResponse, address: Url) -> None:
    """Raise for an answer that is no success: Again if the next may be one, else SidecarError with what it says."""
    if response.status < 400:
        if response.status in (200, 206):
            return
        raise SidecarError(f"{address.shown} answers {_status(response)}, which is no file; is the URL right?")
    said = _body(response)
    text = f"{address.shown} answers {_status(response)}" + (f": {said!r}" if said else "")
    response.close()
    if response.status in _PASSING:
        raise Again(text, _pause(response.headers.get("Retry-After", "")))
    advice = {
        401: "give --token-file, or --user and --password-file",
        403: "may these credentials read it?",
        404: "there is no such file: is the URL right?",
        407: "the proxy wants a password",
        410: "it is gone: is the URL right?",
    }
    raise SidecarError(f"{text}; {advice.get(response.status, 'is the URL right?')}")


def _status(response: HTTPResponse) -> str:
    return f"{response.status} {plain(response.reason)}".strip()


def _body(response: HTTPResponse) -> str:
    try:
        return " ".join(plain(response.read(4 * _SHOWN).decode(errors="replace")).split())
    except (OSError, HTTPException):
        return ""


def _pause(text: str) -> float:
    """Seconds that a Retry-After asks for: a number or a date. What is neither asks for none."""
    if text.strip().isdigit():
        return float(text.strip()[:6])
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        from email.utils import parsedate_to_datetime

        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return 0.0
