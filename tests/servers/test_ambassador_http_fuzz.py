"""Requests and answers that are nearly right: what goes through is what h11 reads in them too, or it is refused.

FUZZ_EXAMPLES=5000 tries as many of each.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import termios
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.servers.ambassador import Ambassador, running
from tests.servers.http_judge import Recorder, Seen, Verdict, requests, responses, told

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "120"))
# Another seed each time; what is found is found again by what is printed.
trying = settings(
    max_examples=EXAMPLES, deadline=None, database=None, print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=(Phase.generate, Phase.shrink),
)  # fmt: skip

# Of the messages as they should be

NAMES = [b"X-A", b"X-B", b"x_c", b"Accept", b"X-Long-Name-Of-A-Header"]
VALUES = [b"", b"1", b"a, b", b'"quoted; \\" string"', b"caf\xe9", b"a" * 300, b"chunked", b"\t tabs\tin it"]
SPECIAL = [
    b"Connection: keep-alive", b"Connection: X-A, x-b", b"Keep-Alive: timeout=5", b"TE: trailers", b"Upgrade: h2c",
    b"X-Forwarded-For: 6.6.6.6", b"Forwarded: for=6.6.6.6", b"Proxy-Connection: close", b"X-Request-ID: mine",
]  # fmt: skip
lines = st.one_of(
    st.builds(lambda name, value: b"%b: %b" % (name, value), st.sampled_from(NAMES), st.sampled_from(VALUES)),
    st.sampled_from(SPECIAL),
)
bodies = st.one_of(st.binary(max_size=60), st.sampled_from([b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n", b"0\r\n\r\n"]))


def framed(body: bytes | None, cuts: list[int], trailer: bool) -> tuple[list[bytes], bytes]:
    """The header that frames a body, and the body as it is sent: in chunks where there are cuts."""
    if body is None:
        return [], b""
    if not cuts:
        return [b"Content-Length: %d" % len(body)], body
    edges = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    pieces = [body[at:to] for at, to in itertools.pairwise(edges)]
    sent = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
    return [b"Transfer-Encoding: chunked"], sent + b"0\r\n" + (b"X-Sum: 1\r\n" if trailer else b"") + b"\r\n"


def message(first: bytes, headers: list[bytes], frame: tuple[list[bytes], bytes], place: int) -> bytes:
    """Put it together; what frames it stands anywhere among the headers."""
    at = place % (len(headers) + 1)
    return b"\r\n".join([first, *headers[:at], *frame[0], *headers[at:], b"", frame[1]])


frames = st.builds(framed, st.none() | bodies, st.lists(st.integers(0, 60), max_size=4), st.booleans())
request_lines = st.builds(
    lambda method, target: b"%b %b HTTP/1.1\r\nHost: client.test" % (method, target),
    st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"HEAD", b"PATCH"]),
    st.sampled_from([b"/", b"/a/b?c=d%20e", b"http://client.test/abs", b"/" + b"a" * 200, b'/[]|{}?"<>']),
)
some_requests = st.lists(
    st.builds(message, request_lines, st.lists(lines, max_size=4), frames, st.integers(0, 9)), min_size=1, max_size=3
)
status_lines = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.1 404 Not Found", b"HTTP/1.1 500 ", b"HTTP/1.0 200 OK", b"HTTP/1.1 201 Made"]
)
responses_ = st.builds(message, status_lines, st.lists(lines, max_size=4), frames, st.integers(0, 9))
hints = st.sampled_from([b"", b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"])

# And what is done to them

NASTY = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b"\0", b" ", b"\t", b"\x0b", b":", b";", b",", b"0", b"1", b"F", b"-",
    b"+", b"\x80", b"\xff", b"0\r\n\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"\r\n ",
    b"Content-Length: 0\r\n", b"Transfer-Encoding: identity\r\n", b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.0",
    b"Host: evil\r\n", b"Transfer-Encoding : chunked\r\n", b"Connection: close\r\n", b"\r\nX: y", b"chunked", b"5\r\n",
]  # fmt: skip


class Harm(NamedTuple):
    """What is done to bytes somewhere."""

    kind: str
    place: float
    other: float
    put: bytes
    bit: int


harms = st.lists(
    st.builds(
        Harm, st.sampled_from(["flip", "insert", "insert", "replace", "delete", "double", "swap lines"]),
        st.floats(0, 1), st.floats(0, 1), st.sampled_from(NASTY), st.integers(0, 7),
    ),
    min_size=1, max_size=3,
)  # fmt: skip


def harmed(data: bytes, harm: Harm) -> bytes:
    """Do it."""
    if not data:
        return data
    at = min(int(harm.place * len(data)), len(data) - 1)
    to = min(at + 1 + int(harm.other * 20), len(data))
    match harm.kind:
        case "flip":
            return data[:at] + bytes([data[at] ^ 1 << harm.bit]) + data[at + 1 :]
        case "insert":
            return data[:at] + harm.put + data[at:]
        case "replace":
            return data[:at] + harm.put + data[at + len(harm.put) :]
        case "delete":
            return data[:at] + data[to:]
        case "double":
            return data[:to] + data[at:]
    every = data.split(b"\r\n")
    one, two = int(harm.place * (len(every) - 1)), int(harm.other * (len(every) - 1))
    every[one], every[two] = every[two], every[one]
    return b"\r\n".join(every)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[at:to] for at, to in itertools.pairwise(edges)]


cuts = st.lists(st.integers(0, 2000), max_size=6)

# What must be so

OURS = {
    b"host", b"connection", b"keep-alive", b"te", b"transfer-encoding", b"upgrade", b"content-length", b"forwarded",
    b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"x-forwarded-for", b"x-forwarded-proto",
    b"x-forwarded-host", b"x-forwarded-port", b"x-request-id", b"http2-settings", b"proxy-authentication-info",
    b"x-forwarded-prefix", b"x-real-ip",
}  # fmt: skip


def meant(each: Seen) -> tuple[str, bytes, list[tuple[bytes, bytes]]]:
    """What of a request is the client's: its line, with the target without the host, its body, its headers."""
    tokens = {token.strip().lower() for value in each.get(b"connection") for token in value.split(b",")}
    method, _, target = each.what.partition(" ")
    if target[:7].lower() == "http://" or target[:8].lower() == "https://":
        rest = target.partition("://")[2]
        at = min((found for mark in "/?" if (found := rest.find(mark)) >= 0), default=len(rest))
        target = rest[at:] if rest[at : at + 1] == "/" else f"/{rest[at:]}"
    headers = [
        (name, value)
        for name, value in each.headers
        if name.replace(b"_", b"-") not in OURS and (name not in tokens or name in KEPT)
    ]
    return f"{method} {target}", each.body, headers


KEPT = {b"content-type", b"content-encoding", b"cache-control", b"authorization"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Recorder]:
    with Recorder() as made:
        yield made


@pytest.fixture(scope="module")
def ambassador(upstream: Recorder) -> Iterator[Ambassador]:
    with running(f":0=http://{upstream.address}?retry-tries=0") as made:
        yield made


def passed(ambassador: Ambassador, upstream: Recorder, sent: list[bytes]) -> tuple[list[Seen], Verdict]:
    """Send it, and give what has come of it: to the upstream, and to the client."""
    upstream.begin()
    got = told(ambassador.connect(), sent)
    come, errors, raw = upstream.came()
    assert not errors, (errors, raw)
    for each in come:
        assert not [name for name, value in each.headers if name.replace(b"_", b"-") in OURS and b"6.6.6.6" in value]
    # An answer to HEAD has no body, and to what was not understood as HEAD it has one.
    words = [each.split()[0] for each in requests(b"".join(sent)).begun], [each.what.split()[0] for each in come]
    readings = [responses(got, methods) for methods in words]
    assert not all(each.error for each in readings), (readings, got)
    return come, next(each for each in readings if not each.error)


@trying
@given(stream=some_requests, at=cuts)
def test_requests_arrive_as_they_are_wherever_they_are_cut(ambassador, upstream, stream, at):
    data = b"".join(stream)
    come, answered = passed(ambassador, upstream, pieces(data, at))
    expected = requests(data)
    assert len(expected.whole) == len(stream)
    assert [meant(each) for each in come] == [meant(each) for each in expected.whole]
    assert [each.what for each in answered.whole] == ["200"] * len(stream)


@trying
@given(stream=some_requests, done=harms, at=cuts)
def test_requests_that_are_harmed_arrive_as_others_read_them_or_are_refused(ambassador, upstream, stream, done, at):
    data = b"".join(stream)
    for harm in done:
        data = harmed(data, harm)
    come, answered = passed(ambassador, upstream, pieces(data, at))
    expected = [each for each in requests(data).whole if not each.what.startswith(("TRACE ", "CONNECT "))]
    assert [meant(each) for each in come] == [meant(each) for each in expected[: len(come)]], data
    statuses = [each.what for each in answered.whole]
    assert statuses[: len(come)] == ["200"] * len(come), data
    assert all(status[0] in "45" for status in statuses[len(come) :]), data


def test_requests_are_understood_at_each_place_where_they_may_be_cut(upstream, tmp_path):
    data = (
        message(b"POST /a HTTP/1.1\r\nHost: a", [], framed(b"0\r\n\r\nGET / HTTP", [3], True), 0)
        + message(b"PUT /b HTTP/1.1\r\nHost: a", [b"X-A: b"], framed(b"body", [], False), 0)
        + message(b"GET /c HTTP/1.1\r\nHost: a", [], framed(None, [], False), 0)
    )
    expected = [meant(each) for each in requests(data).whole]
    with running(f"{tmp_path}/s=http://{upstream.address}") as ambassador:
        for at in range(1, len(data)):
            upstream.begin()
            with ambassador.connect() as client:
                client.sendall(data[:at])
                until_read(client)
                assert told(client, data[at:])
            come, errors, _ = upstream.came()
            assert (errors, [meant(each) for each in come]) == ([], expected), at


def until_read(client: socket.socket) -> None:
    """Wait until the other side of a unix socket has taken all that was sent."""
    deadline, left = time.monotonic() + 30, b"\1\0\0\0"
    while left != bytes(4):
        assert time.monotonic() < deadline
        left = fcntl.ioctl(client.fileno(), termios.TIOCOUTQ, bytes(4))


@pytest.fixture(scope="module")
def saying() -> Iterator[tuple[list[list[bytes]], Ambassador]]:
    """What the upstream says, piece by piece, and an ambassador before it."""
    said: list[list[bytes]] = [[]]
    with (
        Recorder(lambda _: said[0], lambda _: True) as upstream,
        running(f":0=http://{upstream.address}?retry-tries=0&upstream-idle=0") as made,
    ):
        yield said, made


def answered(saying: tuple[list[list[bytes]], Ambassador], method: str, said_now: list[bytes]) -> Verdict:
    """What a client reads of an upstream's answer."""
    said, ambassador = saying
    said[0] = said_now
    got = told(ambassador.connect(), f"{method} / HTTP/1.1\r\nHost: client.test\r\n\r\n".encode())
    return responses(got, [method])


def told_of(each: Seen) -> tuple[Any, ...]:
    """What of an answer is the upstream's."""
    tokens = {token.strip().lower() for value in each.get(b"connection") for token in value.split(b",")}
    hop = {b"connection", b"keep-alive", b"te", b"transfer-encoding", b"upgrade", b"proxy-connection",
           b"proxy-authenticate", b"proxy-authorization", b"content-length", b"http2-settings",
           b"proxy-authentication-info"}  # fmt: skip
    headers = [pair for pair in each.headers if pair[0] not in hop and (pair[0] not in tokens or pair[0] in KEPT)]
    return each.what, each.body, headers


methods = st.sampled_from(["GET", "GET", "POST", "HEAD"])


@trying
@given(method=methods, hint=hints, answer=responses_, at=cuts)
def test_answers_arrive_as_they_are_wherever_they_are_cut(saying, method, hint, answer, at):
    data = hint + answer
    read = answered(saying, method, pieces(data, at))
    (expected,) = responses(data, [method]).whole[:1] or [None]
    if expected is None or (b"HTTP/1.0" in data and b"Transfer-Encoding" in data):
        return  # HTTP/1.0 knows no chunks
    assert [told_of(each) for each in read.whole] == [told_of(expected)], data


@trying
@given(method=methods, hint=hints, answer=responses_, done=harms, at=cuts)
def test_answers_that_are_harmed_arrive_as_others_read_them_or_not_at_all(saying, method, hint, answer, done, at):
    data = hint + answer
    for harm in done:
        data = harmed(data, harm)
    expected = responses(data, [method])
    read = answered(saying, method, pieces(data, at))
    if not read.whole:
        assert len(read.begun) <= 1
        return
    (one,) = read.whole
    assert not read.error, data
    if one.what == "502" and one.get(b"x-request-id") and one.body[:12] in (b"", b"the upstream"):
        return  # ours
    assert expected.whole, (data, one)
    assert told_of(one) == told_of(expected.whole[0]), data
