"""tcp, unix, tls, grpc, file and cmd: one attempt each, against what is really there."""

from __future__ import annotations

import datetime
import os
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import psutil
import pytest
import trustme

from sidecars.core.errors import WrongSettings
from tests.unit.init.answering import PATIENCE, Answering, filtered, for_ever, look, refused, saying, silent

# tcp and unix


def test_a_port_that_takes_connections_is_there() -> None:
    with Answering(silent) as server:
        assert look(f"127.0.0.1:{server.port}").state == "ok"


def test_a_port_without_a_listener_refuses() -> None:
    port = refused()
    result = look(f"127.0.0.1:{port}")
    assert (result.state, result.text.partition(";")[0]) == ("refused", f"refused by 127.0.0.1:{port}")


def test_a_port_that_does_not_answer_is_filtered() -> None:
    with filtered() as port:
        result = look(f"127.0.0.1:{port}", patience=0.3)
    assert (result.state, result.text.partition(";")[0]) == ("filtered", f"no answer from 127.0.0.1:{port}")


def test_another_address_of_the_name_is_enough() -> None:
    with Answering(silent) as server:
        assert look(f"localhost:{server.port}").state == "ok"


def banner(client: socket.socket) -> None:
    client.sendall(b"220 mail ")
    client.sendall(b"ESMTP ready\r\n")
    silent(client)


@pytest.mark.parametrize(("pattern", "state"), [("^220 .*ready", "ok"), ("^221", "not-ready")])
def test_a_banner_is_what_is_said_first(pattern: str, state: str) -> None:
    with Answering(banner) as server:
        assert (
            look(f"tcp://127.0.0.1:{server.port}?banner={pattern}", patience=20 if state == "ok" else 1).state == state
        )


def test_a_banner_without_an_end_is_not_read_for_ever() -> None:
    def endless(client: socket.socket) -> None:
        while True:
            client.sendall(b"\0" * 65536)

    with Answering(endless) as server:
        assert look(f"tcp://127.0.0.1:{server.port}?banner=x").state == "not-ready"


def test_a_socket_in_the_filesystem_takes_connections(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    missing = look(f"unix://{path}")
    assert (missing.state, missing.text) == ("not-ready", f"{path} does not exist")
    with Answering(silent, path=path):
        assert look(f"unix://{path}").state == "ok"
    assert look(f"unix://{path}").state == "refused"


# tls


class Certificates:
    """An authority with certificates for localhost."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.ca = str(folder / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca)

    def server(self, *names: str, ends: datetime.timedelta | None = None) -> ssl.SSLContext:
        expires = {"not_after": datetime.datetime.now(datetime.UTC) + ends} if ends is not None else {}
        before = {"not_before": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)} if expires else {}
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.authority.issue_cert(*(names or ("localhost",)), **expires, **before).configure_cert(context)
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


def test_a_trusted_certificate_is_ok_and_says_how_long(certificates: Certificates) -> None:
    with Answering(silent, certificates.server(ends=datetime.timedelta(days=42, hours=12))) as server:
        result = look(f"tls://localhost:{server.port}?ca={certificates.ca}&min_days=30&names=localhost")
    assert (result.state, result.text) == ("ok", "speaks TLSv1.3; the certificate holds for 42 days")


@pytest.mark.parametrize(
    ("options", "state", "words"),
    [
        ("", "tls", "not trusted"),
        ("?ca={ca}&min_days=50", "tls", "holds for 42."),
        ("?ca={ca}&names=localhost,db", "tls", "is not for db, but for localhost"),
        ("?ca={ca}&server_name=db", "tls", "Hostname mismatch"),
        ("?insecure", "ok", "is not looked at"),
        ("?ca=/no/such/ca.pem", "error", "/no/such/ca.pem is of no use: No such file"),
        ("?ca=/dev/null", "error", "/dev/null is of no use"),
    ],
)
def test_a_certificate_that_is_not_as_wanted_says_why(
    certificates: Certificates, options: str, state: str, words: str
) -> None:
    with Answering(silent, certificates.server(ends=datetime.timedelta(days=42, hours=12))) as server:
        result = look(f"tls://localhost:{server.port}{options.format(ca=certificates.ca)}")
    assert (result.state, words in result.text) == (state, True), result


def test_an_expired_certificate_can_never_be_right(certificates: Certificates) -> None:
    with Answering(silent, certificates.server(ends=datetime.timedelta(days=-1))) as server:
        for scheme in ("tls", "https", "grpcs"):
            result = look(f"{scheme}://localhost:{server.port}?ca={certificates.ca}")
            assert (result.state, result.text) == ("impossible", "the certificate has expired; renew it")


def test_what_speaks_no_tls_is_said_to(certificates: Certificates) -> None:
    with Answering(banner) as server:
        result = look(f"tls://localhost:{server.port}")
    assert result.state == "tls"
    assert "does it speak TLS there" in result.text
    with Answering(lambda client: client.close()) as server:
        assert look(f"tls://localhost:{server.port}").state == "reset"


def test_https_is_http_by_tls(certificates: Certificates) -> None:
    said = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    with Answering(said, certificates.server()) as server:
        assert look(f"https://localhost:{server.port}/?ca={certificates.ca}&body=ok").state == "ok"


def test_options_of_tls_that_contradict_are_refused() -> None:
    for options in ("insecure&min_days=3", "cert_key=/x", "server_name=a..b", "min_days=many", "insecure=perhaps"):
        with pytest.raises(WrongSettings):
            look(f"tls://localhost:1?{options}")


# grpc: the other end is the h2 library's server; grpcio itself is not installed


def health(respond: Callable[[h2.connection.H2Connection, bytes], None]) -> Callable[[socket.socket], None]:
    def handle(client: socket.socket) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        client.sendall(connection.data_to_send())
        request = b""
        while data := client.recv(65536):
            try:
                events = connection.receive_data(data)
            except h2.exceptions.ProtocolError:
                return  # The client has ended it before.
            for event in events:
                if isinstance(event, h2.events.DataReceived):
                    request += event.data or b""
                if isinstance(event, h2.events.StreamEnded):
                    respond(connection, request)
            client.sendall(connection.data_to_send())

    return handle


def serving(data: bytes, status: str = "0") -> Callable[[h2.connection.H2Connection, bytes], None]:
    def respond(connection: h2.connection.H2Connection, request: bytes) -> None:
        assert request == b"\0\0\0\0\5\x0a\3a.B"
        connection.send_headers(1, [(":status", "200"), ("content-type", "application/grpc")])
        connection.send_data(1, data)
        connection.send_headers(1, [("grpc-status", status), ("grpc-message", "so\x1b")], end_stream=True)

    return respond


def trailers_only(connection: h2.connection.H2Connection, request: bytes) -> None:
    connection.send_headers(1, [(":status", "200"), ("grpc-status", "12")], end_stream=True)


def flood(connection: h2.connection.H2Connection, request: bytes) -> None:
    connection.send_headers(1, [(":status", "200")])
    connection.send_data(1, b"x" * 16_000)
    connection.send_data(1, b"x" * 16_000)
    connection.send_data(1, b"x" * 16_000)
    connection.send_data(1, b"x" * 16_000)
    for _ in range(500):
        connection.ping(b"12345678")


GRPC = [
    (serving(b"\0\0\0\0\2\x08\1"), "ok", "says SERVING"),
    (serving(b"\0\0\0\0\2\x08\2"), "not-ready", "says NOT_SERVING"),
    (serving(b"", "5"), "not-ready", r"does not know the service ('so\x1b')"),
    (serving(b"", "16"), "auth", "wants credentials"),
    (serving(b"", "99"), "not-ready", "gRPC's status '99'"),
    (serving(b"\0\0\0\0\2\x08"), "not-ready", "says -1"),
    (trailers_only, "not-ready", "has no health service; look at it by tcp://"),
    (lambda c, _: c.send_headers(1, [(":status", "404")], end_stream=True), "not-ready", "answers HTTP '404'"),
    (lambda c, _: c.reset_stream(1, 8), "reset", "breaks off"),
    (lambda c, _: c.close_connection(11), "reset", "ends the connection with HTTP/2's error"),
    (flood, "not-ready", "more than 64 KiB"),
]  # fmt: skip


@pytest.mark.parametrize(("respond", "state", "words"), GRPC)
def test_a_health_service_is_serving_or_says_why_not(
    respond: Callable[[h2.connection.H2Connection, bytes], None], state: str, words: str
) -> None:
    with Answering(health(respond)) as server:
        result = look(f"grpc://127.0.0.1:{server.port}/a.B")
    assert (result.state, words in result.text) == (state, True), result


def test_what_speaks_no_http2_is_said_to() -> None:
    with Answering(for_ever(b"HTTP/1.1 400 Bad Request\r\n\r\n", b"")) as server:
        result = look(f"grpc://127.0.0.1:{server.port}")
    assert (result.state, "does not speak HTTP/2" in result.text) == ("not-ready", True)


# file


def test_a_file_is_there_or_not(tmp_path: Path) -> None:
    path = tmp_path / "ready"
    assert look(f"file://{path}").text == "does not exist"
    path.touch()
    assert look(f"file://{path}").state == "ok"
    assert look(f"file://{path}?nonempty").text == "is empty"
    path.write_text("state=ready\n")
    assert look(f"file://{path}?nonempty&contains=ready").state == "ok"
    assert look(f"file://{path}?contains=done").text == "does not contain 'done'"
    assert look(f"file://{tmp_path}?nonempty").state == "ok"
    assert look(f"file://{tmp_path}?contains=x").text == "is no file that could contain anything"
    assert look(f"file://{path}/x").text == "does not exist"


def test_a_pipe_is_not_opened_to_wait_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert look(f"file://{tmp_path}/pipe").state == "ok"
    assert look(f"file://{tmp_path}/pipe?contains=x").state == "not-ready"


def test_a_file_is_newer_than_another_or_than_the_start(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    new.touch()
    assert look(f"file://{new}?newer={old}").text == f"is there, but {old} is not, to be newer than"
    old.touch()
    os.utime(old, (1, 1))
    assert look(f"file://{new}?newer={old}").state == "ok"
    assert look(f"file://{old}?newer={new}").text == f"is not newer than {new}"
    assert look(f"file://{old}?newer=start").text == "is from before this program's start"
    os.utime(new, (time.time() + 60,) * 2)
    assert look(f"file://{new}?newer=start").state == "ok"
    with pytest.raises(WrongSettings, match="start, or the path of a file"):
        look(f"file://{new}?newer=yesterday")


# cmd


@pytest.mark.parametrize(
    ("command", "state", "words"),
    [
        ("cmd:sh -c 'echo one; echo two'", "ok", "exits 0: 'two'"),
        ("cmd:sh -c 'echo bad >&2; exit 3'", "not-ready", "exits 3: 'bad'"),
        ("cmd?exit=3:sh -c 'exit 3'", "ok", "exits 3"),
        ("cmd?exit=3:true", "not-ready", "exits 0, expected 3"),
        ("cmd?output=^up$:echo up", "ok", "exits 0: 'up'"),
        ("cmd?output=^up$:echo down", "not-ready", "its output does not match: 'down'"),
        ("cmd:sh -c 'kill -9 $$'", "not-ready", "was ended by SIGKILL"),
        ("cmd:/no/such/program", "not-ready", "there is no such program"),
        ("cmd:/etc/passwd", "error", "Permission denied"),
        ("cmd:head -c 1000000 /dev/zero", "ok", "exits 0"),
    ],
)
def test_a_program_says_it_by_its_exit_code(command: str, state: str, words: str) -> None:
    result = look(command)
    assert (result.state, words in result.text) == (state, True), result
    assert len(result.text) < 500


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_program_that_takes_too_long_is_killed_with_what_it_started(tmp_path: Path) -> None:
    script = f"cd {tmp_path}; sleep 600 & touch $!.pid $$.pid; echo on it; sleep 600"
    result = look(f'cmd:sh -c "{script}"', patience=2.0)
    assert (result.state, result.text) == ("not-ready", "was killed, for it took longer than 2 s: 'on it'")
    started = [int(each.stem) for each in tmp_path.glob("*.pid")]
    assert len(started) == 2
    deadline = time.monotonic() + PATIENCE
    while any(map(runs, started)):
        assert time.monotonic() < deadline


def test_a_program_that_there_is_not_is_refused() -> None:
    for command in ("cmd:no-such-program -x", "cmd:sh 'x", "cmd?exit=many:true"):
        with pytest.raises(WrongSettings):
            look(command)
