"""twemproxy's configuration file: pools of servers, as listeners of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from sidecars.ambassador.settings import Found, Hash, Listener, Redis, Upstream
from sidecars.ambassador.twemproxy import Distribution, ejection, pool_listener, read_server
from sidecars.core import plainyaml
from sidecars.core.errors import WrongSettings
from sidecars.core.units import Seconds, Secret
from sidecars.core.values import nearest

# The keys of a pool with twemproxy's defaults, as texts. None: there is none.
_KEYS: dict[str, str | None] = {
    "listen": None,
    "servers": None,
    "hash": "fnv1a_64",
    "hash_tag": None,
    "distribution": "ketama",
    "timeout": "0",
    "redis": "false",
    "redis_auth": None,
    "redis_db": "0",
    "preconnect": "false",
    "auto_eject_hosts": "false",
    "server_connections": "1",
    "server_retry_timeout": "30000",
    "server_failure_limit": "2",
    # These are read and count for nothing: sockets are made as the other listeners' are, and twemproxy itself sets
    # client_connections to none.
    "backlog": "512",
    "client_connections": "0",
    "tcpkeepalive": "false",
    "reuseport": "false",
}
_UNIX = re.compile(r"(?P<path>/\S*)(?:\s+(?P<mode>[0-7]{3,4}))?")
_LISTEN = re.compile(r"(?P<host>.+):(?P<port>[0-9]{1,5})")
_LONGEST_PASSWORD = 255  # bytes, in twemproxy


def read_pools(path: str) -> Found:
    """Read the file. Raises WrongSettings for all that twemproxy refuses too, and for pools of memcached.

    alpha:
      listen: 127.0.0.1:22121
      redis: true
      servers:
       - 127.0.0.1:6379:1
       - 127.0.0.1:6380:1 second
    """
    try:
        with open(path, encoding="utf-8") as file:
            written = plainyaml.read_texts(file.read())
    except OSError as error:
        raise WrongSettings(f"cannot read {path}: {error.strerror}; is it mounted and readable?") from error
    except ValueError as error:
        raise WrongSettings(f"{path} is not valid YAML: {error}; correct it") from error
    if not isinstance(written, dict) or not written:
        raise WrongSettings(f"{path} holds no pool; write a name, and below it listen, redis: true and servers")
    pools: dict[str, str] = {}
    listeners = []
    for name, keys in written.items():
        made = _Pool(path, name, keys).listener()
        if made.id in pools:
            raise WrongSettings(f"the pools {pools[made.id]} and {name} in {path} both listen on {made.id}; change one")
        pools[made.id] = name
        listeners.append(made)
    return Found(tuple(listeners), pools, (path,), tuple(_notices(path, listeners)))


def _notices(path: str, listeners: Iterable[Listener]) -> Iterator[str]:
    """Warn of servers that a space has made the name of another, as it is written by who takes it for a comma."""
    for listener in listeners:
        for upstream in listener.upstreams:
            if re.fullmatch(r"\S+:[0-9]+:[0-9]+", upstream.name or ""):
                yield (
                    f"{path} has the server {upstream.address}, of which {upstream.name} is the name and no server: "
                    "write each server as an item of its own"
                )


class _Pool:
    """One pool, as it is written: every value is a text."""

    def __init__(self, path: str, name: str, keys: object) -> None:
        self._name = f"the pool {name} in {path}"
        if not isinstance(keys, dict):
            raise WrongSettings(f"{self._name} has no keys; write listen, redis: true and servers below it")
        self._keys: Mapping[str, Any] = keys
        for key, value in keys.items():
            if key not in _KEYS:
                raise WrongSettings(f"{self._name} has the key {key}, which is unknown; {nearest(key, _KEYS)}")
            if not isinstance(value, str) and key != "servers":
                raise self._wrong(key, "one value")

    def _wrong(self, key: str, expected: str) -> WrongSettings:
        value = self._keys.get(key)
        shown = f"is {value!r}" if isinstance(value, str) and key != "redis_auth" else "cannot be used"
        return WrongSettings(f"{self._name}: {key} {shown}, expected {expected}")

    def _text(self, key: str) -> str | None:
        found: str | None = self._keys.get(key) or _KEYS[key]
        return found

    def _flag(self, key: str) -> bool:
        if self._text(key) not in ("true", "false"):
            raise self._wrong(key, "true or false")
        return self._text(key) == "true"

    def _number(self, key: str, least: int = 0) -> int:
        text = self._text(key) or ""
        if not (text.isascii() and text.isdecimal()) or int(text) < least:
            raise self._wrong(key, f"a whole number from {least} on")
        return int(text)

    def _word(self, key: str, words: tuple[str, ...]) -> Any:
        if self._text(key) not in words:
            raise self._wrong(key, ", ".join(words))
        return self._text(key)

    def listener(self) -> Listener:
        """Make the listener."""
        for key in ("listen", "servers"):
            if not self._keys.get(key):
                raise WrongSettings(f"{self._name} has no {key}; give it")
        for key in ("tcpkeepalive", "reuseport"):
            self._flag(key)
        for key in ("backlog", "client_connections"):
            self._number(key)
        if not self._flag("redis"):
            raise WrongSettings(
                f"{self._name} is one of memcached, which is not served here; set redis: true if its servers are "
                "Redis, or leave the pool to twemproxy"
            )
        eject = ejection(
            self._flag("auto_eject_hosts"), self._number("server_failure_limit"), self._number("server_retry_timeout")
        )
        listen, more = self._listen()
        try:
            return pool_listener(listen, self._servers(), self._redis(), eject, **more)
        except ValueError as error:
            raise WrongSettings(f"{self._name} {error}") from error

    def _redis(self) -> Redis:
        timeout = self._number("timeout")
        password = self._text("redis_auth")
        if password and len(password.encode()) > _LONGEST_PASSWORD:
            raise self._wrong("redis_auth", f"at most {_LONGEST_PASSWORD} bytes")
        return Redis(
            hash=self._word("hash", get_args(Hash)),
            distribution=self._word("distribution", get_args(Distribution)),
            hash_tag=self._text("hash_tag"),
            timeout=Seconds(timeout / 1000) if timeout else None,
            connections=self._number("server_connections", 1),
            preconnect=self._flag("preconnect"),
            database=self._number("redis_db"),
            on_failure="reroute" if self._flag("auto_eject_hosts") else "fail",
            password=Secret(password) if password else None,
            client_password=Secret(password) if password else None,
        )

    def _servers(self) -> tuple[Upstream, ...]:
        written = self._keys["servers"]
        if not isinstance(written, list) or not all(isinstance(each, str) for each in written):
            raise self._wrong("servers", "a list of HOST:PORT:WEIGHT")
        return tuple(map(self._server, written))

    def _server(self, text: str) -> Upstream:
        try:
            return read_server(text)
        except ValueError as error:
            raise WrongSettings(f"{self._name} has the server {text!r}: {error}") from error

    def _listen(self) -> tuple[str, dict[str, str]]:
        """Give the address, and the mode of a unix socket."""
        text = self._keys["listen"].strip()
        if text.startswith("/"):
            match = _UNIX.fullmatch(text)
            if not match:
                raise self._wrong("listen", "HOST:PORT, or /PATH and its mode in octal")
            return match["path"], {"mode": match["mode"]} if match["mode"] else {}
        match = _LISTEN.fullmatch(text)
        if not match or not 0 < int(match["port"]) < 65536:
            raise self._wrong("listen", "HOST:PORT, or /PATH and its mode in octal")
        host = match["host"].strip("[]")
        return f"[{host}]:{match['port']}" if ":" in host else f"{host}:{match['port']}", {}
