"""The variables of the image malexer/twemproxy, and how twemproxy writes a server."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar, get_args

from sidecars.ambassador.settings import Eject, Found, Hash, Listener, Redis, Settings, Upstream
from sidecars.core.errors import WrongSettings
from sidecars.core.units import Seconds
from sidecars.core.values import WORDS, nearest

T = TypeVar("T")

Distribution = Literal["ketama", "modula", "random"]
POOL = "pool"
SPACES = (
    "REDIS_SERVERS separates servers by spaces; twemproxy would have taken what follows the first for its name, and "
    "sent every key to the first. Here each is a shard: write commas where both programs read it"
)
# libmemcached leaves this port out of what it hashes, and so does twemproxy.
_NAMELESS_PORT = 11211


def read_variables(settings: Settings) -> Found:
    """Make the one listener that REDIS_SERVERS and the variables beside it describe.

    Raises WrongSettings, naming the variable.
    """
    upstreams, spaced = read_servers(settings.redis_servers or "")
    port = _read(_port, "LISTEN_PORT", settings.listen_port, "6380", "a port: 1 to 65535")
    ejects = _read(_boolean, "AUTO_EJECT_HOSTS", settings.auto_eject_hosts, "true", "true or false")
    limit = _read(_whole, "SERVER_FAILURE_LIMIT", settings.server_failure_limit, "1", "a whole number")
    retry = _read(_whole, "SERVER_RETRY_TIMEOUT", settings.server_retry_timeout, "5000", "milliseconds")
    timeout = _read(_whole, "TIMEOUT", settings.timeout, "2000", "milliseconds; 0: for ever")
    redis = Redis(
        hash=_word(Hash, "HASH", settings.hash, "fnv1a_64"),
        distribution=_word(Distribution, "DISTRIBUTION", settings.distribution, "ketama"),
        timeout=Seconds(timeout / 1000) if timeout else None,
        connections=_read(
            _positive, "SERVER_CONNECTIONS", settings.server_connections, "40", "a whole number from 1 on"
        ),
        preconnect=_read(_boolean, "PRECONNECT", settings.preconnect, "true", "true or false"),
        on_failure="reroute" if ejects else "fail",
    )
    try:
        listener = pool_listener(f"*:{port}", upstreams, redis, ejection(ejects, limit, retry))
    except ValueError as error:
        raise WrongSettings(f"REDIS_SERVERS {error}") from error
    return Found((listener,), {listener.id: POOL}, notices=(SPACES,) if spaced else ())


def pool_listener(listen: str, upstreams: tuple[Upstream, ...], redis: Redis, eject: Eject, **more: str) -> Listener:
    """Make the listener of a pool: it waits for its servers as long as twemproxy does. ValueError as Listener's."""
    return Listener(
        listen=listen,
        upstreams=upstreams,
        redis=redis,
        eject=eject,
        # twemproxy keeps a client for as long as it stays, and one timeout covers the connection and the answer.
        idle_timeout=None,
        connect_timeout=redis.timeout or Seconds(5),
        max_pending=None,
        **more,  # type: ignore[arg-type]
    )


def ejection(ejects: bool, failures: int, retry_milliseconds: int) -> Eject:
    """Leave out as twemproxy does: for the same time at each failure, and all servers if need be.

    A limit of 0 is there what 1 is.
    """
    pause = Seconds(max(1, retry_milliseconds) / 1000)
    return Eject(failures=max(1, failures) if ejects else 0, time=pause, max_time=pause, max_share=100)


def read_servers(text: str) -> tuple[tuple[Upstream, ...], bool]:
    """Read REDIS_SERVERS: the shards, and whether spaces separate any of them.

        "a:6379:1,b:6379:1"  "a:6379:1 b:6379:1"  "a:6379:1 alpha, b:6379:1 beta"

    A word without a colon is the name of the server before it. A weight may be left out here.
    """
    servers: list[Upstream] = []
    spaced = False
    for piece in text.split(","):
        own = list(_servers(piece.split()))
        spaced = spaced or len(own) > 1
        servers += own
    if not servers:
        raise WrongSettings("REDIS_SERVERS holds no server; write HOST:PORT:WEIGHT,HOST:PORT:WEIGHT")
    return tuple(servers), spaced


def _servers(words: list[str]) -> Iterator[Upstream]:
    while words:
        word = words.pop(0)
        name = f" {words.pop(0)}" if words and ":" not in words[0] and not words[0].startswith("/") else ""
        try:
            yield read_server(word + name, weighted=False)
        except ValueError as error:
            raise WrongSettings(f"REDIS_SERVERS has {word!r}: {error}") from error


def read_server(text: str, *, weighted: bool = True) -> Upstream:
    """Read a server as twemproxy writes it, from its end.

        127.0.0.1:6379:1    redis-0:6379:2 alpha    ::1:6379:1    /run/redis.sock:1

    With `weighted` the weight must be there. ValueError says what is wrong.
    """
    where, *names = text.split() or [""]
    if len(names) > 1:
        raise ValueError("expected one name, without spaces, behind HOST:PORT:WEIGHT")
    name = "".join(names)
    if where.startswith("/"):
        path, weight = _weighted_path(where, weighted)
        return Upstream(address=path, weight=weight, name=name or None)
    host, port, weight = _host_port(where, weighted)
    address = f"[{host}]:{int(port)}" if ":" in host else f"{host}:{int(port)}"
    # The ring has the port as it is written.
    odd = f"{host}:{port}" if port != str(int(port)) and int(port) != _NAMELESS_PORT else None
    return Upstream(address=address, weight=weight, name=name or odd)


def _weighted_path(where: str, weighted: bool) -> tuple[str, int]:
    path, colon, weight = where.rpartition(":")
    if not colon or not weight.isdecimal():
        if weighted:
            raise ValueError("expected /PATH:WEIGHT, or /PATH:WEIGHT NAME")
        return where, 1
    return path, _weight(weight)


def _host_port(where: str, weighted: bool) -> tuple[str, str, int]:
    """Give host, port as written, and weight."""
    front, _, last = where.rpartition(":")
    host, colon, port = front.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if colon and _is_port(port) and last.isdecimal() and _is_host(host):
        return host, port, _weight(last)
    host = front.removeprefix("[").removesuffix("]")
    if not weighted and _is_port(last) and _is_host(host):
        return host, last, 1
    raise ValueError("expected HOST:PORT:WEIGHT, or HOST:PORT:WEIGHT NAME")


def _weight(text: str) -> int:
    if int(text) == 0:
        raise ValueError("its weight is 0, so that no key would be there; give 1 or more, or leave it out")
    return int(text)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text) < 65536


def _is_host(text: str) -> bool:
    if ":" not in text:
        return bool(text)
    try:
        socket.inet_pton(socket.AF_INET6, text.partition("%")[0])
    except OSError:
        return False
    return True


def _read(reader: Callable[[str], T], name: str, text: str | None, default: str, expected: str) -> T:
    try:
        return reader((text or default).strip())
    except ValueError:
        raise WrongSettings(f"{name} is {text!r}, expected {expected}") from None


def _word(kind: Any, name: str, text: str | None, default: str) -> Any:
    word = (text or default).strip()
    if word not in get_args(kind):
        raise WrongSettings(f"{name} is {text!r}, which is unknown; {nearest(word, get_args(kind))}")
    return word


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(text)
    return int(text)


def _positive(text: str) -> int:
    if _whole(text) < 1:
        raise ValueError(text)
    return int(text)


def _port(text: str) -> int:
    if not _is_port(text):
        raise ValueError(text)
    return int(text)


def _boolean(text: str) -> bool:
    if text.lower() not in WORDS:
        raise ValueError(text)
    return WORDS[text.lower()]
