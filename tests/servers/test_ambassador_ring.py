"""Keys are where twemproxy has them: its own program is asked, where it is installed."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import pytest
import yaml

from sidecars.ambassador.redis.hashes import HASHES
from sidecars.ambassador.redis.ring import Node, Ring, node_name
from sidecars.ambassador.settings import Upstream
from tests.unit.core.running import PATIENCE, free_port

NUTCRACKER = shutil.which("nutcracker")
if not NUTCRACKER and os.environ.get("CI") == "true":
    raise RuntimeError("nutcracker is not installed: apt-get install nutcracker")
pytestmark = pytest.mark.skipif(not NUTCRACKER, reason="NOT PROVEN HERE: needs Debian's nutcracker")


class Pool(NamedTuple):
    servers: list[str]  # as nutcracker's YAML has them
    hash: str = "fnv1a_64"
    distribution: str = "ketama"
    tag: str | None = None
    dead: tuple[int, ...] = ()

    def ring(self) -> Ring:
        tag = self.tag.encode() if self.tag else None
        live = [index not in self.dead for index in range(len(self.servers))]
        return Ring([node(server) for server in self.servers], self.hash, self.distribution, tag, live)

    def section(self, path: Path) -> dict[str, object]:
        tag = {"hash_tag": self.tag} if self.tag else {}
        return {
            "listen": str(path), "redis": True, "servers": list(self.servers), "hash": self.hash,
            "distribution": self.distribution, "auto_eject_hosts": True, "server_failure_limit": 1,
            "server_retry_timeout": 3_600_000, **tag,
        }  # fmt: skip


def node(server: str) -> Node:
    text, _, name = server.partition(" ")
    address, _, weight = text.rpartition(":")
    if address.count(":") > 1:  # nutcracker's IPv6 has no brackets, ours has
        address = "[{}]:{}".format(*address.rsplit(":", 1))
    return Node(node_name(Upstream(address=address, name=name or None)), int(weight))


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        number = self.server.number
        while self.rfile.readline():
            for _ in range(2):
                self.rfile.read(int(self.rfile.readline()[1:]) + 2)
            self.wfile.write(b"$%d\r\n%b\r\n" % (len(number), number))


class _Threading(socketserver.ThreadingMixIn):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    number = b""


class Inet(_Threading, socketserver.TCPServer):
    def __init__(self, _: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name = f"127.0.0.1:{self.server_address[1]}"


class Inet6(_Threading, socketserver.TCPServer):
    address_family = socket.AF_INET6

    def __init__(self, _: Path) -> None:
        super().__init__(("::1", 0), _Handler)
        self.name = f"::1:{self.server_address[1]}"


class Unix(_Threading, socketserver.UnixStreamServer):
    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.name = str(path)


KINDS = (Inet, Inet, Inet, Inet6, Unix)


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Servers that answer each GET with their own number; by what nutcracker calls them."""
    folder = tmp_path_factory.mktemp("backends")
    servers = [kind(folder / f"{number}.sock") for number, kind in enumerate(KINDS)]
    for number, server in enumerate(servers):
        server.number = b"%d" % number
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [server.name for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def nutcracker(folder: Path, pools: list[Pool]) -> Iterator[list[Path]]:
    """Run nutcracker with these pools; the sockets on which it has them."""
    paths = [folder / f"{number}.pool" for number in range(len(pools))]
    config = folder / "nutcracker.yml"
    sections = {f"pool{number}": pool.section(paths[number]) for number, pool in enumerate(pools)}
    config.write_text(yaml.safe_dump(sections))
    command = [str(NUTCRACKER), "-c", str(config), "-s", str(free_port()), "-a", "127.0.0.1"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        while not all(path.exists() for path in paths):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        yield paths
    finally:
        process.kill()
        process.wait()


def ask(path: Path, keys: list[bytes]) -> list[bytes]:
    """Which server each key is on, by its number; what is no number is an error."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(path))
        client.sendall(b"".join(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key) for key in keys))
        with client.makefile("rb") as replies:
            return [_reply(replies) for _ in keys]


def _reply(replies: IO[bytes]) -> bytes:
    first = replies.readline().strip()
    return replies.readline().strip() if first.startswith(b"$") else first


def pools(names: list[str]) -> list[Pool]:
    even = [f"{name}:1" for name in names]
    uneven = [f"{name}:{weight}" for name, weight in zip(names, (1, 2, 3, 7, 400), strict=True)]
    tiny = [f"{name}:{weight}" for name, weight in zip(names, (1, 1_000_000, 3, 16_777_217, 999_999), strict=True)]
    named = [f"{name}:{number % 3 + 1} node{number}" for number, name in enumerate(names)]
    dead = [even[0], f"127.0.0.1:{free_port()}:3", *named[2:]]
    return [
        *(Pool(even, hash, distribution) for hash in HASHES for distribution in ("ketama", "modula")),
        *(Pool(servers, "md5") for servers in (uneven, tiny, named, even[:1], uneven[:2])),
        Pool(uneven, distribution="modula"), Pool(named, tag="{}"), Pool(even, "murmur", tag="$$"),
        Pool(even, tag="az"),
        Pool(dead, dead=(1,)), Pool(dead, "jenkins", "modula", dead=(1,)),
    ]  # fmt: skip


def keys(count: int) -> list[bytes]:
    """Keys of all lengths and bytes, some with hash tags."""
    chosen = random.Random(os.environ.get("SEED", "ring"))
    tagged = [b"a{%d}b" % number for number in range(20)] + [
        b"{}",
        b"{",
        b"}{",
        b"{}a{b}",
        b"$$",
        b"$a$",
        b"",
        b"{{a}}",
    ]
    return tagged + [chosen.randbytes(chosen.randrange(70)) for _ in range(count)]


def test_each_key_is_on_the_shard_that_nutcracker_has_it_on(backends: list[str], tmp_path: Path) -> None:
    every = pools(backends)
    asked = keys(300)
    with nutcracker(tmp_path, every) as paths:
        for pool, path in zip(every, paths, strict=True):
            if pool.dead:
                # A key of the dead server has it ejected.
                assert any(reply.startswith(b"-ERR") for reply in ask(path, asked))
            shard = pool.ring().shard
            assert ask(path, asked) == [b"%d" % shard(key) for key in asked], pool


def test_random_uses_each_server_that_is_live(backends: list[str]) -> None:
    shard = Pool([f"{name}:1" for name in backends], distribution="random", dead=(2,)).ring().shard
    assert {shard(b"key") for _ in range(500)} == {0, 1, 3, 4}
