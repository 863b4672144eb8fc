"""The probes that speak a service's own protocol, with servers that do what Debian's real ones cannot be made to do."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import ssl
import struct
from pathlib import Path

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.core.errors import WrongSettings
from sidecars.init.checks import Result
from sidecars.init.scram import Refused, Scram
from tests.unit.init.answering import Answering, Handler, look, silent

PASSWORD = "s3cret"
SCHEMES = ["redis", "postgres", "mysql", "amqp", "memcached", "nats"]


def is_(result: Result, state: str, words: str) -> None:
    assert (result.state, words in result.text) == (state, True), result
    assert result.text.isprintable()
    assert len(result.text) < 1000
    assert PASSWORD not in result.text


def first(*parts: bytes, more: bytes = b"", end: bool = False) -> Handler:
    """Say these at once, then more without an end, or nothing; or close."""

    def handle(client: socket.socket) -> None:
        for part in parts:
            client.sendall(part)
        while more:
            client.sendall(more)
        if not end:
            silent(client)

    return handle


def answers(*parts: bytes) -> Handler:
    """Say one of these after each thing that is said."""

    def handle(client: socket.socket) -> None:
        for part in parts:
            client.recv(65536)
            client.sendall(part)
        silent(client)

    return handle


def pg(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack(">I", len(body) + 4) + body


def pg_error(code: str, text: str = "no") -> bytes:
    return pg(b"E", f"SFATAL\0C{code}\0M{text}\0\0".encode())


def packet(number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number]) + body


NONCE = bytes(range(1, 21))


def greeting(plugin: bytes = b"caching_sha2_password", flags: int = 0x80000 | 0x8000 | 0x200 | 0x800) -> bytes:
    low, high = flags & 0xFFFF, flags >> 16
    body = b"\x0a8.4.0\0" + bytes(4) + NONCE[:8] + b"\0" + struct.pack("<HBHHB", low, 45, 2, high, 21) + bytes(10)
    return packet(0, body + NONCE[8:] + b"\0" + plugin + b"\0")


def my_error(code: int, text: str) -> bytes:
    return packet(2, b"\xff" + code.to_bytes(2, "little") + b"#HY000" + text.encode())


def frame(method: tuple[int, int], body: bytes = b"", kind: int = 1) -> bytes:
    data = struct.pack(">HH", *method) + body
    return struct.pack(">BHI", kind, 0, len(data)) + data + b"\xce"


START = frame((10, 10), b"\0\x09" + struct.pack(">I", 0) + struct.pack(">I", 5) + b"PLAIN" + struct.pack(">I", 0))
INFO = b'INFO {"version": "2.10.0", "auth_required": false, "proto": 1}\r\n'
AT = "127.0.0.1:{port}"
LOGIN = f"app:{PASSWORD}@{AT}"

ANSWERS: list[tuple[str, Handler, str, str]] = [
    (f"redis://{AT}", answers(b"-LOADING Redis is loading the dataset in memory\r\n"), "not-ready", "loads its data"),
    (f"redis://{AT}", answers(b"-MASTERDOWN Link with MASTER is down\r\n"), "not-ready", "without its master"),
    (f"redis://{AT}", answers(b"-DENIED Redis is running in protected mode\r\n"), "auth", "is in protected mode"),
    (f"redis://{AT}", answers(b"-ERR unknown command\r\n"), "not-ready", "answers '-ERR unknown command'"),
    (f"redis://{AT}", answers(b"HTTP/1.1 400 Bad Request\r\n"), "not-ready", "Bad Request'; is it Redis?"),
    (f"redis://{AT}?role=master", answers(b"+PONG\r\n", b"*3\r\n$8\r\nsentinel\r\n"), "not-ready", "is a 'sentinel'"),
    (f"redis://{AT}?role=master", answers(b"+PONG\r\n", b"*99999\r\n"), "not-ready", "is it Redis?"),
    (f"redis://{AT}?role=master", answers(b"+PONG\r\n", b"*3\r\n$99999\r\n"), "not-ready", "is it Redis?"),
    (f"postgres://{AT}", answers(pg_error("57P03", "the database system is starting up")), "not-ready", "starting up"),
    (f"postgres://{AT}", answers(pg_error("53300", "too many clients")), "not-ready", "as many clients as it takes"),
    (f"postgres://{AT}", answers(pg_error("28000")), "ok", "wants another login: 'no'"),
    (f"postgres://{LOGIN}", answers(pg_error("28P01")), "auth", "does not accept the login of 'app'"),
    (f"postgres://{AT}", answers(pg_error("XX000", "\x1b[2J")), "not-ready", "answers with the error 'XX000'"),
    (f"postgres://{AT}", answers(pg(b"Z", b"I")), "not-ready", "takes queries before a login"),
    (f"postgres://{AT}?tls=require", answers(b"N"), "tls", "speaks no TLS"),
    (f"postgres://{AT}?tls=require", answers(b"S" + pg(b"R", bytes(4))), "tls", "says more in clear"),
    (f"postgres://{LOGIN}", answers(pg(b"R", struct.pack(">I", 7))), "auth", "not spoken here (7)"),
    (f"postgres://{AT}", answers(pg(b"R", struct.pack(">I", 7))), "ok", "wants a login"),
    (f"postgres://{LOGIN}", answers(pg(b"R", struct.pack(">I", 12))), "not-ready", "was not asked"),
    (f"postgres://{LOGIN}", answers(pg(b"R", struct.pack(">I", 10) + b"SCRAM-SHA-256\0\0"),
     pg(b"R", struct.pack(">I", 11) + b"r=other,s=,i=1")), "auth", "its challenge is none of SCRAM"),
    (f"mysql://{AT}", first(packet(0, b"\xff\x10\x04Too many connections")), "not-ready", "1040: 'Too many"),
    (f"mysql://{AT}", first(packet(0, b"\xff\x69\x04Host is blocked")), "not-ready", "FLUSH HOSTS lets it in again"),
    (f"mysql://{AT}", first(packet(0, b"\xff\x6a\x04Host is not allowed")), "auth", "lets nobody in from this host"),
    (f"mysql://{AT}", first(packet(0, b"\x095.0\0" + bytes(60))), "not-ready", "does not speak MySQL"),
    (f"mysql://{AT}?tls=require", first(greeting(flags=0x80000)), "tls", "speaks no TLS"),
    (f"mysql://{AT}", first(greeting(), my_error(3159, "require_secure_transport")), "ok", "wants a login"),
    (f"mysql://{LOGIN}", first(greeting(), my_error(3159, "x")), "tls", "wants TLS (3159: 'x'); add tls=require"),
    (f"mysql://{LOGIN}", first(greeting(), my_error(1053, "x")), "not-ready", "shuts down"),
    (f"mysql://{LOGIN}", first(greeting(), packet(2, b"\xfeclient_ed25519\0" + bytes(32))), "auth", "'client_ed25519'"),
    (f"mysql://{LOGIN}", first(greeting(), packet(2, b"\xfemysql_clear_password\0")), "auth", "without TLS"),
    (f"mysql://{LOGIN}", first(greeting(), packet(2, b"\xfe")), "auth", "the passwords of MySQL 4.0"),
    (f"mysql://{LOGIN}", first(greeting(), packet(2, b"\x01\x04")), "auth", "sent only by TLS; add tls=require"),
    (f"amqp://{AT}", first(b"AMQP\0\x01\0\0"), "not-ready", "speaks AMQP, but version 0.1.0.0 instead of 0.0.9.1"),
    (f"amqp://{AT}", first(frame((10, 50), b"\x01\x40\x04gone\0\0\0\0")), "not-ready", "with 320: 'gone'"),
    (f"amqp://{AT}", first(frame((20, 10))), "not-ready", "begins with the method 20.10"),
    (f"amqp://{AT}", first(frame((10, 10), b"\0\x09")), "not-ready", "with nonsense"),
    (f"amqp://{AT}", first(START), "ok", "takes logins by PLAIN"),
    (f"amqp://{LOGIN}", first(START.replace(b"PLAIN", b"OTHER")), "auth", "takes no passwords"),
    (f"amqp://{LOGIN}", first(START, frame((10, 20))), "not-ready", "the method 10.20"),
    (f"memcached://{AT}", answers(b"SERVER_ERROR out of memory\r\n"), "not-ready", "out of memory"),
    (f"memcached://{AT}", answers(b"ERROR\r\n"), "not-ready", "is it memcached"),
    (f"nats://{AT}", first(b'INFO {"ldm": true}\r\n'), "not-ready", "shuts down"),
    (f"nats://{AT}", first(b"INFO []\r\n"), "not-ready", "does not speak NATS"),
    (f"nats://{AT}", first(INFO, b"-ERR 'Stale Connection'\r\n"), "not-ready", "'Stale Connection'"),
    (f"nats://{AT}", first(INFO, b"PING\r\nPONG\r\n"), "ok", "NATS 2.10.0 answers PONG"),
    (f"nats://{AT}", first(INFO.replace(b"auth_req", b"tls_req").replace(b"false", b"true") + b"x"), "tls", "in clear"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "handler", "state", "words"), ANSWERS, ids=range(len(ANSWERS)))
def test_what_a_server_says_is_understood(target: str, handler: Handler, state: str, words: str) -> None:
    with Answering(handler) as server:
        is_(look(target.format(port=server.port)), state, words)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_server_that_ends_the_connection_is_not_ready(scheme: str) -> None:
    with Answering(lambda client: None) as server:
        is_(look(f"{scheme}://127.0.0.1:{server.port}"), "reset", "broken off")


ENDLESS: list[tuple[str, bytes, bytes]] = [
    *((f"{scheme}://{AT}", b"", each) for scheme in SCHEMES for each in (bytes(65536), b"A" * 65536, b"\xff" * 65536)),
    (f"redis://{AT}?role=replica", b"+PONG\r\n*5\r\n$5\r\nslave\r\n$4\r\n", b"x" * 65536),
    (f"redis://{LOGIN}?role=master", b"+OK\r\n" * 2, b"+OK\r\n" * 1000),
    (f"postgres://{LOGIN}", b"", pg(b"N", b"\0") * 1000),
    (f"postgres://{LOGIN}", b"", pg(b"S", b"server_version\0" + b"1" * 1000 + b"\0") * 100),
    (f"postgres://{LOGIN}", b"", pg(b"R", struct.pack(">I", 5) + b"salt") * 1000),
    (f"postgres://{LOGIN}", b"E\0\0\xff\xff", b"M" * 65536),
    (f"mysql://{LOGIN}", greeting(), packet(2, b"\x01\x03") * 1000),
    (f"mysql://{LOGIN}", greeting(), packet(2, b"\xfemysql_native_password\0" + NONCE) * 1000),
    (f"mysql://{LOGIN}", greeting(), packet(2, b"\xff" + b"\x1b" * 5000) * 100),
    (f"amqp://{AT}", b"", struct.pack(">BHI", 8, 0, 0) + b"\xce"),
    (f"amqp://{LOGIN}", b"", START * 100),
    (f"nats://{LOGIN}", INFO, b"+OK\r\n" * 1000),
    (f"nats://{LOGIN}", INFO, INFO * 1000),
    (f"memcached://{LOGIN}", b"CLIENT_ERROR unauthenticated\r\n", b"STORED\r\n" * 1000),
]


@pytest.mark.parametrize(("target", "head", "more"), ENDLESS, ids=range(len(ENDLESS)))
def test_answers_without_an_end_are_bounded_and_not_ready(target: str, head: bytes, more: bytes) -> None:
    with Answering(first(head, more=more)) as server:
        result = look(target.format(port=server.port))
    assert result.state in ("not-ready", "auth", "reset"), result
    is_(result, result.state, "")
    assert "within" not in result.text


OPENINGS = {
    "redis": [b"+PONG\r\n", b"*3\r\n$6\r\nmaster\r\n:0\r\n"],
    "postgres": [pg(b"R", bytes(4)), pg(b"R", struct.pack(">I", 10) + b"SCRAM-SHA-256\0\0"), pg_error("28000")],
    "mysql": [greeting(), greeting(b"mysql_native_password"), my_error(1045, "no")],
    "amqp": [START, frame((10, 30), bytes(8)), frame((10, 50), b"\x01\x93\x02no")],
    "memcached": [b"VERSION 1\r\n", b"CLIENT_ERROR unauthenticated\r\n"],
    "nats": [INFO, b"PONG\r\n", b"-ERR 'x'\r\n"],
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_answer_is_too_strange(scheme: str) -> None:
    """What begins well goes on with other bytes, some changed, and ends anywhere: seeds are in the numbers."""
    choices = [random.Random(f"{scheme}{seed}") for seed in range(60)]

    def handle(client: socket.socket) -> None:
        chance = choices.pop()
        said = bytearray(b"".join(chance.choices(OPENINGS[scheme], k=chance.randint(1, 3))) + chance.randbytes(20))
        for _ in range(chance.randint(0, 4)):
            said[chance.randrange(len(said))] = chance.randrange(256)
        client.sendall(said[: chance.randrange(len(said))])
        client.shutdown(socket.SHUT_WR)
        silent(client)

    with Answering(handle) as server:
        while choices:
            result = look(f"{scheme}://app:{PASSWORD}@127.0.0.1:{server.port}")
            is_(result, result.state, "")


# caching_sha2_password, which MariaDB does not have


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def mysql8(password: str, known: bool, context: ssl.SSLContext | None) -> Handler:
    """MySQL 8's login: the scramble is compared as the server does, and one not in its cache asked for."""

    def handle(client: socket.socket) -> None:
        client.sendall(greeting())
        if context:
            asked = taken(client)[1]
            assert len(asked) == 32
            with contextlib.suppress(OSError), context.wrap_socket(client, server_side=True) as secure:
                log_in(secure)
        else:
            log_in(client)

    def log_in(client: socket.socket) -> None:
        number, body = taken(client)
        user, _, rest = body[32:].partition(b"\0")
        scramble, rest = rest[1 : 1 + rest[0]], rest[1 + rest[0] :]
        assert (user, rest) == (b"app", b"shop\0caching_sha2_password\0")
        stored = hashlib.sha256(hashlib.sha256(password.encode()).digest()).digest()
        mask = hashlib.sha256(stored + NONCE).digest()
        once = bytes(a ^ b for a, b in zip(scramble, mask, strict=True))
        if known and hashlib.sha256(once).digest() == stored:
            client.sendall(packet(number + 1, b"\x01\x03") + packet(number + 2, b"\0\0\0\2\0\0\0"))
        else:
            client.sendall(packet(number + 1, b"\x01\x04"))
            number, body = taken(client)
            good = body == password.encode() + b"\0"
            client.sendall(packet(number + 1, b"\0\0\0\2\0\0\0") if good else my_error(1045, "Access denied"))
        silent(client)

    return handle


def taken(client: socket.socket) -> tuple[int, bytes]:
    """One packet, and no byte more: what follows it may be TLS."""
    head = exactly(client, 4)
    return head[3], exactly(client, int.from_bytes(head[:3], "little"))


def exactly(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = client.recv(count - len(data))
        if not part:
            raise ConnectionError
        data += part
    return data


@pytest.mark.parametrize(
    ("password", "known", "tls", "state", "words"),
    [
        (PASSWORD, True, False, "ok", "8.4.0 takes queries for app"),
        (PASSWORD, False, False, "auth", "sent only by TLS"),
        ("other", True, False, "auth", "sent only by TLS"),
        (PASSWORD, True, True, "ok", "8.4.0 takes queries for app"),
        (PASSWORD, False, True, "ok", "8.4.0 takes queries for app"),
        ("other", False, True, "auth", "does not accept the user or the password (1045: 'Access denied')"),
    ],
)
def test_mysql_8_is_logged_in_to(
    authority: trustme.CA, tmp_path: Path, password: str, known: bool, tls: bool, state: str, words: str
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    options = f"user=app&password_file={tmp_path}/password" + (f"&tls=require&ca={tmp_path}/ca.pem" if tls else "")
    with Answering(mysql8(password, known, context if tls else None)) as server:
        is_(look(f"mysql://localhost:{server.port}/shop?{options}"), state, words)


# SCRAM

FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"


def scram() -> Scram:
    return Scram("user", "pencil", "rOprNGfwEbeRWgbNEkqO")


def test_scram_is_that_of_rfc_7677() -> None:
    login = scram()
    assert login.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    proof = b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    assert login.final(FIRST) == b"c=biws," + FIRST.partition(b",")[0] + proof
    login.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


@pytest.mark.parametrize(
    "said", [b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", b"v=", b"e=other-error", b"", b"v=\xff", b"v=x"]
)
def test_a_server_that_does_not_know_the_password_is_not_believed(said: bytes) -> None:
    login = scram()
    login.final(FIRST)
    with pytest.raises(Refused):
        login.check(said)


def test_a_server_that_skips_its_part_is_not_believed() -> None:
    with pytest.raises(Refused):
        scram().check(b"v=")


@settings(deadline=None)
@given(st.binary(max_size=60) | st.sampled_from([
    FIRST.replace(b"4096", each) for each in (b"0", b"-1", b"99999999", b"9" * 5000, b"\xc2\xb2", b"")
]))  # fmt: skip
def test_no_challenge_is_too_strange(said: bytes) -> None:
    with pytest.raises(Refused):
        scram().final(said)


# Options


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("redis://a?ca=/x", "has options for TLS; write rediss://"),
        ("redis://a?role=slave", "expected any or master or replica"),
        ("redis://a/x", "db of redis://a/x is 'x', expected a whole number"),
        ("postgres://a?ca=/x", "has options for TLS; add tls=require"),
        ("postgres://a?tls=prefer", "expected off or require"),
        ("mysql://a?insecure", "has options for TLS; add tls=require"),
        ("amqp://a?ca=/x", "has options for TLS; write amqps://"),
        ("nats://a?tls=x", "expected off or require"),
        ("memcached://a?tls=require", "has the unknown option 'tls'"),
    ],
)
def test_options_that_mean_nothing_are_refused(target: str, words: str) -> None:
    with pytest.raises(WrongSettings) as refused:
        look(target)
    assert words in str(refused.value)
