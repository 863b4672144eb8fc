"""What heads become on their way."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from sidecars.ambassador.http.changing import Changes, changes
from sidecars.ambassador.http.forwarding import Client, Forwarding, Origin, origin, request_head
from sidecars.ambassador.http.framing import arrival, reply
from sidecars.ambassador.http.retrying import asked_to_wait, backoff
from sidecars.ambassador.http.settings import (
    HeaderChanges,
    HeaderRewrite,
    HeaderValue,
    Http,
    PathRewrite,
    Retry,
)
from sidecars.ambassador.settings import ClientTls, Upstream
from sidecars.core.units import Seconds

CLIENT = Client("10.0.0.7", 8080, False)
ORIGIN = Origin("https", b"api.example", b"/v1")


def sent(http: Http, *headers: bytes, client: Client = CLIENT) -> dict[bytes, bytes]:
    head = b"\r\n".join([b"GET / HTTP/1.1", b"Host: shop.test", *headers, b"", b""])
    forwarding = Forwarding(http)
    pairs = forwarding.headers(arrival(head, forwarding.id_low), client, ORIGIN)
    assert len({name.lower() for name, _ in pairs}) == len(pairs), pairs
    return {name.lower(): value for name, value in pairs}


@pytest.mark.parametrize(
    ("address", "tls", "path", "expected"),
    [
        ("api.example:443", True, "/v1", Origin("https", b"api.example", b"/v1")),
        ("api.example:80", True, None, Origin("https", b"api.example:80", b"")),
        ("api.example:80", False, None, Origin("http", b"api.example", b"")),
        ("api.example:8080", False, None, Origin("http", b"api.example:8080", b"")),
        ("[2001:db8::1]:80", False, None, Origin("http", b"[2001:db8::1]", b"")),
        ("/run/api.sock", False, None, Origin("http", b"localhost", b"")),
        ("srv://_http._tcp.api.example", False, None, Origin("http", b"api.example", b"")),
    ],
)
def test_an_upstream_has_a_name_of_its_own(address, tls, path, expected):
    assert origin(Upstream(address=address, tls=ClientTls() if tls else None, path=path)) == expected


def test_the_host_is_the_upstreams_or_the_clients_or_another():
    assert sent(Http())[b"host"] == b"api.example"
    assert sent(Http(host="client"))[b"host"] == b"shop.test"
    assert sent(Http(host="other.test"))[b"host"] == b"other.test"


def test_what_clients_say_of_themselves_is_taken_out():
    said = (b"X-Forwarded-For: 1.1.1.1", b"x_forwarded_for: 1.1.1.1", b"Forwarded: for=1.1.1.1", b"X-Real-IP: 1.1.1.1")
    got = sent(Http(), *said)
    assert got[b"x-forwarded-for"] == b"10.0.0.7"
    assert not {b"x_forwarded_for", b"forwarded", b"x-real-ip"} & got.keys()
    got = sent(Http(forwarded=()), *said)
    assert not {b"x-forwarded-for", b"x_forwarded_for", b"forwarded", b"x-real-ip"} & got.keys()


def test_what_trusted_clients_say_is_added_to():
    http = Http(trust_forwarded=True, forwarded=("x-forwarded", "forwarded"))
    got = sent(http, b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-Proto: https", b"Forwarded: for=1.1.1.1")
    assert got[b"x-forwarded-for"] == b"1.1.1.1, 10.0.0.7"
    assert (got[b"x-forwarded-proto"], got[b"x-forwarded-port"]) == (b"https", b"8080")
    assert got[b"forwarded"] == b'for=1.1.1.1, for=10.0.0.7;proto=http;host="shop.test"'


def test_forwarded_quotes_what_has_colons():
    got = sent(Http(forwarded=("forwarded",)), client=Client("2001:db8::1", 80, True))
    assert got[b"forwarded"] == b'for="[2001:db8::1]";proto=https;host="shop.test"'
    got = sent(Http(forwarded=("x-forwarded", "forwarded")), client=Client("", 0, False))
    assert got[b"forwarded"].startswith(b"for=unknown")
    assert not {b"x-forwarded-for", b"x-forwarded-port"} & got.keys()


def test_connection_takes_out_what_it_names_but_not_what_the_message_is_made_of():
    got = sent(
        Http(), b"Connection: x-a, content-type, authorization", b"X-A: b", b"Content-Type: c", b"Authorization: d"
    )
    assert b"x-a" not in got
    assert (got[b"content-type"], got[b"authorization"]) == (b"c", b"d")


def test_an_id_that_is_none_is_not_kept():
    assert sent(Http(), b"X-Request-ID: mine")[b"x-request-id"] == b"mine"
    assert b"x-request-id" not in sent(Http(), b"X-Request-ID: two words")
    assert b"x-request-id" not in sent(Http(), b"X-Request-ID: " + b"a" * 200)
    assert sent(Http(request_id=None), b"X-Request-ID: two words")[b"x-request-id"] == b"two words"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/a", b"/v1/a"),
        (b"/old/x?y=/old", b"/v1/new/x?y=/old"),
        (b"/old", b"/v1/new"),
        (b"/old?x", b"/v1/new?x"),
        (b"/older", b"/v1/older"),
        (b"/gone/x", b"/v1/x"),
        (b"/gone", b"/v1/"),
        (b"/dir/x", b"/v1/other/x"),
        (b"*", b"*"),
    ],
)
def test_paths_get_another_beginning(target, expected):
    rewrites = tuple(PathRewrite(*pair) for pair in (("/old", "/new"), ("/gone", "/"), ("/dir/", "/other")))
    request = arrival(b"OPTIONS %b HTTP/1.1\r\nHost: a\r\n\r\n" % target, None).request
    assert Forwarding(Http(rewrite=rewrites)).target(request, ORIGIN) == expected


def test_headers_are_removed_then_rewritten_then_set_then_added():
    wanted = HeaderChanges(
        remove=("X-Gone", "X-All-*"),
        rewrite=(HeaderRewrite("X-Name", "^(a+)b", "\\1c"), HeaderRewrite("X-Line", "a", "\r\nX-Evil: b")),
        set=(HeaderValue("X-Set", "new"),),
        add=(HeaderValue("X-Add", "two"),),
    )
    before = [
        (b"x-gone", b"1"), (b"X-All-A", b"1"), (b"X-Name", b"aab aab"), (b"X-Line", b"a"), (b"x-set", b"old"),
        (b"X-Add", b"one"), (b"Content-Length", b"3"),
    ]  # fmt: skip
    assert Changes(wanted).made(before) == [
        (b"X-Name", b"aac aab"), (b"X-Line", b"X-Evil: b"), (b"X-Add", b"one"), (b"Content-Length", b"3"),
        (b"X-Set", b"new"), (b"X-Add", b"two"),
    ]  # fmt: skip
    assert changes(HeaderChanges()) is None


def test_a_request_is_framed_by_what_is_sent():
    come = arrival(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTE: trailers\r\n\r\n", None)
    head = request_head("POST", b"/", [(b"Host", b"a")], come, 3)
    assert head == b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: TE\r\nTE: trailers\r\n\r\n"
    assert b"Transfer-Encoding: chunked" in request_head("POST", b"/", [], come, None)
    assert b"Content-Length: 0" in request_head("POST", b"/", [], come, 0)
    assert b"Content-Length" not in request_head("GET", b"/", [], come, 0)


def test_an_answer_is_framed_by_what_is_sent():
    said = (b"Transfer-Encoding: chunked", b"Trailer: X", b"Keep-Alive: 5", b"Connection: x-a", b"X-A: b")
    answer = reply(b"\r\n".join((b"HTTP/1.1 200 Fine", *said, b"", b"")), "GET")
    forwarding = Forwarding(Http())
    assert forwarding.reply(answer, old=False, keep=True, chunked=True) == (
        b"HTTP/1.1 200 Fine\r\nTrailer: X\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert forwarding.reply(answer, old=True, keep=False, chunked=False) == (
        b"HTTP/1.1 200 Fine\r\nTrailer: X\r\nConnection: close\r\n\r\n"
    )


def test_retry_after_is_seconds_or_a_date():
    now = 1_000_000.0
    date = format_datetime(datetime.fromtimestamp(now + 30, UTC), usegmt=True).encode()
    for value, seconds in (
        (b"7", 7),
        (date, 30),
        (b"soon", None),
        (b"-1", None),
        (b"Thu, 01 Jan 1970 00:00:00 GMT", 0),
    ):
        assert asked_to_wait([(b"retry-After", value)], now) == seconds
    assert asked_to_wait([], now) is None


def test_waits_double_up_to_the_most():
    retry = Retry(backoff=Seconds(0.1), max_backoff=Seconds(0.5))
    assert [backoff(retry, count, 1.0) for count in (1, 2, 3, 4, 1000)] == [0.1, 0.2, 0.4, 0.5, 0.5]
    assert backoff(retry, 1, 0.0) == 0.05
