"""ambassador and very many connections: what it has open and what it takes are the same before and after.

python tests/slow/ambassador_connections.py                       # a summary in Markdown on stdout
python tests/slow/ambassador_connections.py --connections 5000    # fewer
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from tests.servers.ambassador import Ambassador, configured, running
from tests.servers.redis_server import RedisServer
from tests.unit.ambassador.certificates import Files

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 60.0
AT_ONCE = 50
WARM = 2000  # connections, after which everything has been used once
GROWTH = 4.0  # MiB that memory may differ by
IDLE_MEMORY = 120.0  # MiB, with 10,000 connections
HELD = 24.0  # MiB that somebody who does not read may make it take
SERVE = "from tests.slow.ambassador_connections import serve; serve()"


class Failed(Exception):  # noqa: N818
    """A promise does not hold."""


# The upstream: a process of its own.


class Echo(asyncio.Protocol):
    """Sends back what comes; to whom begins with "flood", all that it takes, for ever."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._flooding = False

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"flood"):
            self._flooding = True
            self.resume_writing()
        else:
            self._transport.write(data)

    def pause_writing(self) -> None:
        self._flooding = False

    def resume_writing(self) -> None:
        self._flooding = True
        while self._flooding and not self._transport.is_closing():
            self._transport.write(bytes(65536))


def serve() -> None:
    """Be the upstream, and say the port."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, backlog=4096)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(run())


@contextlib.contextmanager
def upstream() -> Iterator[str]:
    """An upstream's address."""
    words = [sys.executable, "-c", SERVE]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            assert process.stdout
            yield f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


# Clients.


async def one(port: int, context: ssl.SSLContext | None, number: int) -> None:
    """Connect, say something, hear it again."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    said = b"%016d" % number
    writer.write(said)
    heard = await reader.readexactly(len(said))
    writer.close()
    if heard != said:
        raise Failed(f"{heard!r} came back for {said!r}")


async def one_of_redis(port: int, context: ssl.SSLContext | None, number: int) -> None:
    """Connect, set a key, and get it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key, said = b"key:%08d" % (number % 1000), b"%016d" % number
    get = b"*2\r\n$3\r\nGET\r\n$12\r\n%b\r\n" % key
    writer.write(b"*3\r\n$3\r\nSET\r\n$12\r\n%b\r\n$16\r\n%b\r\n" % (key, said) + get)
    expected = b"+OK\r\n$16\r\n%b\r\n" % said
    heard = await reader.readexactly(len(expected))
    writer.close()
    # Of the same key another client may have said something since.
    if heard[:10] != expected[:10]:
        raise Failed(f"{heard!r} came back for {said!r}")


Connect = Callable[[int, ssl.SSLContext | None, int], Awaitable[None]]


async def many(connect: Connect, port: int, context: ssl.SSLContext | None, count: int) -> None:
    """Make so many connections, some at a time."""
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            await asyncio.wait_for(connect(port, context, number), PATIENCE)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())


# What is measured.


def quiet(ambassador: Ambassador, descriptors: int | None = None) -> tuple[int, float]:
    """Descriptors and MiB, once no client is left, and it has no more descriptors than there were."""
    deadline = time.monotonic() + PATIENCE
    while ambassador.sum("connections") or (descriptors is not None and ambassador.descriptors > descriptors):
        if time.monotonic() > deadline:
            raise Failed(f"{ambassador.sum('connections')} connections, {ambassador.descriptors} descriptors are left")
        time.sleep(0.1)
    return ambassador.descriptors, ambassador.memory


def leaks(
    name: str, ambassador: Ambassador, connect: Connect, count: int, context: ssl.SSLContext | None = None
) -> str:
    """Make very many connections, and compare; a row of the table."""
    port = ambassador.listens_at()
    asyncio.run(many(connect, port, context, min(WARM, count)))
    descriptors, memory = quiet(ambassador)
    asyncio.run(many(connect, port, context, count))
    after, now = quiet(ambassador, descriptors)
    if now - memory > GROWTH:
        raise Failed(f"{name}: {memory:.1f} MiB have become {now:.1f}")
    if ambassador.said("crashed"):
        raise Failed(f"{name}: {ambassador.said('crashed')}")
    return f"| {name} | {count:,} | {descriptors} | {after} | {memory:.1f} | {now:.1f} |"


def idle(ambassador: Ambassador) -> str:
    """Hold as many connections as descriptors allow, up to 10,000, which have said something each."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    count = min(10_000, (most - 200) // 2)
    with contextlib.ExitStack() as stack:
        clients = []
        for number in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", ambassador.listens_at()), PATIENCE))
            client.sendall(b"%016d" % number)
            clients.append(client)
        for number, client in enumerate(clients):
            if client.recv(16) != b"%016d" % number:
                raise Failed("what came back was not what was said")
        memory = ambassador.memory
        processor = psutil.Process(ambassador.pid).cpu_times()
        time.sleep(5)
        after = psutil.Process(ambassador.pid).cpu_times()
    share = (after.user + after.system - processor.user - processor.system) / 5
    if memory > IDLE_MEMORY:
        raise Failed(f"{count} idle connections take {memory:.1f} MiB")
    return f"{count:,} idle connections: {memory:.1f} MiB, {1000 * share:.1f} ms of processor in a second"


def dead(name: str, ambassador: Ambassador, client: socket.socket, said: bytes) -> str:
    """Have very much sent to who does not read."""
    before, most = ambassador.memory, 0.0
    end = time.monotonic() + 5
    with client:
        client.sendall(said)
        while time.monotonic() < end:
            most = max(most, ambassador.memory)
            time.sleep(0.02)
    if most - before > HELD:
        raise Failed(f"{name}: {before:.1f} MiB have become {most:.1f} for one who does not read")
    return f"{name}, and the client does not read: at most {most - before:.1f} MiB more"


def main() -> int:
    """Run it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=100_000)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        print(_all(options.connections))
    except Failed as failed:
        print(f"FAILED: {failed}", file=sys.stderr)
        return 1
    return 0


def _all(count: int) -> str:
    rows = [
        "| mode | connections | descriptors before | after | MiB before | after |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    notes = []
    with tempfile.TemporaryDirectory() as folder, upstream() as address, contextlib.ExitStack() as stack:
        with running(f":0=tcp://{address}") as tcp:
            rows.append(leaks("TCP", tcp, one, count))
            notes.append(idle(tcp))
            notes.append(dead("TCP", tcp, tcp.connect(), b"flood"))
        files = Files(Path(folder))
        secured = {"listen": ":0", "upstreams": [{"address": address}], "tls": {"cert": files.good}}
        with running(configured(Path(folder) / "a.json", secured)) as tls:
            context = ssl.create_default_context(cafile=files.ca)
            rows.append(leaks("TLS from clients", tls, one, count // 20, context))
            client = context.wrap_socket(tls.connect(), server_hostname="127.0.0.1")
            notes.append(dead("TLS from clients", tls, client, b"flood"))
        one_shard, other = (stack.enter_context(RedisServer()) for _ in range(2))
        for workers in (1, 2):
            route = f":0=redis://{one_shard.path},{other.path}"
            with running(route, f"--workers={workers}") as redis:
                if workers == 1:
                    rows.append(leaks("Redis", redis, one_of_redis, count))
                    one_shard.client().set("large", "x" * 1_000_000)
                    other.client().set("large", "x" * 1_000_000)
                    asked = b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n" * 300
                    notes.append(dead("Redis, replies of 1 MB", redis, redis.connect(), asked))
                else:
                    rows.append(leaks("Redis, 2 workers (the parent)", redis, one_of_redis, count // 10))
    return "\n".join([*rows, "", *(f"- {note}" for note in notes)])


if __name__ == "__main__":
    sys.exit(main())
