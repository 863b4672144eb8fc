"""What HTTP mode's rules are given of a request, and what they say to it."""

from __future__ import annotations

from typing import NamedTuple

Headers = list[tuple[bytes, bytes]]


class Request:
    """The head of a client's request, whole and well-formed by the grammar of HTTP/1.1 (httptools).

    method    "GET"
    target    as it was sent, in origin form: b"/v1/items?id=7", or b"*"; an absolute one has lost its beginning
    headers   as they were sent, in their order, hop-by-hop ones included
    length    of the body: bytes, None when it is chunked; 0 when there is none
    client    its address, by the PROXY protocol if that is spoken; "" for a unix socket
    secure    it came by TLS
    names     of the client's certificate
    user      as whom it came in, once a rule has found out; for logs and rate limits, never a secret
    id        the request's id
    """

    __slots__ = ("_low", "client", "headers", "id", "length", "method", "names", "secure", "target", "user")

    def __init__(self, method: str, target: bytes, headers: Headers, length: int | None) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.length = length
        self.client = ""
        self.secure = False
        self.names: tuple[str, ...] = ()
        self.user: str | None = None
        self.id: str | None = None
        self._low: dict[bytes, list[bytes]] | None = None

    @property
    def path(self) -> bytes:
        """The target up to the question mark."""
        return self.target.partition(b"?")[0]

    @property
    def query(self) -> bytes:
        """What comes after the question mark."""
        return self.target.partition(b"?")[2]

    def get(self, name: bytes) -> list[bytes]:
        """Give the values of a header, whose name is given in small letters: one for each time it was sent."""
        if self._low is None:
            low: dict[bytes, list[bytes]] = {}
            for each, value in self.headers:
                low.setdefault(each.lower(), []).append(value)
            self._low = low
        return self._low.get(name, [])

    def changed(self, headers: Headers) -> None:
        """Put other headers in the place of these."""
        self.headers = headers
        self._low = None


class Refusal(NamedTuple):
    """Why a request is not passed on, and what is answered.

    status   401, 403, 404, 405, 411, 413, 414, 429, 431, 503, ...
    rule     a short fixed word, for metrics and the access log: method, path, header, api_key, basic, bearer, jwt,
             rate_limit, body_size, ...
    text     the body, a short line for the client's developer
    headers  beside Content-Type and Content-Length, as WWW-Authenticate, Allow, Retry-After
    detail   what the operator is told beside it, never a secret
    """

    status: int
    rule: str
    text: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    detail: str = ""


class Wait(NamedTuple):
    """It cannot be said yet: keys are being fetched. Asked again with the next plan, and after some seconds at last.

    refusal  what is answered when it still cannot be said then
    """

    refusal: Refusal


def plain(name: bytes) -> bytes:
    """Give a header's name as frameworks see it that make variables of headers: X_User and X-User are one to them."""
    return name.lower().replace(b"_", b"-")
