"""The heads that are sent on: a request's to the upstream, and its answer's to the client.

Sources: RFC 9110, section 7.6 (what is for one connection only); RFC 7239 (Forwarded).
"""

from __future__ import annotations

import random
from typing import NamedTuple

from sidecars.ambassador.http.answering import reason
from sidecars.ambassador.http.changing import changes
from sidecars.ambassador.http.framing import Arrival, Reply
from sidecars.ambassador.http.request import Headers, Request
from sidecars.ambassador.http.reserved import of_answers, of_requests
from sidecars.ambassador.http.settings import Http, PathRewrite
from sidecars.ambassador.settings import Upstream

# For one connection only, or said anew by us. Trailer stays: it names what comes after a chunked body.
_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"te", b"transfer-encoding", b"upgrade", b"content-length", b"proxy-connection",
        b"proxy-authenticate", b"proxy-authorization", b"proxy-authentication-info", b"http2-settings",
    }
)  # fmt: skip
# What a client says of where it comes from: taken out unless clients are trusted.
_FORWARDED = frozenset(
    {
        b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix",
        b"x-forwarded-server", b"x-forwarded-scheme", b"x-forwarded-ssl", b"x-real-ip", b"forwarded",
    }
)  # fmt: skip
_REPLY_HOP = _HOP - {b"content-length"}
# These describe the message itself: a Connection that names them is not obeyed.
_KEPT = frozenset(
    {b"content-length", b"content-type", b"host", b"content-encoding", b"cache-control", b"authorization"}
)
_SEEN_TO = _HOP | _KEPT | {b"close"}  # what Connection may name without anything else to be done


class Client(NamedTuple):
    """What upstreams are told of a client's connection.

    address  "10.0.0.7"; empty for a unix socket
    port     where it has connected to; 0 for a unix socket
    """

    address: str
    port: int
    secure: bool


class Origin(NamedTuple):
    """What an upstream is for HTTP: https, b"api.example.com", b"/v1"."""

    scheme: str
    authority: bytes
    path: bytes


def origin(upstream: Upstream) -> Origin:
    """Give it; a unix socket is called localhost, and the targets of an SRV name by their domain."""
    path = (upstream.path or "").encode("latin-1")
    scheme = "https" if upstream.tls else "http"
    address = upstream.address
    if address.startswith("/"):
        return Origin(scheme, b"localhost", path)
    if address.startswith("srv://"):
        from sidecars.ambassador.tls import upstream_host  # 2 MiB that few listeners need

        return Origin(scheme, (upstream_host(address) or "localhost").encode("latin-1", "replace"), path)
    default = ":443" if upstream.tls else ":80"
    return Origin(scheme, address.removesuffix(default).encode("latin-1", "replace"), path)


class Forwarding:
    """How one listener sends messages on."""

    def __init__(self, http: Http) -> None:
        self._changes = changes(http.request)
        self._reply_changes = changes(http.response)
        self._rewrites = http.rewrite
        self._host = http.host.encode("latin-1") if http.host not in (None, "client") else None
        self._pass_host = http.host == "client"
        self._told = http.forwarded
        self._trusting = http.trust_forwarded
        self.id_header = http.request_id.encode("latin-1") if http.request_id else None
        self.id_low = self.id_header.lower() if self.id_header else None
        dropped = _HOP | {b"host"} | (frozenset() if self._trusting else _FORWARDED)
        self._dropped = dropped | {self.id_low} if self.id_low else dropped

        self.reserved = of_requests(http)
        self.reply_reserved = of_answers(http)
        self._last: tuple[bytes, Client, Headers] | None = None

    def new_id(self) -> str:
        """Make an id for a request."""
        return f"{random.getrandbits(128):032x}"

    def target(self, request: Request, to: Origin) -> bytes:
        """Give the target as the upstream gets it."""
        target = request.target
        if target == b"*":
            return target
        for rewrite in self._rewrites:
            if (changed := _rewritten(target, rewrite)) is not None:
                target = changed
                break
        return to.path + target

    def headers(self, arrival: Arrival, client: Client, to: Origin) -> Headers:
        """Give the headers of a request as the upstream gets them, but for those that frame it."""
        request = arrival.request
        dropped = self._dropped
        if arrival.tokens and (named := arrival.tokens - _SEEN_TO):
            dropped = dropped | {name for name in named if name not in self.reserved}
        host = self._host or (arrival.host if self._pass_host and arrival.host else to.authority)
        headers = [(b"Host", host)]
        for pair in request.headers:
            low = pair[0].lower()
            # To some programs _ is the same as -, and so X_Forwarded_For is no way around.
            if low not in dropped and not (b"_" in low and low.replace(b"_", b"-") in dropped):
                headers.append(pair)
        if self._told:
            headers = self._forwarded(headers, arrival.host, client)
        if self.id_header and request.id:
            headers.append((self.id_header, request.id.encode("latin-1")))
        return self._changes.made(headers) if self._changes else headers

    def _forwarded(self, headers: Headers, host: bytes, client: Client) -> Headers:
        said: dict[bytes, bytes] = {}
        if self._trusting:
            for name, value in headers:
                low = name.lower()
                if low in _FORWARDED:
                    said[low] = said[low] + b", " + value if low in said else value
            headers = [pair for pair in headers if pair[0].lower() not in _FORWARDED or pair[0].lower() == b"x-real-ip"]
        if "x-forwarded" in self._told:
            if said:
                headers += _x_forwarded(host, client, said)
            else:
                # Most are from one address, the pod's, to one host.
                if self._last is None or self._last[0] != host or self._last[1] != client:
                    self._last = host, client, _x_forwarded(host, client, said)
                headers += self._last[2]
        if "forwarded" in self._told:
            headers.append((b"Forwarded", _appended(said.get(b"forwarded"), _forwarded(host, client))))
        return headers

    def reply(self, reply: Reply, *, old: bool, keep: bool, chunked: bool) -> bytes:
        """Write the head of an answer as the client gets it.

        chunked  the body is sent in chunks
        """
        dropped = _REPLY_HOP
        if reply.tokens and (named := reply.tokens - _SEEN_TO):
            dropped = dropped | named
        if reply.status == 204 or chunked:
            dropped = dropped | {b"content-length"}
        headers = [pair for pair in reply.headers if pair[0].lower() not in dropped]
        if self._reply_changes:
            headers = self._reply_changes.made(headers)
        lines = [b"HTTP/1.1 %d %b" % (reply.status, reply.reason or reason(reply.status))]
        lines += [b"%b: %b" % pair for pair in headers]
        if chunked:
            lines.append(b"Transfer-Encoding: chunked")
        if not keep or old:
            lines.append(b"Connection: keep-alive" if keep else b"Connection: close")
        lines.append(b"\r\n")
        return b"\r\n".join(lines)

    def interim(self, reply: Reply) -> bytes:
        """Write the head of an answer before the answer."""
        headers = [pair for pair in reply.headers if pair[0].lower() not in _HOP]
        lines = [b"HTTP/1.1 %d %b" % (reply.status, reply.reason or reason(reply.status))]
        return b"\r\n".join([*lines, *(b"%b: %b" % pair for pair in headers), b"\r\n"])

    def switched(self, reply: Reply) -> bytes:
        """Write the head of a 101, after which the connection is another protocol's."""
        headers = [pair for pair in reply.headers if pair[0].lower() not in _HOP]
        headers += [(b"Connection", b"Upgrade"), (b"Upgrade", reply.upgrade)]
        lines = [b"HTTP/1.1 101 %b" % reply.reason, *(b"%b: %b" % pair for pair in headers), b"\r\n"]
        return b"\r\n".join(lines)


def request_head(method: str, target: bytes, headers: Headers, arrival: Arrival, length: int | None) -> bytes:
    """Write the head of a request: its headers, and what frames it.

    length  of the body as it is sent: bytes, or None in chunks
    """
    lines = [b"%b %b HTTP/1.1" % (method.encode("ascii"), target)]
    lines += [b"%b: %b" % pair for pair in headers]
    if length is None:
        lines.append(b"Transfer-Encoding: chunked")
    elif length or method in ("POST", "PUT", "PATCH"):
        lines.append(b"Content-Length: %d" % length)
    if arrival.upgrade:
        lines.append(b"Connection: Upgrade\r\nUpgrade: %b" % arrival.upgrade)
    elif arrival.trailers:
        lines.append(b"Connection: TE\r\nTE: trailers")
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def _rewritten(target: bytes, rewrite: PathRewrite) -> bytes | None:
    """Put another beginning in the place of this one, if the path has it: /v1 is not the beginning of /v10."""
    prefix, to = rewrite.prefix.encode(), rewrite.to.encode()
    if not target.startswith(prefix):
        return None
    rest = target[len(prefix) :]
    if rest and not prefix.endswith(b"/") and rest[:1] not in (b"/", b"?"):
        return None
    if rest[:1] == b"/" and to.endswith(b"/"):
        to = to[:-1]
    elif prefix.endswith(b"/") and not to.endswith(b"/"):
        to += b"/"
    changed = to + rest
    return changed if changed[:1] == b"/" else b"/" + changed


def _x_forwarded(host: bytes, client: Client, said: dict[bytes, bytes]) -> Headers:
    headers: Headers = []
    if client.address:
        headers.append((b"X-Forwarded-For", _appended(said.get(b"x-forwarded-for"), client.address.encode("ascii"))))
    elif b"x-forwarded-for" in said:
        headers.append((b"X-Forwarded-For", said[b"x-forwarded-for"]))
    headers.append((b"X-Forwarded-Proto", said.get(b"x-forwarded-proto") or (b"https" if client.secure else b"http")))
    if shown := said.get(b"x-forwarded-host") or host:
        headers.append((b"X-Forwarded-Host", shown))
    if port := said.get(b"x-forwarded-port") or (b"%d" % client.port if client.port else b""):
        headers.append((b"X-Forwarded-Port", port))
    return headers


def _forwarded(host: bytes, client: Client) -> bytes:
    address = client.address.encode("ascii") or b"unknown"
    if b":" in address:
        address = b'"[%b]"' % address
    parts = [b"for=%b" % address, b"proto=https" if client.secure else b"proto=http"]
    if host:
        parts.append(b'host="%b"' % host.replace(b"\\", b"").replace(b'"', b""))
    return b";".join(parts)


def _appended(before: bytes | None, value: bytes) -> bytes:
    return b"%b, %b" % (before, value) if before else value
