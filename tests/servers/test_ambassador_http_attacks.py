"""What a hostile client or upstream says is refused, or understood as everybody does: never as two messages for one.

What upstreams and clients get is read by h11, another parser than ours.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.servers.ambassador import Ambassador, Upstream, configured, running
from tests.servers.http_judge import Recorder, Seen, Verdict, responses, told

AFTER = b"GET /after HTTP/1.1\r\nHost: client.test\r\n\r\n"
EVIL = b"GET /evil HTTP/1.1\r\nHost: client.test\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: %d\r\n\r\n%b"


def get(*lines: bytes, line: bytes = b"GET /a HTTP/1.1", host: bytes = b"Host: client.test") -> bytes:
    return b"\r\n".join([line, *([host] if host else []), *lines, b"", b""])


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return get(*lines, line=b"POST /a HTTP/1.1") + body


def chunks(body: bytes, *lines: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", *lines, body=body)


class Case(NamedTuple):
    """What a client sends, and what comes of it: a status, and nothing at the upstream; or these requests."""

    name: str
    sent: bytes
    status: int = 0
    come: tuple[tuple[str, bytes], ...] = ()


def refused(name: str, sent: bytes, status: int = 400) -> Case:
    return Case(name, sent, status)


def taken(name: str, sent: bytes, *come: tuple[str, bytes]) -> Case:
    return Case(name, sent, come=come or (("GET /a", b""),))


TWO = b"0\r\n\r\n" + EVIL  # a body in chunks that ends at once, and what is smuggled
LENGTHS = [
    ("two lengths", (b"Content-Length: 3", b"Content-Length: 4"), 400),
    ("two lengths that are the same", (b"Content-Length: 3", b"Content-Length: 3"), 400),
    ("two lengths in a list", (b"Content-Length: 3, 3",), 400),
    ("a length and an empty one", (b"Content-Length: 3", b"Content-Length:"), 400),
    ("a signed length", (b"Content-Length: +3",), 400),
    ("a negative length", (b"Content-Length: -3",), 400),
    ("an empty length", (b"Content-Length:",), 400),
    ("a length in hex", (b"Content-Length: 0x3",), 400),
    ("a length with digits apart", (b"Content-Length: 3 3",), 400),
    ("a length with an underscore", (b"Content-Length: 1_0",), 400),
    ("a length with a fraction", (b"Content-Length: 3.0",), 400),
    ("a length beyond 64 bits", (b"Content-Length: 18446744073709551619",), 400),
    ("a length of 19 digits", (b"Content-Length: 9999999999999999999",), 400),
    ("a length after a vertical tab", (b"Content-Length: \x0b3",), 400),
    ("a length before a form feed", (b"Content-Length: 3\x0c",), 400),
    ("a length in full-width digits", ("Content-Length: \N{FULLWIDTH DIGIT THREE}".encode(),), 400),
    ("a length in quotes", (b'Content-Length: "3"',), 400),
    ("a space before the colon of a length", (b"Content-Length : 3",), 400),
    ("a tab before the colon of a length", (b"Content-Length\t: 3",), 400),
    ("a NUL in the name of a length", (b"Content-Length\x00: 3",), 400),
    ("a length in a folded line", (b"Content-Length:", b" 3"), 400),
]
CODINGS = [
    ("a length and chunks", (b"Content-Length: 6", b"Transfer-Encoding: chunked"), 400),
    ("chunks and a length", (b"Transfer-Encoding: chunked", b"Content-Length: 6"), 400),
    ("a length of nothing and chunks", (b"Content-Length: 0", b"Transfer-Encoding: chunked"), 400),
    ("chunks twice", (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
    ("chunks twice in a list", (b"Transfer-Encoding: chunked, chunked",), 400),
    ("chunks that are none", (b"Transfer-Encoding: xchunked",), 400),
    ("chunks in quotes", (b'Transfer-Encoding: "chunked"',), 400),
    ("chunks with a parameter", (b"Transfer-Encoding: chunked;a=b",), 400),
    ("chunks after a vertical tab", (b"Transfer-Encoding: \x0bchunked",), 400),
    ("chunks after a NUL", (b"Transfer-Encoding: \x00chunked",), 400),
    ("chunks after a bare CR", (b"Transfer-Encoding:\rchunked",), 400),
    ("chunks in a folded line", (b"Transfer-Encoding:", b" chunked"), 400),
    ("chunks after a folded line", (b"X: y", b" Transfer-Encoding: chunked"), 400),
    ("a space before the colon of chunks", (b"Transfer-Encoding : chunked",), 400),
    ("a control in the name of chunks", (b"Transfer-\x01Encoding: chunked",), 400),
    ("an empty coding", (b"Transfer-Encoding:",), 400),
    ("identity", (b"Transfer-Encoding: identity",), 400),
    ("identity after chunks", (b"Transfer-Encoding: chunked, identity",), 400),
    ("gzip before chunks", (b"Transfer-Encoding: gzip, chunked",), 501),
    ("gzip and chunks in two lines", (b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"), 501),
    ("a list that begins with a comma", (b"Transfer-Encoding: , chunked",), 501),
]
LINES = [
    ("a bare LF after the request line", b"GET /a HTTP/1.1\nHost: client.test\r\n\r\n", 400),
    ("a bare LF after a header", b"GET /a HTTP/1.1\r\nHost: client.test\nX: y\r\n\r\n", 400),
    ("a head that ends with bare LFs", b"GET /a HTTP/1.1\nHost: client.test\n\n", 400),
    ("a head that ends with CR LF LF", get()[:-2] + b"\n", 400),
    ("a bare CR in a value", get(b"X: a\rb"), 400),
    ("a bare CR before a header", get(b"X: a\rContent-Length: 30"), 400),
    ("a doubled CR", get(b"X: a\r"), 400),
    ("a bare CR in the target", get(line=b"GET /a\rb HTTP/1.1"), 400),
    ("a NUL in a value", get(b"X: a\x00b"), 400),
    ("a NUL in a name", get(b"X\x00: a"), 400),
    ("a NUL in the target", get(line=b"GET /a\x00b HTTP/1.1"), 400),
    ("a control in a value", get(b"X: a\x01b"), 400),
    ("a DEL in a value", get(b"X: a\x7fb"), 400),
    ("a folded line", get(b"X: a", b" b"), 400),
    ("a folded line with a tab", get(b"X: a", b"\tb"), 400),
    ("a folded first header", get(b" X: a", host=b""), 400),
    ("a space before a colon", get(b"X : a"), 400),
    ("a header without a colon", get(b"X"), 400),
    ("a header without a name", get(b": a"), 400),
    ("a name with a space", get(b"X Y: a"), 400),
    ("a name with obs-text", get(b"X\xe9: a"), 400),
    ("a name in brackets", get(b"(X): a"), 400),
    ("a space in the target", get(line=b"GET /a b HTTP/1.1"), 400),
    ("a tab in the target", get(line=b"GET /a\tb HTTP/1.1"), 400),
    ("tabs between the words", get(line=b"GET\t/a\tHTTP/1.1"), 400),
    ("obs-text in the target", get(line="GET /ä HTTP/1.1".encode()), 400),
    ("a space after the version", get(line=b"GET /a HTTP/1.1 "), 400),
    ("a space before the method", get(line=b" GET /a HTTP/1.1"), 501),
    ("a bare CR before the method", get(line=b"\rGET /a HTTP/1.1"), 400),
    ("a bare LF before the method", get(line=b"\nGET /a HTTP/1.1"), 400),
    ("a method in small letters", get(line=b"get /a HTTP/1.1"), 501),
    ("an unknown method", get(line=b"SMUGGLE /a HTTP/1.1"), 501),
    ("a method that is no token", get(line=b"GE(T /a HTTP/1.1"), 501),
    ("CONNECT", get(line=b"CONNECT client.test:443 HTTP/1.1"), 405),
    ("HTTP/0.9", b"GET /a\r\n\r\n", 400),
    ("HTTP/0.9 with headers, as a target", get(line=b"GET /aHTTP/1.1"), 400),
    ("HTTP/0.9 by name", get(line=b"GET /a HTTP/0.9"), 505),
    ("HTTP/1.2", get(line=b"GET /a HTTP/1.2"), 505),
    ("HTTP/2.0", get(line=b"GET /a HTTP/2.0"), 505),
    ("HTTP/1.1 with a zero", get(line=b"GET /a HTTP/1.01"), 400),
    ("http/1.1 in small letters", get(line=b"GET /a http/1.1"), 400),
    ("another protocol", get(line=b"GET /a ICAP/1.0"), 400),
    ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 505),
    ("a handshake of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300), 501),
    ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 400),
    ("chunks in HTTP/1.0", get(b"Transfer-Encoding: chunked", line=b"POST /a HTTP/1.0"), 400),
    ("no Host", get(host=b""), 400),
    ("two Hosts", get(b"Host: evil.test"), 400),
    ("two Hosts that are the same", get(b"Host: client.test"), 400),
    ("two Hosts in HTTP/1.0", get(b"Host: evil.test", line=b"GET /a HTTP/1.0"), 400),
    ("a Host with a path", get(host=b"Host: client.test/evil"), 400),
    ("a Host with a user", get(host=b"Host: client.test@evil.test"), 400),
    ("a Host with a space", get(host=b"Host: client.test evil.test"), 400),
    ("a Host with a tab", get(host=b"Host: client.test\tx"), 400),
    ("a Host with two ports", get(host=b"Host: client.test:80:81"), 400),
    ("a Host with a port that is none", get(host=b"Host: client.test:http"), 400),
    ("a Host with obs-text", get(host=b"Host: client.t\xe9st"), 400),
    ("a Host with a backslash", get(host=b"Host: client.test\\evil.test"), 400),
    ("a target of another host", get(line=b"GET http://evil.test/a HTTP/1.1"), 400),
    ("a target with a user", get(line=b"GET http://client.test@evil.test/a HTTP/1.1"), 400),
    ("a target with another port", get(line=b"GET http://client.test:81/a HTTP/1.1"), 400),
    ("a target without a host", get(line=b"GET http:///a HTTP/1.1"), 400),
    ("a target of another scheme", get(line=b"GET file://client.test/a HTTP/1.1"), 400),
    ("a target that is only a name", get(line=b"GET a HTTP/1.1"), 400),
    ("a target with a fragment", get(line=b"GET /a#b HTTP/1.1"), 400),
    ("a target that is a query", get(line=b"GET ?a HTTP/1.1"), 400),
    ("an expectation that nobody knows", post(b"Expect: 200-ok", b"Content-Length: 3", body=b"abc"), 417),
]
SIZES = [
    ("a size that is none", b"g\r\n"),
    ("an empty size", b"\r\n"),
    ("a size in 0x", b"0x3\r\nabc\r\n"),
    ("a signed size", b"+3\r\nabc\r\n"),
    ("a negative size", b"-3\r\nabc\r\n"),
    ("a size before a space", b"3 \r\nabc\r\n"),
    ("a size after a space", b" 3\r\nabc\r\n"),
    ("a size beyond 64 bits", b"10000000000000003\r\nabc\r\n"),
    ("a size with many zeros", b"0" * 20 + b"3\r\nabc\r\n"),
    ("a size with an underscore", b"1_0\r\n" + b"a" * 16 + b"\r\n"),
    ("a size that ends with a bare LF", b"3\nabc\r\n"),
    ("a size that ends with a bare CR", b"3\rabc\r\n"),
    ("a bare LF in an extension", b"3;a\nb\r\nabc\r\n"),
    ("a bare CR in an extension", b"3;a\rb\r\nabc\r\n"),
    ("a NUL in an extension", b"3;a\x00b\r\nabc\r\n"),
    ("a space before an extension", b"3 ;a\r\nabc\r\n"),
    ("an extension that is no word", b"3;a: b\r\nabc\r\n"),
    ("an extension without its quote", b'3;a="b\r\nabc\r\n'),
    ("an extension without a semicolon", b"3 a\r\nabc\r\n"),
    ("an extension that is very long", b"3;" + b"a" * 20_000 + b"\r\nabc\r\n"),
    ("a chunk that ends with a bare LF", b"3\r\nabc\n"),
    ("a chunk that ends with a bare CR", b"3\r\nabc\r0\r\n\r\n"),
    ("a chunk that is longer", b"3\r\nabcd\r\n"),
    ("a chunk that is shorter", b"3\r\nab\r\n"),
    ("a last chunk that ends with bare LFs", b"0\n\n"),
    ("a trailer with a bare LF", b"0\r\nX: a\nY: b\r\n\r\n"),
    ("a trailer with a bare CR", b"0\r\nX: a\rY: b\r\n\r\n"),
    ("a trailer with a NUL", b"0\r\nX: a\x00b\r\n\r\n"),
    ("a trailer with a space before the colon", b"0\r\nX : a\r\n\r\n"),
    ("a trailer that is folded", b"0\r\nX: a\r\n b\r\n\r\n"),
    ("a trailer that is a request", b"0\r\nGET /evil HTTP/1.1\r\n\r\n"),
    ("an empty line that is none", b"0\r\n\rX"),
]
TRAILERS = (
    b"Content-Length: 33", b"Transfer-Encoding: chunked", b"Host: evil.test", b"Connection: close",
    b"Authorization: Bearer evil", b"Cookie: evil=1", b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-Prefix: /evil",
    b"X_Forwarded_For: 6.6.6.6", b"Forwarded: for=6.6.6.6", b"X-Real-IP: 6.6.6.6", b"X-Request-ID: evil",
    b"Content_Length: 33", b"Transfer_Encoding: chunked", b"Upgrade: websocket", b"Expect: 100-continue",
    b"Proxy-Authorization: Basic evil", b"Content-Type: text/evil", b"TE: gzip", b"Trailer: evil",
)  # fmt: skip
A = ("POST /a", b"abc")
END = ("GET /after", b"")

CASES = (
    *(refused(name, post(*lines, body=b"abc" + EVIL), status) for name, lines, status in LENGTHS),
    *(refused(name, post(*lines, body=TWO), status) for name, lines, status in CODINGS),
    *(refused(name, sent, status) for name, sent, status in LINES),
    *(refused(f"chunks: {name}", chunks(sent + TWO)) for name, sent in SIZES),
    taken("a request as it should be", get()),
    taken("empty lines before a request", b"\r\n\r\n" + get()),
    taken("a body of a known length", post(b"Content-Length: 3", body=b"abc"), A),
    taken("a length with zeros before it", post(b"Content-Length: 0003", body=b"abc"), A),
    taken("a length with spaces around it", post(b"Content-Length: \t 3 \t", body=b"abc"), A),
    taken("chunks", chunks(b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"), A),
    taken("chunks in capitals", post(b"TRANSFER-ENCODING: CHUNKED", body=b"3\r\nabc\r\n0\r\n\r\n"), A),
    taken("a size in capitals, with zeros", chunks(b"000A\r\n0123456789\r\n00\r\n\r\n"), ("POST /a", b"0123456789")),
    taken("extensions", chunks(b'3;a=b;c="d"\r\nabc\r\n0;last\r\n\r\n'), A),
    taken("an extension that looks like a size", chunks(b"3;5\r\nabc\r\n0\r\n\r\n"), A),
    taken("a body that looks like a request", post(b"Content-Length: %d" % len(EVIL), body=EVIL), ("POST /a", EVIL)),
    taken("a GET with a body", get(b"Content-Length: %d" % len(EVIL)) + EVIL, ("GET /a", EVIL)),
    taken("a GET with chunks", get(b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n", ("GET /a", b"abc")),
    taken("a HEAD with a body", get(b"Content-Length: 3", line=b"HEAD /a HTTP/1.1") + b"abc", ("HEAD /a", b"abc")),
    taken("the other spelling of chunks", post(b"Transfer_Encoding: chunked", b"Content-Length: 3", body=b"abc"), A),
    taken("the other spelling of a length", chunks(b"3\r\nabc\r\n0\r\n\r\n", b"Content_Length: 90"), A),
    taken("a Connection that names the length", post(b"Connection: content-length", b"Content-Length: 3", body=b"abc"),
          A),
    taken("a Connection that names chunks", chunks(b"3\r\nabc\r\n0\r\n\r\n", b"Connection: Transfer-Encoding"), A),
    taken("a Connection that names Host", get(b"Connection: Host")),
    taken("an absolute target", get(line=b"GET http://client.test/a HTTP/1.1")),
    taken("an absolute target in capitals", get(line=b"GET HTTP://CLIENT.TEST/a HTTP/1.1")),
    taken("an absolute target of a query", get(line=b"GET http://client.test?a HTTP/1.1"), ("GET /?a", b"")),
    taken("an address as Host", get(host=b"Host: [::1]:80")),
    taken("an empty Host", get(host=b"Host:")),
    taken("obs-text in a value", get(b"X: \xe9")),
    taken("OPTIONS of all", get(line=b"OPTIONS * HTTP/1.1"), ("OPTIONS *", b"")),
    taken("an upgrade to HTTP/2 with a body", post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c",
          b"HTTP2-Settings: AAMAAABkAAQAAP__", b"Content-Length: 3", body=b"abc"), A),
    taken("an upgrade with a body", post(b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 3",
          body=b"abc"), A),
    taken("an upgrade with chunks", chunks(b"3\r\nabc\r\n0\r\n\r\n", b"Connection: Upgrade", b"Upgrade: websocket"), A),
    taken("an upgrade that is not granted", get(b"Connection: Upgrade", b"Upgrade: websocket")),
    taken("a PROXY of the past", get(b"Proxy-Connection: keep-alive", b"Keep-Alive: 300", b"Proxy: http://evil.test")),
    *(taken(f"a trailer {each.decode()}", chunks(b"3\r\nabc\r\n0\r\n" + each + b"\r\nX-Sum: 1\r\n\r\n"), A)
      for each in TRAILERS),
)  # fmt: skip


@pytest.fixture(scope="module")
def upstream() -> Iterator[Recorder]:
    with Recorder() as made:
        yield made


@pytest.fixture(scope="module")
def ambassador(upstream: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ambassador]:
    folder = tmp_path_factory.mktemp("attacks")
    (folder / "key").write_text("shared")
    to = [{"address": upstream.address}]
    listeners = [
        {"listen": ":0", "upstreams": to, "http": {}},
        {"listen": "127.0.0.2:0", "upstreams": to, "http": {"max_url": 200, "max_head": 2000, "max_body": 1000}},
        {
            "listen": "127.0.0.3:0", "upstreams": to,
            "http": {"host": "client", "request_id": "X-Trace",
                     "headers": [{"name": "X-Role", "matches": "[a-z]*"}],
                     "request": {"remove": ["X-Secret-*"], "set": [{"name": "X-Tenant", "value": "ours"}]}},
        },
        {
            "listen": "127.0.0.4:0", "upstreams": to,  # bodies are held until they are whole
            "http": {"credential": {"hmac": {"key_file": str(folder / "key"), "style": "body"}}},
        },
    ]  # fmt: skip
    with running(configured(folder / "config.json", *listeners)) as made:
        yield made


def attack(ambassador: Ambassador, upstream: Recorder, sent: bytes, listener: str = ":0") -> tuple[list[Seen], Verdict]:
    """Send it, to the end; what has come whole at the upstream, and what was answered, as h11 reads both."""
    upstream.begin()
    got = told(ambassador.connect(listener), sent)
    come, errors, raw = upstream.came()
    assert not errors, errors
    methods = [each.what.split()[0] for each in come]
    answered = responses(got, methods)
    assert not answered.error or len(answered.begun) > len(answered.whole), (answered, got)
    assert b"6.6.6.6" not in raw, raw
    return come, answered


@pytest.mark.parametrize("case", CASES, ids=[each.name for each in CASES])
@pytest.mark.parametrize("listener", [":0", "127.0.0.4:0"], ids=["passed on", "held whole"])
def test_a_request_is_refused_or_it_is_one(ambassador, upstream, case, listener):
    come, answered = attack(ambassador, upstream, case.sent + AFTER, listener)
    if case.status:
        assert not come
        assert [each.what for each in answered.whole] == [str(case.status)]
        assert answered.whole[0].get(b"connection") == [b"close"]
    else:
        assert [(each.what, each.body) for each in come] == [*case.come, END]
        assert [each.what for each in answered.whole] == ["200"] * len(come)


def test_no_head_says_anything_of_framing_but_once(ambassador, upstream):
    every = [(case, listener) for case in CASES for listener in (":0", "127.0.0.4:0") if not case.status]
    for case, listener in every:
        come, _ = attack(ambassador, upstream, case.sent, listener)
        for each in come:
            names = [name.replace(b"_", b"-") for name, _ in each.headers]
            assert names.count(b"host") == 1
            assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
            assert not {b"keep-alive", b"proxy-connection", b"http2-settings"} & set(names)
            trailing = [name for name, _ in each.trailers]
            assert trailing in ([], [b"x-sum"])


def test_what_a_connection_names_does_not_take_out_what_we_say(ambassador, upstream):
    names = b"Connection: X-Forwarded-For, X-Forwarded-Proto, X-Request-ID, Host, Authorization, close"
    come, _ = attack(ambassador, upstream, get(names, b"Authorization: Bearer mine", b"X-Forwarded-For: 6.6.6.6"))
    (got,) = come
    assert got.get(b"x-forwarded-for") == [b"127.0.0.1"]
    assert got.get(b"x-forwarded-proto") == [b"http"]
    assert got.get(b"x-request-id")
    assert got.get(b"authorization") == [b"Bearer mine"]


@pytest.mark.parametrize(
    "name",
    [b"X-Forwarded-For", b"X_Forwarded_For", b"x-FORWARDED_for", b"X-Real_IP", b"Forwarded", b"X_Real-IP"],
)
def test_what_a_client_says_of_itself_does_not_arrive_however_it_is_spelt(ambassador, upstream, name):
    come, _ = attack(ambassador, upstream, get(name + b": 6.6.6.6"))
    assert [each.what for each in come] == ["GET /a"]


def test_a_connection_does_not_take_out_what_a_rule_has_let_pass(ambassador, upstream):
    sent = get(b"Connection: X-Role, x_role, X-Other, close", b"X-Role: guest", b"X-Other: 1")
    come, _ = attack(ambassador, upstream, sent, "127.0.0.3:0")
    assert [(each.get(b"x-role"), each.get(b"x-other")) for each in come] == [([b"guest"], [])]


def test_trailers_do_not_say_what_is_removed_or_set_by_us(ambassador, upstream):
    for name in (b"X-Tenant", b"X_Tenant", b"X-Role", b"X-Secret-Key", b"x_secret_key", b"X-Trace", b"X_Trace"):
        sent = chunks(b"3\r\nabc\r\n0\r\n%b: evil\r\nX-Sum: 1\r\n\r\n" % name, b"X-Role: guest")
        come, _ = attack(ambassador, upstream, sent, "127.0.0.3:0")
        assert [(each.what, each.body, each.trailers) for each in come] == [(*A, [(b"x-sum", b"1")])]
        assert come[0].get(b"x-tenant") == [b"ours"]


LARGE = [
    ("a target", get(line=b"GET /" + b"a" * 300 + b" HTTP/1.1"), 414),
    ("a target without an end", b"GET /" + b"a" * 3000, 431),
    ("one header", get(b"X: " + b"a" * 2000), 431),
    ("one header without an end", get()[:-2] + b"X: " + b"a" * 5000, 431),
    ("many headers", get(*(b"X-%d: a" % number for number in range(300))), 431),
    ("a known body", post(b"Content-Length: 1001", body=b"a" * 1001), 413),
    ("a body that is said to be very large", post(b"Content-Length: 999999999999999999"), 413),
    ("a body in chunks", chunks(b"3e9\r\n" + b"a" * 1001 + b"\r\n0\r\n\r\n"), 413),
    ("a body in very many chunks", chunks(b"1\r\na\r\n" * 1001 + b"0\r\n\r\n"), 413),
    ("a trailer", chunks(b"1\r\na\r\n0\r\nX: " + b"a" * 3000 + b"\r\n\r\n"), 400),
    ("many trailers", chunks(b"1\r\na\r\n0\r\n" + b"X: a\r\n" * 1000 + b"\r\n"), 400),
]


@pytest.mark.parametrize(("sent", "status"), [each[1:] for each in LARGE], ids=[each[0] for each in LARGE])
def test_what_is_too_large_is_refused(ambassador, upstream, sent, status):
    come, answered = attack(ambassador, upstream, sent + AFTER, "127.0.0.2:0")
    first, *others = [each.what for each in answered.whole]
    assert first == str(status)
    # Where it is clear where it ends, the next one is served.
    assert [each.what for each in come] == ["GET /after"] * len(others)


def test_very_many_requests_at_once_are_each_answered(ambassador, upstream):
    come, answered = attack(ambassador, upstream, AFTER * 500)
    assert [each.what for each in come] == ["GET /after"] * 500
    assert len(answered.whole) == 500


def test_what_follows_a_refused_body_is_not_taken_for_a_request(ambassador, upstream):
    for sent in (
        get(b"Content-Length: %d" % len(EVIL), line=b"TRACE /a HTTP/1.1") + EVIL + AFTER,
        get(b"Transfer-Encoding: chunked", line=b"TRACE /a HTTP/1.1") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVIL), EVIL),
        post(b"Expect: 100-continue", b"Content-Length: 2000", body=EVIL * 50),
    ):
        come, _ = attack(ambassador, upstream, sent, "127.0.0.2:0")
        assert all(each.what != "GET /evil" for each in come)


# What a hostile upstream answers

POISON = HEAD + LENGTH % (6, b"poison")
ANSWERS: list[tuple[str, bytes, str]] = [
    # name, what the upstream says, and what the client gets: a status with its body, or "cut"
    ("as it should be", HEAD + LENGTH % (2, b"ok"), "200 ok"),
    ("no words", b"HTTP/1.1 200\r\n" + LENGTH % (2, b"ok"), "200 ok"),
    ("more than it says", HEAD + LENGTH % (2, b"ok" + POISON), "200 ok"),
    ("two answers", HEAD + LENGTH % (2, b"ok") + POISON, "200 ok"),
    ("more after chunks", HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + POISON, "200 ok"),
    ("more than it says, after much", HEAD + LENGTH % (300_000, b"a" * 300_000 + POISON), f"200 {'a' * 300_000}"),
    ("more after many chunks", HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"a\r\n0123456789\r\n" * 20_000
     + b"0\r\n\r\n" + POISON, f"200 {'0123456789' * 20_000}"),
    ("a body where there is none", b"HTTP/1.1 204 No\r\nContent-Length: 6\r\n\r\npoison" + POISON, "204 "),
    ("a body of a 304", b"HTTP/1.1 304 No\r\nContent-Length: 6\r\n\r\n" + POISON, "304 "),
    ("a bare CR in a value", HEAD + b"X: a\rContent-Length: 0\r\n" + LENGTH % (2, b"ok"), "502"),
    ("a bare LF in a value", HEAD + b"X: a\nContent-Length: 0\r\n" + LENGTH % (2, b"ok"), "502"),
    ("bare LFs", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "502"),
    ("a folded line", HEAD + b"X: a\r\n b\r\n" + LENGTH % (2, b"ok"), "502"),
    ("a NUL", HEAD + b"X: a\x00b\r\n" + LENGTH % (2, b"ok"), "502"),
    ("a space before a colon", HEAD + b"X : a\r\n" + LENGTH % (2, b"ok"), "502"),
    ("a NUL in the words", b"HTTP/1.1 200 O\x00K\r\n" + LENGTH % (2, b"ok"), "502"),
    ("a control in the words", b"HTTP/1.1 200 O\x01K\r\n" + LENGTH % (2, b"ok"), "502"),
    ("a bare CR in the words", b"HTTP/1.1 200 O\rK\r\n" + LENGTH % (2, b"ok"), "502"),
    ("two lengths", HEAD + b"Content-Length: 3\r\n" + LENGTH % (2, b"ok"), "502"),
    ("two lengths that are the same", HEAD + b"Content-Length: 2\r\n" + LENGTH % (2, b"ok"), "502"),
    ("a list of lengths", HEAD + b"Content-Length: 2, 2\r\n\r\nok", "502"),
    ("a signed length", HEAD + b"Content-Length: +2\r\n\r\nok", "502"),
    ("an empty length", HEAD + b"Content-Length:\r\n\r\nok", "502"),
    ("a huge length", HEAD + b"Content-Length: 99999999999999999999\r\n\r\nok", "502"),
    ("a length and chunks", HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
     "502"),
    ("gzip before chunks", HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "502"),
    ("an unknown coding", HEAD + b"Transfer-Encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "502"),
    ("chunks in HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "502"),
    ("no status line", b"poison, with no line before it\r\n\r\n", "502"),
    ("no version", b"HTTP 200 OK\r\n\r\nok", "502"),
    ("another version", b"HTTP/1.2 200 OK\r\n" + LENGTH % (2, b"ok"), "502"),
    ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "502"),
    ("frames of HTTP/2", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18), "502"),
    ("an empty line first", b"\r\n" + HEAD + LENGTH % (2, b"ok"), "502"),
    ("a status of two digits", b"HTTP/1.1 20 OK\r\n" + LENGTH % (2, b"ok"), "502"),
    ("a status of four digits", b"HTTP/1.1 2000 OK\r\n" + LENGTH % (2, b"ok"), "502"),
    ("a status below all", b"HTTP/1.1 099 OK\r\n" + LENGTH % (2, b"ok"), "502"),
    ("a status of nothing", b"HTTP/1.1 000 OK\r\n" + LENGTH % (2, b"ok"), "502"),
    ("a 101 that nobody has asked for", b"HTTP/1.1 101 Sure\r\nConnection: Upgrade\r\nUpgrade: evil\r\n\r\n" + POISON,
     "502"),
    ("very many 1xx", b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n" * 1000 + HEAD + LENGTH % (2, b"ok"), "502"),
    ("a 1xx with a body", b"HTTP/1.1 103 Early\r\nContent-Length: 6\r\n\r\npoison" + HEAD + LENGTH % (2, b"ok"), "502"),
    ("a huge head", HEAD + b"X: " + b"a" * 100_000 + b"\r\n" + LENGTH % (2, b"ok"), "502"),
    ("very many headers", HEAD + b"X: abcdefgh\r\n" * 10_000 + LENGTH % (2, b"ok"), "502"),
    ("a head without an end", HEAD + b"X: " + b"a" * 1000, "502"),
    ("nothing", b"", "502"),
    ("less than it says", HEAD + LENGTH % (20, b"ok"), "cut"),
    ("chunks without an end", HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "cut"),
    ("a chunk without an end", HEAD + b"Transfer-Encoding: chunked\r\n\r\n20\r\nok", "cut"),
    ("a size that is none", HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\nxyz\r\n0\r\n\r\n", "cut"),
    ("a chunk that is longer", HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\noko\r\n0\r\n\r\n", "cut"),
    ("a bare LF after a size", HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n", "cut"),
    ("huge trailers", HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: " + b"a" * 100_000, "cut"),
    ("a trailer that frames", HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nContent-Length: 0\r\n\r\n",
     "200 ok"),
    ("a trailer that splits", HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: a\nSet-Cookie: b\r\n\r\n",
     "cut"),
    ("no length", HEAD + b"\r\nok", "200 ok"),
]  # fmt: skip


@pytest.fixture(scope="module")
def hostile() -> Iterator[Ambassador]:
    answers = {f"GET /{number}": said for number, (_, said, _) in enumerate(ANSWERS)}
    ending = {f"GET /{number}" for number, (name, _, kind) in enumerate(ANSWERS)
              if kind in ("502", "cut") or name == "no length"}  # fmt: skip

    def answer(seen: Seen) -> bytes:
        return answers.get(seen.what, HEAD + LENGTH % (5, b"clean"))

    with (
        Recorder(answer, lambda seen: seen.what in ending) as upstream,
        running(f":0=http://{upstream.address}?retry-tries=0") as ambassador,
    ):
        yield ambassador


@pytest.mark.parametrize("number", range(len(ANSWERS)), ids=[each[0] for each in ANSWERS])
def test_an_answer_is_one_or_none_and_the_next_is_the_next_ones(hostile, number):
    expected = ANSWERS[number][2]
    next = b"GET /next HTTP/1.1\r\nHost: client.test\r\n\r\n"
    got = told(hostile.connect(), get(line=b"GET /%d HTTP/1.1" % number) + next)
    read = responses(got)
    assert b"poison" not in got
    assert b"Set-Cookie" not in got
    if expected == "cut" and not read.whole:
        assert len(read.begun) == 1
    else:
        # It is cut where a part of it has been passed on; else there is another answer instead.
        expected = expected.replace("cut", "502")
        assert not read.error, got
        first, second = read.whole
        said = f"{first.what} {first.body.decode()}"
        ours = "understood" in said or "broke off" in said
        assert said == expected or (first.what == expected == "502" and ours)
        assert second.body == b"clean"
    assert responses(told(hostile.connect(), next)).whole[0].body == b"clean"
    assert hostile.process.poll() is None


def test_what_an_upstream_says_unasked_is_nobodys_answer():
    heard, over = threading.Event(), threading.Event()

    def serve(connection: socket.socket) -> None:
        while b"\r\n\r\n" in connection.recv(65536):
            connection.sendall(HEAD + LENGTH % (5, b"clean"))
            if not over.is_set():
                assert heard.wait(30)
                connection.sendall(POISON)
                with contextlib.suppress(ConnectionResetError):  # it is closed over what was not read
                    while connection.recv(65536):
                        pass
                over.set()

    with (
        Upstream(serve) as upstream,
        running(f":0=http://{upstream.address}") as ambassador,
        ambassador.connect() as client,
        client.makefile("rb") as answers,
    ):
        client.sendall(AFTER)
        assert b"".join(iter(answers.readline, b"\r\n"))
        assert answers.read(5) == b"clean"
        heard.set()
        assert over.wait(30)  # that connection is not used again
        client.sendall(AFTER)
        assert b"".join(iter(answers.readline, b"\r\n")).startswith(b"HTTP/1.1 200")
        assert answers.read(5) == b"clean"


def test_the_rest_of_a_body_that_was_answered_early_is_no_request_on_either_side():
    heads: list[bytes] = []
    rests: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        heads.append(connection.recv(65536))
        connection.sendall(HEAD + LENGTH % (5, b"early"))
        rests.extend(iter(lambda: connection.recv(65536), b""))

    with Upstream(serve) as upstream, running(f":0=http://{upstream.address}") as ambassador:
        for _ in range(3):
            with ambassador.connect() as client, contextlib.suppress(ConnectionError):
                client.sendall(post(b"Content-Length: 1000", body=b"abc"))
                got = client.recv(65536)
                assert b"early" in got or b"early" in client.recv(65536)
                client.sendall(b"a" * 997 + EVIL)
                while client.recv(65536):
                    pass
        assert len(heads) == 3
        assert all(each.startswith(b"POST /a ") for each in heads)
        assert b"evil" not in b"".join(rests)


def test_an_answer_to_head_has_no_body_whatever_comes():
    with (
        Recorder(lambda seen: POISON if seen.what == "HEAD /a" else HEAD + LENGTH % (5, b"clean")) as upstream,
        running(f":0=http://{upstream.address}") as ambassador,
    ):
        for _ in range(5):
            got = told(ambassador.connect(), get(line=b"HEAD /a HTTP/1.1") + AFTER)
            read = responses(got, ["HEAD", "GET"])
            assert [(each.what, each.body) for each in read.whole] == [("200", b""), ("200", b"clean")]
