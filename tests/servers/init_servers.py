"""Real servers for pod-init's probes, each on a free port of loopback, and as a user who may not do everything.

What is not installed is not proven here, which each test says; with CI=true that is a failure.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import trustme

from tests.unit.core.running import free_port

PATIENCE = 60.0
PASSWORD = "s3cret"
_PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin", *glob.glob("/usr/lib/postgresql/*/bin")])
_PACKAGES = {
    "postgres": "postgresql", "mariadbd": "mariadb-server-core", "rabbitmq-server": "rabbitmq-server",
    "epmd": "erlang-base", "nats-server": "nats-server", "memcached": "memcached", "redis-server": "redis-server",
}  # fmt: skip


def program(name: str) -> str:
    """The path of a program; where it is missing the test is skipped, or fails in CI."""
    found = shutil.which(name, path=_PATH)
    if not found and os.environ.get("CI") == "true":
        pytest.fail(f"{name} is not installed: apt-get install {_PACKAGES[name]}")
    return found or pytest.skip(f"NOT PROVEN HERE: needs Debian's {_PACKAGES[name]}")


class Folder:
    """A directory for a server's data and log, which belongs to an unprivileged user where we are root."""

    def __init__(self, path: str, *users: str) -> None:
        self.path = path
        names = {each.pw_name for each in pwd.getpwall()}
        self.user = pwd.getpwnam(next(name for name in (*users, "nobody") if name in names))
        self.give()

    def give(self) -> None:
        """Make all in it the user's."""
        if os.geteuid() == 0:
            for folder, _, files in os.walk(self.path):
                for each in (folder, *(os.path.join(folder, file) for file in files)):
                    os.chown(each, self.user.pw_uid, self.user.pw_gid)

    def write(self, name: str, text: str | bytes) -> str:
        """Write a file that only the user may read."""
        path = Path(self.path, name)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(0o600)
        self.give()
        return str(path)

    def run(self, *command: str, input: str = "") -> None:
        """Run a program to its end."""
        done = subprocess.run([*self._as(), *command], input=input.encode(), capture_output=True, cwd=self.path)
        assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")[-3000:]

    @contextlib.contextmanager
    def running(self, *command: str, ready: str | int, environ: Mapping[str, str] | None = None) -> Iterator[Path]:
        """Run a server once it says it is ready, or takes connections on a port; gives its log. It is killed."""
        log = Path(self.path, f"{os.path.basename(command[0])}.log")
        with open(log, "wb") as file:
            process = subprocess.Popen(
                [*self._as(), *command], stdout=file, stderr=file, stdin=subprocess.DEVNULL, cwd=self.path,
                env={**os.environ, **(environ or {})}, start_new_session=True,
            )  # fmt: skip
        try:
            deadline = time.monotonic() + PATIENCE
            while not (ready in log.read_text(errors="replace") if isinstance(ready, str) else listens(ready)):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
                time.sleep(0.01)
            yield log
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)  # a session of its own: what it has started ends with it
            process.wait(PATIENCE)

    def _as(self) -> list[str]:
        if os.geteuid() != 0:
            return []
        return ["setpriv", f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--clear-groups", "--"]


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def ipv6() -> bool:
    """Whether this machine has ::1."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def folder(*users: str) -> Iterator[Folder]:
    """A folder directly in /tmp: pytest's own can only be entered by whom it runs as."""
    with tempfile.TemporaryDirectory(prefix="init", dir="/tmp", ignore_cleanup_errors=True) as path:
        os.chmod(path, 0o755)
        yield Folder(path, *users)


class Certificate:
    """A certificate for localhost, and its authority, as files."""

    def __init__(self, path: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1")
        self.ca = str(path / "ca.pem")
        authority.cert_pem.write_to_path(self.ca)
        self.cert = b"".join(each.bytes() for each in issued.cert_chain_pems)
        self.key = issued.private_key_pem.bytes()

    def into(self, folder: Folder) -> tuple[str, str]:
        """Put certificate and key where a server may read them."""
        return folder.write("cert.pem", self.cert), folder.write("key.pem", self.key)


# PostgreSQL

_HBA = """
hostssl secret  app  127.0.0.1/32 scram-sha-256
hostnossl secret app 127.0.0.1/32 reject
host    all     app  127.0.0.1/32 scram-sha-256
host    all     old  127.0.0.1/32 md5
host    all     bare 127.0.0.1/32 password
host    all     open 127.0.0.1/32 trust
host    all     postgres 127.0.0.1/32 scram-sha-256
"""
_ROLES = f"""create role app login password '{PASSWORD}';
create role bare login password '{PASSWORD}';
set password_encryption = 'md5';
create role old login password '{PASSWORD}';
create role open login;
create database shop;
"""


@contextlib.contextmanager
def postgres(certificate: Certificate) -> Iterator[tuple[int, Path]]:
    """PostgreSQL with TLS, a database shop, and roles for each way to log in; and its log."""
    server, initdb = program("postgres"), program("initdb")
    with folder("postgres") as here:
        here.run(initdb, "-D", "data", "-N", "-U", "postgres", "-A", "trust", "--no-locale", "-E", "UTF8")
        here.run(server, "--single", "-D", "data", "-F", "postgres", input=_ROLES)
        here.write("data/pg_hba.conf", _HBA)
        cert, key = certificate.into(here)
        port = free_port()
        options = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "ssl=on", f"ssl_cert_file={cert}")
        words = [word for option in (*options, f"ssl_key_file={key}") for word in ("-c", option)]
        with here.running(server, "-D", "data", "-F", "-p", str(port), *words, ready="ready to accept") as log:
            yield port, log


@contextlib.contextmanager
def postgres_standby() -> Iterator[int]:
    """PostgreSQL that is not ready, and says so: it replays for ever what a primary does not send."""
    server, initdb = program("postgres"), program("initdb")
    with folder("postgres") as here:
        here.run(initdb, "-D", "data", "-N", "-U", "postgres", "-A", "trust", "--no-locale")
        here.write("data/standby.signal", "")
        port = free_port()
        words = ("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "hot_standby=off")
        with here.running(server, "-D", "data", "-F", "-p", str(port), *words, ready="entering standby mode"):
            yield port


# MariaDB

_SHARE = "/usr/share/mysql"
_SMALL = (
    "--no-defaults", "--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M",
    "--innodb-temp-data-file-path=ibtmp1:4M:autoextend", "--innodb-flush-log-at-trx-commit=0",
    "--loose-innodb-fast-shutdown=2",
)  # fmt: skip
_USERS = f"""create database shop;
flush privileges;
create user app@'127.0.0.1' identified by '{PASSWORD}';
grant all on shop.* to app@'127.0.0.1';
drop user if exists root@'::1';
create or replace user root@'127.0.0.1' identified by '{PASSWORD}';
grant all on *.* to root@'127.0.0.1';
create user safe@'127.0.0.1' identified by '{PASSWORD}' require ssl;
create user open@'127.0.0.1';
"""


@contextlib.contextmanager
def mariadb(certificate: Certificate) -> Iterator[tuple[int, Path]]:
    """MariaDB with TLS and a database shop, on 127.0.0.1, and on ::1, from where nobody may come; and its log."""
    server = program("mariadbd")
    with folder("mysql") as here:
        data = os.path.join(here.path, "data")
        os.mkdir(data)
        here.give()
        tables = "".join(
            Path(_SHARE, f"mysql_system_tables{part}.sql").read_text(errors="replace") for part in ("", "_data")
        )
        boot = f"create database mysql;\nuse mysql;\n{tables}\n{_USERS}"
        # Not in /tmp, where each that starts removes what looks like an earlier one's.
        where = (f"--datadir={data}", f"--tmpdir={here.path}")
        here.run(server, *_SMALL, *where, "--bootstrap", "--skip-networking", input=boot)
        cert, key = certificate.into(here)
        port = free_port()
        words = (
            *where,
            f"--bind-address=127.0.0.1{',::1' if ipv6() else ''}",
            f"--port={port}", f"--socket={here.path}/socket", "--skip-name-resolve",
            f"--ssl-cert={cert}", f"--ssl-key={key}",
        )  # fmt: skip
        with here.running(server, *_SMALL, *words, ready="ready for connections") as log:
            yield port, log


# RabbitMQ


@contextlib.contextmanager
def rabbitmq() -> Iterator[int]:
    """RabbitMQ with its guest, and without a node name that another could have."""
    server = program("rabbitmq-server")
    server = "/usr/lib/rabbitmq/bin/rabbitmq-server" if server.startswith("/usr/sbin") else server  # that wants root
    with folder("rabbitmq") as here, contextlib.ExitStack() as running:
        port, distribution, names = free_port(), free_port(), free_port()
        # Erlang would leave its own name server running for ever.
        running.enter_context(here.running(program("epmd"), "-address", "127.0.0.1", "-port", str(names), ready=names))
        here.write("plugins", "[].")
        where = {
            "HOME": here.path,
            "RABBITMQ_NODENAME": f"init{os.getpid()}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": here.path,
            "RABBITMQ_LOG_BASE": here.path,
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{here.path}/plugins",
            "RABBITMQ_CONFIG_FILE": f"{here.path}/none",
            "RABBITMQ_CONF_ENV_FILE": f"{here.path}/none",
            "ERL_EPMD_PORT": str(names),
        }
        running.enter_context(here.running(server, ready="Server startup complete", environ=where))
        yield port


# The small ones

Started = Callable[..., int]


class Small:
    """Servers that are there at once: Redis, memcached and NATS, each as its words, or its configuration, say."""

    def __init__(self, running: contextlib.ExitStack) -> None:
        self._running = running

    def _start(self, port: int, *command: str, here: Folder, ready: str | int | None = None) -> int:
        self._running.enter_context(here.running(*command, ready=port if ready is None else ready))
        return port

    def folder(self) -> Folder:
        return self._running.enter_context(folder())

    def redis(self, *words: str, here: Folder | None = None, plain: bool = True) -> int:
        port, here = free_port(), here or self.folder()
        usual = ("--bind", "127.0.0.1", "--save", "", "--dir", here.path)
        ports = ("--port", str(port)) if plain else ("--port", "0", "--tls-port", str(port))
        return self._start(port, program("redis-server"), *usual, *ports, *words, here=here)

    def memcached(self, login: str = "") -> int:
        port, here = free_port(), self.folder()
        words = ("-Y", here.write("login", login)) if login else ()
        return self._start(port, program("memcached"), "-l", "127.0.0.1", "-p", str(port), "-U", "0", *words, here=here)

    def nats(self, configuration: str = "", here: Folder | None = None) -> int:
        port, here = free_port(), here or self.folder()
        file = here.write("nats.conf", f"listen: 127.0.0.1:{port}\n{configuration}")
        return self._start(port, program("nats-server"), "-c", file, here=here, ready="Server is ready")
