from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from sidecars.ambassador.checks import Asked, Standing, ask, keep_asking, unescaped
from sidecars.ambassador.loop import Loop
from sidecars.ambassador.settings import Check, ClientTls, HttpCheck, Redis, RedisCheck, TcpCheck, Upstream
from sidecars.core.units import Seconds, Secret

T = TypeVar("T")

LONG = Seconds(20)
TCP, PING, HTTP = Check(tcp=TcpCheck(), timeout=LONG), Check(redis=RedisCheck(), timeout=LONG), HttpCheck()
HEAD = b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n"


def run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(work)


class Upstreamed:
    """A server that says the next of its answers whenever something has come, then closes or stays silent."""

    def __init__(self, *answers: bytes, greeting: bytes = b"", stays: bool = False) -> None:
        self._answers = answers
        self._greeting = greeting
        self._stays = stays
        self.read = b""
        self.ended = asyncio.Event()

    @asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        yield server.sockets[0].getsockname()[1]
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._greeting)
        for answer in self._answers:
            self.read += await reader.read(4096)
            writer.write(answer)
        try:
            while self._stays and (piece := await reader.read(4096)):
                self.read += piece
        except OSError:
            pass
        writer.close()
        self.ended.set()


def asked(port: int, check: Check, redis: Redis | None = None, **upstream: Any) -> Asked:
    return Asked(("127.0.0.1", port), Upstream(address=f"localhost:{port}", **upstream), check, redis)


def result(server_of: Any, check: Check, redis: Redis | None = None, **upstream: Any) -> tuple[str, bytes]:
    """What a check comes to, and what the server has read."""

    async def check_it() -> tuple[str, bytes]:
        server: Upstreamed = server_of()
        async with server.serving() as port:
            reason = await ask(asked(port, check, redis, **upstream))
            await server.ended.wait()
        return reason, server.read

    return run(check_it())


def test_connecting_is_enough_for_tcp() -> None:
    assert result(lambda: Upstreamed(stays=True), TCP) == ("", b"")


def test_a_closed_port_is_not_well() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert run(ask(asked(bound.getsockname()[1], TCP))) == "Connection refused"


def test_a_socket_file_is_checked_too(tmp_path: Path) -> None:
    path = str(tmp_path / "db.sock")
    whom = Asked(path, Upstream(address=path), TCP)
    assert run(ask(whom)) == "No such file or directory"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        assert run(ask(whom)) == "Connection refused"
        listener.listen()
        assert run(ask(whom)) == ""


@pytest.mark.parametrize(
    ("check", "greeting", "answers", "expected", "read"),
    [
        (TcpCheck(expect="220 "), b"220 mail ready\r\n", [], "", b""),
        (TcpCheck(send="stats\\r\\n", expect="OK"), b"", [b"it is OK"], "", b"stats\r\n"),
        (TcpCheck(send="\\x00\\xff", expect="\\x01"), b"", [b"\x01"], "", b"\0\xff"),
        (TcpCheck(send="x", expect="OK"), b"", [b"NO"], "did not say what is expected in 2 bytes", b"x"),
        (TcpCheck(send="x"), b"", [b""], "", b"x"),
    ],
)
def test_send_and_expect(check: TcpCheck, greeting: bytes, answers: list[bytes], expected: str, read: bytes) -> None:
    found = result(lambda: Upstreamed(*answers, greeting=greeting), Check(tcp=check, timeout=LONG))
    assert found == (expected, read)


def test_an_endless_answer_is_not_read_to_its_end() -> None:
    reason, _ = result(lambda: Upstreamed(b"x" * 10_000_000), Check(tcp=TcpCheck(send="x", expect="y"), timeout=LONG))
    assert reason.startswith("did not say what is expected in 6")


def test_no_answer_in_time_is_not_well() -> None:
    check = Check(redis=RedisCheck(), timeout=Seconds(0.05))
    assert result(lambda: Upstreamed(stays=True), check)[0] == "no answer in 50ms"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"+PONG\r\n", ""),
        (b"-NOAUTH Authentication required.\r\n", ""),
        (b"-NOPERM this user has no permissions\r\n", ""),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "PING is answered -LOADING"),
        (b"-MASTERDOWN Link with MASTER is down\r\n", "PING is answered -MASTERDOWN"),
        (b"-ERR max number of clients reached\r\n", "PING is answered -ERR"),
        (b"HTTP/1.1 400 Bad Request\r\n", "does not speak the Redis protocol"),
        (b"-\x1b[2J\r\n", "does not speak the Redis protocol"),
        (b"+PO", "closed without a whole answer"),
        (b"x" * 100_000, "closed without a whole answer"),
    ],
)
def test_ping(answer: bytes, expected: str) -> None:
    assert result(lambda: Upstreamed(answer), PING, Redis()) == (expected, b"*1\r\n$4\r\nPING\r\n")


def test_ping_is_logged_in_and_tells_no_password() -> None:
    login = Redis(user="app", password=Secret("hunter2"))
    reason, read = result(lambda: Upstreamed(b"+OK\r\n", b"+PONG\r\n"), PING, login)
    assert reason == ""
    assert read == b"*3\r\n$4\r\nAUTH\r\n$3\r\napp\r\n$7\r\nhunter2\r\n*1\r\n$4\r\nPING\r\n"
    answer = b"-ERR unknown command 'AUTH', with args beginning with: 'hunter2'\r\n"
    assert result(lambda: Upstreamed(answer), PING, Redis(password=Secret("hunter2")))[0] == "AUTH is answered -ERR"


@pytest.mark.parametrize(
    ("check", "answer", "expected"),
    [
        (HTTP, HEAD % 204, ""),
        (HTTP, b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD % 200, ""),
        (HTTP, HEAD % 301, "GET / is answered 301"),
        (HTTP, HEAD % 503, "GET / is answered 503"),
        (HttpCheck(status=(401, 403)), HEAD % 403, ""),
        (HttpCheck(status=(401, 403)), HEAD % 200, "GET / is answered 200"),
        (HTTP, b"+PONG\r\n", "does not speak HTTP/1.1"),
        (HTTP, b"HTTP/1.1 200 OK\r\n", "does not speak HTTP/1.1"),
        (HTTP, b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "does not speak HTTP/1.1"),
        (HTTP, b"", "does not speak HTTP/1.1"),
    ],
)
def test_http(check: HttpCheck, answer: bytes, expected: str) -> None:
    assert result(lambda: Upstreamed(answer), Check(http=check, timeout=LONG))[0] == expected


def test_http_names_the_path_and_the_host() -> None:
    check = Check(http=HttpCheck(path="/health?x=1", host="app.example"), timeout=LONG)
    _, read = result(lambda: Upstreamed(HEAD % 200), check)
    assert read.startswith(b"GET /health?x=1 HTTP/1.1\r\nHost: app.example\r\n")


def test_the_proxy_header_comes_first_and_names_nobody() -> None:
    reason, read = result(lambda: Upstreamed(b"+PONG\r\n"), PING, Redis(), proxy_protocol="v1")
    assert (reason, read) == ("", b"PROXY UNKNOWN\r\n*1\r\n$4\r\nPING\r\n")


def test_tls_is_spoken_and_the_certificate_checked(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    async def check_it(**tls: Any) -> str:
        server = Upstreamed(b"+PONG\r\n")
        async with server.serving(context) as port:
            return await ask(asked(port, PING, Redis(), tls=ClientTls(**tls)))

    ca = str(tmp_path / "ca.pem")
    assert run(check_it(ca=ca)) == ""
    assert run(check_it(ca=ca, server_name="off")) == ""
    assert run(check_it(verify=False)) == ""
    assert run(check_it(ca=ca, names=("db.example",))) == "certificate is not for db.example (it names localhost)"
    assert run(check_it()) == "certificate is of an unknown authority"


def test_an_upstream_without_tls_is_said_to_have_none() -> None:
    reason, _ = result(lambda: Upstreamed(b"220 hello\r\n"), PING, Redis(), tls=ClientTls(verify=False))
    assert reason == "it does not speak TLS"


def test_when_we_are_out_of_descriptors_nothing_is_known_of_the_upstream() -> None:
    program = """
import asyncio, os, resource
from sidecars.ambassador.checks import Asked, Unknown, ask
from sidecars.ambassador.settings import Check, TcpCheck, Upstream

async def main():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, hard))
    try:
        print(await ask(Asked(("127.0.0.1", 1), Upstream(address="a:1"), Check(tcp=TcpCheck()))))
    except Unknown as error:
        print("unknown")

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("unknown\n", "")


def test_it_is_asked_at_once_and_again() -> None:
    async def check_it() -> list[str]:
        results: list[str] = []
        enough = asyncio.Event()

        def told(reason: str) -> None:
            results.append(reason)
            if len(results) == 3:
                enough.set()

        with socket.create_server(("127.0.0.1", 0)) as listener:
            check = Check(tcp=TcpCheck(), interval=Seconds(0.1), timeout=LONG)
            whom = asked(listener.getsockname()[1], check)
            work = asyncio.ensure_future(keep_asking(whom, told, lambda a, _: a))
            await asyncio.wait_for(enough.wait(), 30)
            work.cancel()
        return results

    assert run(check_it()) == ["", "", ""]


def standing(results: str, rise: int, fall: int) -> str:
    """What becomes of checks, + well and - not: what is known after each of them."""
    known, check = Standing(), Check(tcp=TcpCheck(), rise=rise, fall=fall)
    text = ""
    for each in results:
        before = known.well
        changed = known.told("" if each == "+" else "broken", check)
        assert changed == (known.well != before)
        assert bool(known.reason) or known.well
        text += "+" if known.well else "-"
    return text


@pytest.mark.parametrize(
    ("results", "rise", "fall", "expected"),
    [
        ("+", 5, 5, "+"),
        ("-", 5, 5, "-"),
        ("+--+---++", 1, 3, "++++++-++"),
        ("+---+-", 1, 3, "+++-++"),
        ("-+-++", 2, 1, "----+"),
        ("+-+-+-", 1, 2, "++++++"),
    ],
)
def test_rise_and_fall(results: str, rise: int, fall: int, expected: str) -> None:
    assert standing(results, rise, fall) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PING\\r\\n", b"PING\r\n"), ("\\x00\\xfF\\t\\\\", b"\0\xff\t\\"), ("ü\\xe4", "ü".encode() + b"\xe4"),
        ("\\\\x41", b"\\x41"), ("\\0", b"\0"), ("", b""),
    ],
)  # fmt: skip
def test_escapes(text: str, expected: bytes) -> None:
    assert unescaped(text) == expected


@pytest.mark.parametrize("text", ["\\q", "\\x4", "\\xgg", "\\"])
def test_unknown_escapes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^\\"):
        unescaped(text)
    with pytest.raises(ValueError, match=r"has expect .* is no escape; write"):
        TcpCheck(expect=text)


@given(st.binary())
def test_every_byte_can_be_written(data: bytes) -> None:
    assert unescaped("".join(f"\\x{byte:02x}" for byte in data)) == data
