"""Where messages end, and what their heads say of the connection. Source: RFC 9112, sections 6 and 7; 3 for targets."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from sidecars.ambassador.http.heads import Malformed, read_request, read_response
from sidecars.ambassador.http.request import Headers, Request

# Lengths of a response's body that are none.
CHUNKED = -1
UNTIL_CLOSE = -2

_DIGITS = re.compile(rb"[0-9]{1,18}")
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#@]*)([/?].*)?", re.DOTALL)
_STAY = re.compile(rb"(?i:timeout) *= *([0-9]{1,6})")
_ID = re.compile(rb"[!-~]{1,128}")
_TELLING = frozenset(
    {b"host", b"connection", b"content-length", b"transfer-encoding", b"upgrade", b"expect", b"te", b"keep-alive"}
)
_MOST_HEADERS = 256  # each costs its share of a head's time, however short it is
_NO_TOKENS: frozenset[bytes] = frozenset()
# What nearly every Connection says.
_USUAL = {
    each: frozenset((each.lower(),))
    for each in (b"keep-alive", b"Keep-Alive", b"close", b"Close", b"Upgrade", b"upgrade")
}


class Arrival(NamedTuple):
    """A request's head, and what it says beside the request.

    host      of Host, or of an absolute target; empty when HTTP/1.0 gives none
    old       it is HTTP/1.0
    keep      the connection may stay open afterwards
    tokens    of Connection, in small letters: the headers that are for us only
    upgrade   the protocol that is asked for, as b"websocket"; empty when none is
    expects   the client waits for 100 (Continue) before it sends the body
    trailers  the client understands trailers (TE)
    """

    request: Request
    host: bytes
    old: bool
    keep: bool
    tokens: frozenset[bytes]
    upgrade: bytes
    expects: bool
    trailers: bool


class Reply(NamedTuple):
    """A response's head.

    length  of its body: bytes, or CHUNKED or UNTIL_CLOSE
    keep    the connection may be used again afterwards
    stay    for so many seconds, if that is said
    """

    status: int
    reason: bytes
    headers: Headers
    length: int
    keep: bool
    tokens: frozenset[bytes]
    upgrade: bytes
    stay: int | None


def arrival(data: bytes, id_header: bytes | None) -> Arrival:
    """Read the head of a request, up to and with the empty line, whose sender may want to be understood wrongly.

    id_header  the name of the header with its id, in small letters: request.id is set by it

    Raises Malformed, with the status to answer.
    """
    method, target, old, headers, told = read_request(data, _telling(id_header))
    if len(headers) > _MOST_HEADERS:
        raise Malformed(431, "there are too many headers")
    if method == "CONNECT":
        raise Malformed(405, "CONNECT is not served here")
    get = told.get
    length = _request_length(get(b"content-length"), get(b"transfer-encoding"), old)
    target, host = _place(target, _one_host(get(b"host"), old))
    request = Request(str(method), target, headers, length)
    if id_header and (id := get(id_header)) and _ID.fullmatch(id):
        request.id = id.decode("ascii")
    connection = get(b"connection")
    tokens = _tokens(connection) if connection else _NO_TOKENS
    keep = b"keep-alive" in tokens if old else b"close" not in tokens
    expects = False
    if expectations := get(b"expect"):
        expects = _expects(expectations) and not old and length != 0
    te = get(b"te")
    return Arrival(
        request,
        host,
        old,
        keep and b"close" not in tokens,
        tokens,
        _upgrade(get(b"upgrade"), tokens) if tokens and not old and length == 0 else b"",
        expects,
        te is not None and b"trailers" in _tokens(te),
    )


@lru_cache(64)
def _telling(id_header: bytes | None) -> frozenset[bytes]:
    return _TELLING if id_header is None else _TELLING | {id_header}


def _one_host(host: bytes | None, old: bool) -> bytes:
    if host is None:
        if not old:
            raise Malformed(400, "Host is missing")
        return b""
    if not _is_host(host):
        raise Malformed(400, "Host is malformed, or there is more than one")
    return host


@lru_cache(256)
def _is_host(host: bytes) -> bool:
    return _HOST.fullmatch(host) is not None


def _place(target: bytes, host: bytes) -> tuple[bytes, bytes]:
    """Give the target in origin form, and the host."""
    if b"#" in target:
        raise Malformed(400, "the target has a fragment")
    if target[:1] == b"/" or target == b"*":
        return target, host
    found = _ABSOLUTE.fullmatch(target)
    if found is None or not _HOST.fullmatch(found[1]) or not found[1]:
        raise Malformed(400, "the target is malformed")
    if host and found[1].lower() != host.lower():
        raise Malformed(400, "Host is not that of the target")
    path = found[2] or b"/"
    return (path if path[:1] == b"/" else b"/" + path), found[1]


def _request_length(said: bytes | None, coding: bytes | None, old: bool) -> int | None:
    if coding is None:
        return 0 if said is None else _length(said, 400)
    if said is not None:
        raise Malformed(400, "Content-Length and Transfer-Encoding are both there")
    if old:
        raise Malformed(400, "HTTP/1.0 has no Transfer-Encoding")
    if coding.lower() != b"chunked":
        raise Malformed(501, "the Transfer-Encoding is not chunked alone")
    return None


def _length(said: bytes, status: int) -> int:
    if not _DIGITS.fullmatch(said):
        raise Malformed(status, "Content-Length is malformed")
    return int(said)


def _tokens(value: bytes) -> frozenset[bytes]:
    usual = _USUAL.get(value)
    return usual if usual is not None else frozenset(each.strip(b" \t").lower() for each in value.split(b","))


def _upgrade(protocols: bytes | None, tokens: frozenset[bytes]) -> bytes:
    """Give what is asked for; HTTP/2 is not to be had, and whoever asks for it goes on with HTTP/1.1 by itself."""
    if not protocols or b"upgrade" not in tokens:
        return b""
    wanted = [each.strip(b" \t") for each in protocols.split(b",")]
    return b", ".join(each for each in wanted if each and not each.lower().startswith((b"h2", b"http/", b"tls/")))


def _expects(expectation: bytes) -> bool:
    if expectation.lower() != b"100-continue":
        raise Malformed(417, "the expectation is not known")
    return True


def reply(data: bytes, method: str) -> Reply:
    """Read the head of a response to a request of this method. Raises Malformed."""
    subject, reason, old, headers, told = read_response(data, _TELLING)
    if len(headers) > _MOST_HEADERS:
        raise Malformed(502, "the answer has too many headers")
    status, get = int(subject), told.get
    connection = get(b"connection")
    tokens = _tokens(connection) if connection else _NO_TOKENS
    length = _reply_length(status, method, get(b"content-length"), get(b"transfer-encoding"), old)
    keep = b"close" not in tokens and length != UNTIL_CLOSE and (not old or b"keep-alive" in tokens)
    upgrade = get(b"upgrade")
    stay = _STAY.search(told[b"keep-alive"]) if b"keep-alive" in told else None
    return Reply(status, reason, headers, length, keep, tokens, upgrade or b"", int(stay[1]) if stay else None)


def _reply_length(status: int, method: str, said: bytes | None, coding: bytes | None, old: bool) -> int:
    length = UNTIL_CLOSE
    if coding is not None:
        if old or said is not None or coding.lower() != b"chunked":
            raise Malformed(502, "the answer's Transfer-Encoding cannot be understood")
        length = CHUNKED
    elif said is not None:
        length = _length(said, 502)
    if method == "HEAD" or status < 200 or status in (204, 304):
        return 0
    return length
