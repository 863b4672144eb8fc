"""`<command> healthcheck`: asks the running program's door how it does, for images that have no curl."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence

_PATIENCE = 5.0
_PROBES = ("readyz", "livez", "startupz", "healthz")


def healthcheck(argv: Sequence[str], environ: Mapping[str, str], *, prefix: str, default: str) -> int:
    """Return 0 if the probe answers 200, else 1 with the reason on stderr."""
    try:
        probe = argv[0] if argv and not argv[0].startswith("-") else "readyz"
        if probe not in _PROBES:
            raise OSError(f"{probe!r} is no probe; ask for one of {', '.join(_PROBES)}")
        _ask(probe, door(argv, environ, prefix, default))
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def door(argv: Sequence[str], environ: Mapping[str, str], prefix: str, default: str) -> tuple[str, int]:
    """Find the door's address: own flag, the running program's flag, variable, config file, default.

    Raises OSError when there is no door.
    """
    running = _words("/proc/1/cmdline")
    config = given("config", running, environ, prefix)
    address = (
        given("admin", argv, {}, prefix)
        or given("admin", running, environ, prefix)
        or (config and _in_file(config))
        or default
    )
    if address == "off":
        raise OSError(
            "the admin door is off, so that nothing can be asked: give --admin, or leave out the health check"
        )
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise OSError(f"--admin is {address!r}, expected host:port")
    return host.strip("[]"), int(port)


def given(name: str, argv: Sequence[str], environ: Mapping[str, str], prefix: str) -> str | None:
    """Look one setting up in a command line or the environment, without reading all of them."""
    flag = f"--{name}"
    found = None
    for place, word in enumerate(argv):
        if word == flag and place + 1 < len(argv):
            found = argv[place + 1]
        elif word.startswith(f"{flag}="):
            found = word[len(flag) + 1 :]
    return found or environ.get(prefix + name.upper().replace("-", "_")) or None


def _in_file(path: str) -> str | None:
    """Find `admin` in a config file; in YAML and TOML by its look: a parser would cost more than the whole check."""
    import json
    import re

    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if text.lstrip().startswith("{"):
            return str(json.loads(text).get("admin") or "") or None
    except (OSError, ValueError):
        return None
    found = re.search(r"""(?m)^admin\s*[:=]\s*["']?([^\s"'#]+)""", text)
    return found[1] if found else None


def _words(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            return os.fsdecode(file.read()).split("\0")
    except OSError:
        return []


def _ask(probe: str, address: tuple[str, int]) -> None:
    host, port = address
    host = {"": "localhost", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    try:
        with socket.create_connection((host, port), _PATIENCE) as connection:
            connection.sendall(f"GET /{probe} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            answer = b""
            while data := connection.recv(4096):
                answer += data
    except OSError as error:
        raise OSError(f"cannot ask {host}:{port}: {error}; is the program running, and is this its --admin?") from error
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split(b" ")[1:2] != [b"200"]:
        raise OSError(body.decode(errors="replace").strip() or "the door gave no answer")
