"""redis:// and rediss://: the server answers PING, and where wanted has a role and a database.

A server that wants a login is there: without credentials that is ready, with credentials they are to be right.
Source: the Redis serialization protocol (RESP2), and the errors of redis/src/server.c.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sidecars.init.checks import Result, State, Unmet, shown
from sidecars.init.connecting import Streams, connected
from sidecars.init.upgrading import context_of
from sidecars.init.upgrading import validate as validate_tls

if TYPE_CHECKING:
    from sidecars.init.target import Target

ROLES = ("any", "master", "replica")
_NUMBER = re.compile(rb"\*[0-9]{1,2}")
_LENGTH = re.compile(r"\$[0-9]{1,4}")
# What an error begins with, how it stands, and what it means.
_ERRORS: tuple[tuple[str, State, str], ...] = (
    ("-LOADING", "not-ready", "loads its data still"),
    ("-MASTERDOWN", "not-ready", "is a replica without its master"),
    ("-BUSY ", "not-ready", "is busy with a script"),
    ("-DENIED", "auth", "is in protected mode and takes no clients of other hosts; give it a password, or a bind"),
    ("-ERR max number of clients", "not-ready", "has as many clients as it takes; see its maxclients"),
    ("-WRONGPASS", "auth", "does not accept the user or the password"),
    ("-ERR invalid password", "auth", "does not accept the password"),
    ("-NOAUTH", "auth", "wants a login; give password_file"),
    ("-NOPERM", "auth", "does not permit this user to ask"),
    ("-ERR AUTH", "auth", "has no password, but one was given"),
    ("-ERR Client sent AUTH", "auth", "has no password, but one was given"),
)


def validate(target: Target) -> None:
    """Read the options once; WrongSettings."""
    validate_tls(target, target.scheme == "rediss", "write rediss://")
    target.choice("role", ROLES, "any")
    _database(target)


def _database(target: Target) -> int:
    path = target.path.strip("/")
    if path and "db" not in target.options:
        target.options["db"] = path
    return target.number("db", 0)


async def check(target: Target, patience: float) -> Result:
    """Log in if there is a password, choose the database, send PING, and ask for the role if one is wanted."""
    context = context_of(target, target.scheme == "rediss")
    async with connected(target, patience, context, target.options.get("server_name")) as streams:
        try:
            return await _look(target, streams)
        except Unmet as unmet:
            # With neither a password nor a wish that needs one, a server that wants a login is as wanted.
            if target.password is None and unmet.result.state == "auth" and _says_login(unmet) and _modest(target):
                return Result("ok", "answers, and wants a login")
            raise


def _says_login(unmet: Unmet) -> bool:
    return unmet.result.text.startswith(("wants a login", "does not permit"))


def _modest(target: Target) -> bool:
    return target.choice("role", ROLES, "any") == "any"


async def _look(target: Target, streams: Streams) -> Result:
    if target.password is not None:
        login = [target.user] if target.user else []
        await _ask(streams, "+OK", "AUTH", *login, target.password.reveal())
    await _ask(streams, "+PONG", "PING")
    if number := _database(target):
        await _ask(streams, "+OK", "SELECT", str(number))
    if _modest(target):
        return Result("ok", "answers PONG")
    return await _role(target, streams)


async def _ask(streams: Streams, wanted: str, *words: str) -> None:
    """Send a command and compare the answer. Raises Unmet."""
    streams.writer.write(_command(words))
    line = await _line(streams)
    if line != wanted:
        raise _complaint(line)


def _command(words: tuple[str, ...]) -> bytes:
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


async def _line(streams: Streams) -> str:
    line = await streams.reader.readuntil(b"\n")
    return line.decode(errors="backslashreplace").rstrip("\r\n")


def _complaint(line: str) -> Unmet:
    for start, state, words in _ERRORS:
        if line.startswith(start):
            return Unmet(state, words)
    return Unmet("not-ready", f"answers {shown(line)}" + ("" if line.startswith("-") else "; is it Redis?"))


async def _role(target: Target, streams: Streams) -> Result:
    """Ask for the role: [master, ...] or [slave, host, port, state, ...]. A replica is one that is connected."""
    streams.writer.write(_command(("ROLE",)))
    head = await _line(streams)
    if not _NUMBER.fullmatch(head.encode()):
        raise _complaint(head)
    role = await _text(streams)
    wanted = target.choice("role", ROLES, "any")
    if {"slave": "replica"}.get(role, role) != wanted:
        return Result("not-ready", f"is a {shown({'slave': 'replica'}.get(role, role))}, not a {wanted}")
    if wanted == "replica":
        master, state = await _text(streams), ""
        await _line(streams)
        state = await _text(streams)
        if state != "connected":
            return Result("not-ready", f"is a replica that is not yet in step with {shown(master)}: {shown(state)}")
    return Result("ok", f"answers PONG, as a {wanted}")


async def _text(streams: Streams) -> str:
    """Read one string of an array."""
    head = await _line(streams)
    if not _LENGTH.fullmatch(head):
        raise _complaint(head)
    return (await streams.reader.readexactly(int(head[1:]) + 2))[:-2].decode(errors="backslashreplace")
