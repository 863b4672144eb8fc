"""nats://: the server says its INFO, takes a CONNECT, and answers PING.

A server that wants a login is there: without credentials that is ready. Credentials are user and password, or a token
in the place of the user; TLS is spoken where the server wants it. Source: NATS's documentation, "Client Protocol".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from sidecars.init.checks import Result, Unmet, shown
from sidecars.init.connecting import Streams, connected
from sidecars.init.upgrading import REQUIRE, upgrade

if TYPE_CHECKING:
    from sidecars.init.target import Target

_MOST_LINES = 20


class _Info(msgspec.Struct):
    """What is read of INFO."""

    version: str = "?"
    auth_required: bool = False
    tls_required: bool = False
    tls_available: bool = False
    ldm: bool = False


def validate(target: Target) -> None:
    """Read the options once; WrongSettings."""
    from sidecars.init.tls import validate as validate_tls

    target.choice("tls", REQUIRE, "off")
    validate_tls(target)


async def check(target: Target, patience: float) -> Result:
    """Connect as a client does, up to the answer to its first PING."""
    async with connected(target, patience) as streams:
        info = _informed(await streams.reader.readuntil(b"\n"))
        if info.ldm:
            return Result("not-ready", "shuts down")
        await _secure(target, streams, info)
        if info.auth_required and not _knows(target):
            return Result("ok", f"{_named(info)} answers, and wants a login")
        streams.writer.write(b"CONNECT " + msgspec.json.encode(_words(target, info)) + b"\r\nPING\r\n")
        return await _answer(streams, info)


def _informed(line: bytes) -> _Info:
    kind, _, said = line.partition(b" ")
    try:
        if kind.upper() != b"INFO":
            raise ValueError
        return msgspec.json.decode(said, type=_Info)
    except ValueError:
        raise Unmet("not-ready", f"does not speak NATS: it says {shown(line)}") from None


def _named(info: _Info) -> str:
    return f"NATS {shown(info.version, 40)[1:-1]}"


async def _secure(target: Target, streams: Streams, info: _Info) -> None:
    wanted = target.choice("tls", REQUIRE, "off") == "require"
    if wanted and not (info.tls_required or info.tls_available):
        raise Unmet("tls", "speaks no TLS; leave tls=require out, or give the server a certificate")
    if wanted or info.tls_required:
        await upgrade(target, streams)


def _knows(target: Target) -> bool:
    return target.password is not None or bool(target.user)


def _words(target: Target, info: _Info) -> dict[str, Any]:
    """Say who we are. A user without a password is a token, as in every client's URL."""
    words: dict[str, Any] = {
        "verbose": False, "pedantic": False, "tls_required": info.tls_required, "name": "pod-init",
        "lang": "python", "version": "1", "protocol": 1,
    }  # fmt: skip
    if target.password is not None:
        password = target.password.reveal()
        return {**words, "user": target.user, "pass": password} if target.user else {**words, "auth_token": password}
    return {**words, "auth_token": target.user} if target.user else words


async def _answer(streams: Streams, info: _Info) -> Result:
    for _ in range(_MOST_LINES):
        line = await streams.reader.readuntil(b"\n")
        word = line.split(None, 1)[0].upper() if line.strip() else b""
        if word == b"PONG":
            return Result("ok", f"{_named(info)} answers PONG")
        if word == b"-ERR":
            said = shown(line[5:].strip().strip(b"'"))
            if "authorization" in said.lower() or "authentication" in said.lower():
                return Result("auth", f"does not accept the login: {said}")
            return Result("not-ready", f"answers with the error {said}")
        if word == b"PING":
            streams.writer.write(b"PONG\r\n")
        elif word not in (b"INFO", b"+OK"):
            return Result("not-ready", f"answers {shown(line)}; is it NATS?")
    return Result("not-ready", "says much, but no PONG; is it NATS?")
