"""ambassador under test, met as its operator meets it, and what to put before and behind it."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from tests.servers.process import Sidecar

PATIENCE = 30.0


class Ambassador(Sidecar):
    """An ambassador with these arguments; its door is at a port of its own.

    with Ambassador(":0=tcp://127.0.0.1:5432").ready() as ambassador, ambassador.connect() as client: ...
    """

    command: ClassVar[Sequence[str]] = (sys.executable, "-m", "sidecars.ambassador")
    prefix: ClassVar[str] = "AMBASSADOR_"
    defaults: ClassVar[dict[str, str]] = {"AMBASSADOR_ADMIN": "127.0.0.1:0"}

    def ready(self) -> Self:
        """This, once it listens on everything it was told."""
        self.wait_until_ready()
        return self

    def address(self, listener: str | None = None) -> tuple[str, int] | str:
        """Where a listener listens, by its `listen` (None: the only one, or the first): the last that was logged."""
        self.wait_for("listening", PATIENCE)
        said = [each for each in self.said("listening") if listener in (None, each["listener"])]
        assert said, f"{listener} is not listened on:\n" + "\n".join(self.lines)
        text: str = next((each for each in said if each["listener"] == said[0]["listener"]), said[0])["address"]
        host, separator, port = text.rpartition(":")
        return (host.strip("[]"), int(port)) if separator and not text.startswith(("/", "@")) else text

    def listens_at(self, listener: str | None = None) -> int:
        """The port of a listener."""
        address = self.address(listener)
        assert isinstance(address, tuple)
        return address[1]

    def connect(self, listener: str | None = None, patience: float = PATIENCE) -> socket.socket:
        """A client's connection to a listener."""
        address = self.address(listener)
        if isinstance(address, tuple):
            return socket.create_connection(address, patience)
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(patience)
        client.connect(address)
        return client

    def status(self) -> dict[str, Any]:
        """What /status tells."""
        code, text = self.ask("/status")
        assert code == 200, text
        return dict(json.loads(text))

    def upstreams(self) -> list[dict[str, Any]]:
        """What /upstreams tells of each endpoint, of all listeners."""
        code, text = self.ask("/upstreams")
        assert code == 200, text
        return [each for listener in json.loads(text)["listeners"] for each in listener["upstreams"]]

    def post(self, path: str) -> tuple[int, str]:
        """Command something by the door; it must have been started with --admin-post."""
        return self.ask(path, "POST", {"X-Sidecars": "1"})

    def sum(self, name: str, **labels: str) -> float:
        """A metric's value, by its name without the prefix; 0 where it is not there yet."""
        return self.metric(f"ambassador_{name}", **labels)


def configured(path: Path, *listeners: dict[str, Any], **settings: Any) -> str:
    """The flag of a config file with these listeners, written now."""
    path.write_text(json.dumps({"listeners": listeners, **settings}))
    return f"--config={path}"


class Upstream:
    """A server on loopback: each connection is served in a thread of its own, as the function does it.

    Without one it sends back whatever comes, to the end.
    """

    def __init__(self, serve: Callable[[socket.socket], None] | None = None, host: str = "127.0.0.1", port: int = 0):
        self._serve = serve or echo
        self._listener = socket.create_server((host, port), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.connections: list[socket.socket] = []
        self.count = 0
        threading.Thread(target=self._run, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Listen no more, and drop every connection."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # or the thread would accept on: close() alone does not wake it
        self._listener.close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.count += 1
                self.connections.append(connection)
                threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            self._serve(connection)
        with contextlib.suppress(ValueError):
            self.connections.remove(connection)


def echo(connection: socket.socket) -> None:
    """Send back what comes, until it ends."""
    while data := connection.recv(65536):
        connection.sendall(data)


def naming(name: bytes) -> Callable[[socket.socket], None]:
    """Say a name, and then send back what comes."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(name)
        echo(connection)

    return serve


def exchange(client: socket.socket, data: bytes) -> bytes:
    """Send something, end there, and give all that comes back."""
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)
    return b"".join(iter(lambda: client.recv(65536), b""))


def received(client: socket.socket, size: int) -> bytes:
    """So many bytes; fewer when it ends before."""
    data = b""
    while len(data) < size and (more := client.recv(size - len(data))):
        data += more
    return data


@contextlib.contextmanager
def running(*arguments: str | Path, **options: Any) -> Iterator[Ambassador]:
    """An ambassador that is ready; killed at the end of the block if it still runs then."""
    with Ambassador(*arguments, **options) as ambassador:
        yield ambassador.ready()
