from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.unit.init.answering import Answering, Handler, for_ever, look, request, saying, silent

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


UP = answer("200 OK", b'{"status": "UP", "parts": [{"name": "db", "ok": false}]}')
ANSWERS = [
    (OK, "", "ok", "answers 200"),
    (answer("204 No Content"), "", "ok", "answers 204"),
    (answer("503 Service Unavailable"), "", "not-ready", "answers 503 instead of 2xx"),
    (answer("503 Service Unavailable"), "?status=5xx", "ok", "answers 503"),
    (answer("404 Not Found"), "", "not-ready", "answers 404"),
    (answer("401 Unauthorized"), "", "auth", "answers 401; it wants credentials"),
    (answer("403 Forbidden"), "", "auth", "answers 403"),
    (answer("302 Found", b"", "Location: /login"), "", "not-ready", "leads to '/login'; add follow"),
    (OK, "?body=^ok$", "ok", "answers 200"),
    (OK, "?body=ready", "not-ready", "the body does not match: 'ok'"),
    (UP, "?json=status==UP", "ok", "status is 'UP'"),
    (UP, "?json=status==DOWN", "not-ready", "but status is 'UP'"),
    (UP, "?json=parts[0].name", "ok", "parts[0].name is 'db'"),
    (UP, "?json=parts[0].ok", "not-ready", "parts[0].ok is 'false'"),
    (UP, "?json=parts[1].ok", "not-ready", "its JSON has no parts[1].ok"),
    (OK, "?json=status", "not-ready", "not in JSON: 'ok'"),
    (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, "", "ok", "answers 200"),
    (b"HTTP/1.0 200 OK\r\n\r\nok", "?body=ok", "ok", "answers 200"),
]  # fmt: skip

GARBAGE = [
    (for_ever(b"SSH-2.0-OpenSSH_9.2\r\n", b""), "not-ready", "does not answer in HTTP: 'SSH-2.0-OpenSSH_9.2'"),
    (saying(), "reset", "ends the connection without an answer"),
    (saying(b"HTTP/1.1 200"), "reset", "says 'HTTP/1.1 200', and ends the connection"),
    (saying(b"\0" * 200_000), "not-ready", "does not answer in HTTP"),
    (for_ever(b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n" * 100), "not-ready", "does not answer in HTTP"),
    (for_ever(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x" * 10_000), "not-ready", "does not answer in HTTP"),
    (for_ever(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100_000), "not-ready", "the body does not match"),
    (saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "not-ready", "does not answer in HTTP"),
    (saying(b"HTTP/1.1 302 \x1b[2J\r\nLocation: \x1b]0;x\x07\r\n\r\n"), "not-ready", r"leads to '\x1b]0;x\x07'"),
    (saying(answer("200 OK", b"\x1b[2J\xff\xfe")), "not-ready", r"does not match: '\x1b[2J\\xff\\xfe'"),
]


@pytest.mark.parametrize(("said", "options", "state", "words"), ANSWERS)
def test_an_answer_is_ready_or_says_why_not(said: bytes, options: str, state: str, words: str) -> None:
    with Answering(saying(said)) as server:
        result = look(f"http://127.0.0.1:{server.port}/{options}")
    assert (result.state, words in result.text) == (state, True), result


@pytest.mark.parametrize(("handler", "state", "words"), GARBAGE)
def test_a_hostile_answer_is_bounded_and_is_not_ready(handler: Handler, state: str, words: str) -> None:
    with Answering(handler) as server:
        result = look(f"http://127.0.0.1:{server.port}/?body=ready")
    assert (result.state, words in result.text) == (state, True), result
    assert len(result.text) < 500
    assert result.text.isprintable()


def test_a_slow_answer_is_not_waited_for_beyond_the_patience() -> None:
    with Answering(silent) as server:
        result = look(f"http://127.0.0.1:{server.port}/", patience=1)
    assert (result.state, result.text) == ("not-ready", "answers, but not within 1 s")


def test_the_request_is_what_was_asked_for(tmp_path: Path) -> None:
    heard = []

    def handle(client: socket.socket) -> None:
        heard.append(request(client))
        client.sendall(OK)

    (tmp_path / "headers").write_text("Host: front\nX-Api-Key:  k3y \n")
    with Answering(handle) as server:
        url = f"http://127.0.0.1:{server.port}/a%20b?x=1&method=head&header_file={tmp_path}/headers"
        assert look(f"{url}&user=me&password_file={tmp_path}/headers&y").state == "ok"
    first, *headers = heard[0].decode().splitlines()
    assert first == "HEAD /a%20b?x=1&y HTTP/1.1"
    assert {"Host: front", "X-Api-Key: k3y", "Connection: close"} <= set(headers)
    assert [each.partition(" ")[2].split()[0] for each in headers if each.startswith("Authorization:")] == ["Basic"]


def test_a_header_that_is_none_is_an_error_without_its_text(tmp_path: Path) -> None:
    (tmp_path / "headers").write_text("s3cret\n")
    result = look(f"http://127.0.0.1:1/?header_file={tmp_path}/headers")
    assert result.state == "error"
    assert "s3cret" not in result.text


def test_a_redirect_is_followed_on_request_without_the_credentials() -> None:
    heard = []

    def last(client: socket.socket) -> None:
        heard.append(request(client))
        client.sendall(OK)

    with Answering(last) as other:
        there = f"Location: http://localhost:{other.port}/home?x=1"
        with Answering(saying(answer("302 Found", b"", there))) as server:
            assert look(f"http://me:pw@127.0.0.1:{server.port}/?follow").state == "ok"
    assert heard[0].startswith(b"GET /home?x=1 HTTP/1.1")
    assert b"Authorization" not in heard[0]


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("/", "redirects more than 5 times"),
        ("file:///etc/passwd", "which is not followed"),
        ("gopher://x/", "which is not followed"),
        ("http://[::1", "which is no URL"),
        ("http://x:99999/", "which is no URL"),
        ("/a\x01b", "which is no URL"),
        ("http://a..b/", "the name a..b can never exist"),
        ("http://a.invalid/", "the name a.invalid can never exist"),
    ],
)
def test_a_hostile_redirect_is_not_followed(location: str, words: str) -> None:
    with Answering(saying(answer("302 Found", b"", f"Location: {location}"))) as server:
        result = look(f"http://127.0.0.1:{server.port}/?follow")
    assert (result.state, words in result.text) == ("not-ready", True), result
