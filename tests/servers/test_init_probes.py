"""The probes of pod-init wait that speak a service's own protocol, with the real service of Debian."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from sidecars.init.checks import Result
from tests.servers.init_servers import (
    PASSWORD,
    Certificate,
    Small,
    ipv6,
    mariadb,
    postgres,
    postgres_standby,
    rabbitmq,
)
from tests.servers.test_init_wait import Start, init, wait  # noqa: F401  (fixtures)
from tests.unit.init.answering import look


def is_(result: Result, state: str, words: str) -> None:
    assert (result.state, words in result.text) == (state, True), result
    assert PASSWORD not in result.text
    assert result.text.isprintable()


def until(target: str, passing: str) -> Result:
    """What it finds once that state has passed."""
    deadline = time.monotonic() + 30
    while (result := look(target)).state == passing:
        assert time.monotonic() < deadline, result
    return result


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def small() -> Iterator[Small]:
    with contextlib.ExitStack() as running:
        yield Small(running)


# Redis


def test_redis_answers(small: Small) -> None:
    port = small.redis("--databases", "4")
    is_(look(f"redis://127.0.0.1:{port}"), "ok", "answers PONG")
    is_(look(f"redis://127.0.0.1:{port}/3"), "ok", "answers PONG")
    is_(look(f"redis://127.0.0.1:{port}?db=9"), "not-ready", "DB index is out of range")
    is_(look(f"redis://127.0.0.1:{port}?role=master"), "ok", "as a master")
    is_(look(f"redis://127.0.0.1:{port}?role=replica"), "not-ready", "is a 'master', not a replica")
    is_(look(f"redis://:x@127.0.0.1:{port}"), "auth", "has no password, but one was given")
    is_(look(f"redis://me:x@127.0.0.1:{port}"), "auth", "does not accept the user or the password")


def test_redis_wants_a_login(small: Small, tmp_path: Path) -> None:
    port = small.redis("--requirepass", PASSWORD, "--user", "app", "on", f">{PASSWORD}", "~*", "-@all", "+ping")
    (tmp_path / "password").write_text(PASSWORD)
    is_(look(f"redis://127.0.0.1:{port}"), "ok", "answers, and wants a login")
    is_(look(f"redis://127.0.0.1:{port}?role=master"), "auth", "wants a login")
    is_(look(f"redis://127.0.0.1:{port}?password_file={tmp_path}/password&role=master"), "ok", "as a master")
    is_(look(f"redis://127.0.0.1:{port}?user=app&password_file={tmp_path}/password"), "ok", "answers PONG")
    is_(look(f"redis://app:{PASSWORD}@127.0.0.1:{port}?role=master"), "auth", "does not permit this user to ask")
    is_(look(f"redis://:wrong@127.0.0.1:{port}"), "auth", "does not accept the user or the password")


def test_a_redis_replica_is_ready_when_it_is_in_step(small: Small) -> None:
    master = small.redis("--repl-diskless-sync-delay", "0")
    good = small.redis("--replicaof", "127.0.0.1", str(master))
    lost = small.redis("--replicaof", "127.0.0.1", "1")
    strict = small.redis("--replicaof", "127.0.0.1", "1", "--replica-serve-stale-data", "no")
    is_(look(f"redis://127.0.0.1:{lost}"), "ok", "answers PONG")
    is_(look(f"redis://127.0.0.1:{strict}"), "not-ready", "is a replica without its master")
    is_(look(f"redis://127.0.0.1:{lost}?role=replica"), "not-ready", "is a replica that is not yet in step")
    is_(look(f"redis://127.0.0.1:{lost}?role=master"), "not-ready", "is a 'replica', not a master")
    is_(until(f"redis://127.0.0.1:{good}?role=replica", "not-ready"), "ok", "as a replica")


def test_a_busy_redis_is_not_ready(small: Small) -> None:
    port = small.redis("--busy-reply-threshold", "1")
    with redis.Redis(port=port, socket_timeout=20) as one, socket.create_connection(("127.0.0.1", port)) as other:
        other.settimeout(20)
        other.sendall(b"*3\r\n$4\r\nEVAL\r\n$17\r\nwhile true do end\r\n$1\r\n0\r\n")
        is_(until(f"redis://127.0.0.1:{port}", "ok"), "not-ready", "is busy with a script")
        one.script_kill()
        assert other.recv(100).startswith(b"-ERR")
        is_(until(f"redis://127.0.0.1:{port}", "not-ready"), "ok", "answers PONG")


def test_a_full_redis_is_not_ready(small: Small) -> None:
    port = small.redis("--maxclients", "1")
    with redis.Redis(port=port, socket_timeout=20) as one:
        one.ping()
        is_(look(f"redis://127.0.0.1:{port}"), "not-ready", "has as many clients as it takes")


def test_redis_by_tls(small: Small, certificate: Certificate) -> None:
    here = small.folder()
    cert, key = certificate.into(here)
    words = ("--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no")
    port = small.redis(*words, here=here, plain=False)
    is_(look(f"rediss://localhost:{port}?ca={certificate.ca}"), "ok", "answers PONG")
    is_(look(f"rediss://localhost:{port}"), "tls", "is not trusted")
    assert look(f"redis://localhost:{port}").state in ("reset", "not-ready")


# PostgreSQL


@pytest.fixture(scope="module")
def postgresql(certificate: Certificate) -> Iterator[tuple[int, Path]]:
    with postgres(certificate) as found:
        yield found


def test_postgres_has_nothing_to_log_of_a_look(postgresql: tuple[int, Path]) -> None:
    port, log = postgresql
    before = log.read_text()
    for user in ("app", "old", "bare"):
        is_(look(f"postgres://{user}@127.0.0.1:{port}/shop"), "ok", "wants a login")
        is_(look(f"postgres://{user}:{PASSWORD}@127.0.0.1:{port}/shop"), "ok", "takes queries")
    # What it says of these it has said before it says anything of who comes next.
    is_(look(f"postgres://app:wrong@127.0.0.1:{port}/shop"), "auth", "")
    first = log.read_text().removeprefix(before).splitlines()[0]
    assert 'password authentication failed for user "app"' in first


@pytest.mark.parametrize(
    ("target", "state", "words"),
    [
        ("postgres://127.0.0.1:{port}", "ok", "answers, and wants a login"),
        ("postgres://127.0.0.1:{port}/none", "ok", "answers, and wants a login"),
        ("postgres://nobody@127.0.0.1:{port}", "ok", "answers, and wants another login"),
        ("postgres://app:{password}@127.0.0.1:{port}/shop", "ok", "PostgreSQL "),
        ("postgresql://old:{password}@127.0.0.1:{port}/shop", "ok", "takes queries for old"),
        ("postgres://bare:{password}@127.0.0.1:{port}/shop", "ok", "takes queries for bare"),
        ("postgres://open@127.0.0.1:{port}/shop", "ok", "takes queries for open"),
        ("postgres://app:wrong@127.0.0.1:{port}/shop", "auth", "does not accept the login of 'app'"),
        ("postgres://old:wrong@127.0.0.1:{port}/shop", "auth", "does not accept the login of 'old'"),
        ("postgres://bare:wrong@127.0.0.1:{port}/shop", "auth", "does not accept the login of 'bare'"),
        ("postgres://nobody:x@127.0.0.1:{port}/shop", "auth", "no pg_hba.conf entry"),
        ("postgres://app:{password}@127.0.0.1:{port}/none", "not-ready", "has no database 'none'"),
        ("postgres://app:{password}@127.0.0.1:{port}", "not-ready", "has no database 'app'"),
        ("postgres://app:{password}@127.0.0.1:{port}/secret", "auth", "rejects connection"),
        ("postgres://app:{password}@localhost:{port}/shop?tls=require&ca={ca}", "ok", "takes queries for app"),
        ("postgres://localhost:{port}?tls=require", "tls", "is not trusted"),
    ],
)
def test_postgres(postgresql: tuple[int, Path], certificate: Certificate, target: str, state: str, words: str) -> None:
    is_(look(target.format(port=postgresql[0], password=PASSWORD, ca=certificate.ca)), state, words)


def test_postgres_that_starts_is_not_ready() -> None:
    with postgres_standby() as port:
        is_(look(f"postgres://127.0.0.1:{port}"), "not-ready", "is not ready yet: 'the database system is ")


def test_the_command_waits_for_postgres(postgresql: tuple[int, Path], wait: Start, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    target = f"postgres://127.0.0.1:{postgresql[0]}/none?user=app&password_file={tmp_path}/password"
    reason = wait(target, "--timeout", "300ms").failed(124)
    assert "has no database 'none', " in reason
    assert PASSWORD not in reason


# MariaDB


@pytest.fixture(scope="module")
def maria(certificate: Certificate) -> Iterator[tuple[int, Path]]:
    with mariadb(certificate) as found:
        yield found


def test_mysql_is_not_left_in_the_middle_of_its_handshake(maria: tuple[int, Path]) -> None:
    port, log = maria
    for _ in range(3):
        is_(look(f"mysql://127.0.0.1:{port}"), "ok", "wants a login")
    # What the server says of these it has said before it says anything of who comes next, and stays.
    is_(look(f"mysql://app:wrong@127.0.0.1:{port}"), "auth", "")
    assert "Access denied for user 'pod-init'" in log.read_text()
    assert "without authentication" not in log.read_text()


@pytest.mark.parametrize(
    ("target", "state", "words"),
    [
        ("mysql://127.0.0.1:{port}", "ok", "answers, and wants a login"),
        ("mysql://app@127.0.0.1:{port}/shop", "ok", "answers, and wants a login"),
        ("mysql://open@127.0.0.1:{port}", "ok", "takes queries for open"),
        ("mysql://app:{password}@127.0.0.1:{port}/shop", "ok", "MariaDB"),
        ("mariadb://app:{password}@127.0.0.1:{port}", "ok", "takes queries for app"),
        ("mysql://app:wrong@127.0.0.1:{port}/shop", "auth", "does not accept the user or the password (1045: "),
        ("mysql://app:{password}@127.0.0.1:{port}/none", "auth", "does not let this user into the database (1044: "),
        ("mysql://root:{password}@127.0.0.1:{port}/none", "not-ready", "has no such database (1049: "),
        pytest.param(
            "mysql://[::1]:{port}",
            "auth",
            "lets nobody in from this host (1130: ",
            marks=pytest.mark.skipif(not ipv6(), reason="needs ::1; proven with a stand-in too"),
        ),
        ("mysql://safe:{password}@127.0.0.1:{port}", "auth", "does not accept the user or the password"),
        ("mysql://safe:{password}@localhost:{port}?tls=require&ca={ca}", "ok", "takes queries for safe"),
        ("mysql://localhost:{port}?tls=require", "tls", "is not trusted"),
    ],
)
def test_mysql(maria: tuple[int, Path], certificate: Certificate, target: str, state: str, words: str) -> None:
    is_(look(target.format(port=maria[0], password=PASSWORD, ca=certificate.ca)), state, words)


# RabbitMQ


@pytest.fixture(scope="module")
def rabbit() -> Iterator[int]:
    with rabbitmq() as port:
        yield port


@pytest.mark.parametrize(
    ("target", "state", "words"),
    [
        ("amqp://127.0.0.1:{port}", "ok", "RabbitMQ 3."),
        ("amqp://guest:guest@127.0.0.1:{port}", "ok", "opens the virtual host '/' for 'guest'"),
        ("amqp://guest:guest@127.0.0.1:{port}/%2F", "ok", "opens the virtual host '/' for 'guest'"),
        ("amqp://guest:wrong@127.0.0.1:{port}", "auth", "does not accept the login: 'ACCESS_REFUSED"),
        ("amqp://guest:guest@127.0.0.1:{port}/none", "not-ready", "has no such virtual host"),
    ],
)
def test_amqp(rabbit: int, target: str, state: str, words: str) -> None:
    is_(look(target.format(port=rabbit)), state, words)


# memcached and NATS


def test_memcached(small: Small) -> None:
    is_(look(f"memcached://127.0.0.1:{(port := small.memcached())}"), "ok", "is memcached 1.")
    is_(look(f"memcached://me:{PASSWORD}@127.0.0.1:{port}"), "ok", "is memcached 1.")
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"get login\r\n")
        assert client.recv(100) == b"END\r\n"  # the password is not stored where no login is wanted


def test_memcached_wants_a_login(small: Small) -> None:
    port = small.memcached(f"me:{PASSWORD}\n")
    is_(look(f"memcached://127.0.0.1:{port}"), "ok", "answers, and wants a login")
    is_(look(f"memcached://me:{PASSWORD}@127.0.0.1:{port}"), "ok", "is memcached 1.")
    is_(look(f"memcached://me:wrong@127.0.0.1:{port}"), "auth", "does not accept the user or the password")


def test_nats(small: Small) -> None:
    port = small.nats()
    is_(look(f"nats://127.0.0.1:{port}"), "ok", "answers PONG")
    is_(look(f"nats://127.0.0.1:{port}?tls=require"), "tls", "speaks no TLS")


def test_nats_wants_a_login(small: Small) -> None:
    port = small.nats(f"authorization: {{ user: me, password: {PASSWORD} }}")
    is_(look(f"nats://127.0.0.1:{port}"), "ok", "answers, and wants a login")
    is_(look(f"nats://me:{PASSWORD}@127.0.0.1:{port}"), "ok", "answers PONG")
    is_(look(f"nats://me:wrong@127.0.0.1:{port}"), "auth", "does not accept the login: 'Authorization Violation'")
    port = small.nats(f"authorization: {{ token: {PASSWORD} }}")
    is_(look(f"nats://{PASSWORD}@127.0.0.1:{port}"), "ok", "answers PONG")
    is_(look(f"nats://wrong@127.0.0.1:{port}"), "auth", "does not accept the login")


def test_nats_by_tls(small: Small, certificate: Certificate) -> None:
    here = small.folder()
    cert, key = certificate.into(here)
    port = small.nats(f"tls: {{ cert_file: {cert}, key_file: {key} }}", here=here)
    is_(look(f"nats://localhost:{port}?ca={certificate.ca}"), "ok", "answers PONG")
    is_(look(f"nats://localhost:{port}"), "tls", "is not trusted")
