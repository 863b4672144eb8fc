"""postgres://: the server takes a startup packet, and with a password a login, up to where queries could follow.

A server that asks for a password is there: without one that is ready, with one it is to be right.
Source: PostgreSQL's documentation, "Frontend/Backend Protocol", version 3.0, and its appendix "Error Codes".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sidecars.init.checks import Result, Unmet, shown
from sidecars.init.connecting import Streams, connected
from sidecars.init.resolving import in_thread
from sidecars.init.upgrading import REQUIRE, upgrade
from sidecars.init.upgrading import validate as validate_tls

if TYPE_CHECKING:
    from sidecars.init.scram import Scram
    from sidecars.init.target import Target

_MOST = 64 * 1024  # bytes of one message
_MOST_MESSAGES = 200
_VERSION = 196608  # 3.0
_SSL = 80877103
_KNOWN = b"RENSKZv"
_OK, _CLEARTEXT, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 5, 10, 11, 12
_MECHANISM = b"SCRAM-SHA-256"


class _Login(msgspec.Struct):
    """How far the login has come."""

    version: str = ""
    scram: Scram | None = None
    done: bool = False


def validate(target: Target) -> None:
    """Read the options once; WrongSettings."""
    validate_tls(target, target.choice("tls", REQUIRE, "off") == "require", "add tls=require")


async def check(target: Target, patience: float) -> Result:
    """Say who we are, and go as far as the password allows."""
    async with connected(target, patience) as streams:
        if target.choice("tls", REQUIRE, "off") == "require":
            await _secure(target, streams)
        streams.writer.write(_startup(target))
        login = _Login()
        for _ in range(_MOST_MESSAGES):
            kind, body = await _message(streams)
            result = await _step(target, streams, login, kind, body)
            if result:
                # It logs who breaks off after the login, and who says goodbye in the place of a password.
                streams.writer.write(_framed(b"X", b"") if login.done else b"")
                return result
        return Result("not-ready", "says more than any login needs; is it PostgreSQL?")


async def _secure(target: Target, streams: Streams) -> None:
    streams.writer.write((8).to_bytes(4, "big") + _SSL.to_bytes(4, "big"))
    answer = await streams.reader.readexactly(1)
    if answer == b"N":
        raise Unmet("tls", "speaks no TLS; leave tls=require out, or set the server's ssl=on")
    if answer != b"S":
        raise Unmet("not-ready", f"does not speak PostgreSQL: it answers {shown(answer)}")
    await upgrade(target, streams)


def _user(target: Target) -> str:
    return target.user or "postgres"


def _database(target: Target) -> str:
    return target.path.strip("/") or _user(target)


def _startup(target: Target) -> bytes:
    words = ("user", _user(target), "database", _database(target), "application_name", "pod-init")
    body = _VERSION.to_bytes(4, "big") + b"".join(_word(word) for word in words) + b"\0"
    return (len(body) + 4).to_bytes(4, "big") + body


def _word(text: str) -> bytes:
    # A NUL would end the word early, and what follows be taken for another parameter.
    return text.replace("\0", "").encode() + b"\0"


def _framed(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


async def _message(streams: Streams) -> tuple[bytes, bytes]:
    head = await streams.reader.readexactly(5)
    length = int.from_bytes(head[1:], "big") - 4
    if head[0] not in _KNOWN or not 0 <= length <= _MOST:
        raise Unmet("not-ready", f"does not speak PostgreSQL: it answers {shown(head)}")
    return head[:1], await streams.reader.readexactly(length)


async def _step(target: Target, streams: Streams, login: _Login, kind: bytes, body: bytes) -> Result | None:
    """Take one message; a result ends it."""
    if kind == b"E":
        return _failure(target, body)
    if kind == b"Z":
        if not login.done:
            return Result("not-ready", "takes queries before a login; is it PostgreSQL?")
        return Result("ok", f"{login.version or 'the server'} takes queries for {_user(target)}")
    if kind == b"S" and body.startswith(b"server_version\0"):
        login.version = f"PostgreSQL {shown(body[15:].rstrip(bytes(1)).partition(b' ')[0], 20)[1:-1]}"
    if kind == b"R":
        return await _authenticate(target, streams, login, body)
    return None


async def _authenticate(target: Target, streams: Streams, login: _Login, body: bytes) -> Result | None:
    method, rest = int.from_bytes(body[:4], "big"), body[4:]
    if method == _OK:
        login.done = True
        return None
    if target.password is None:
        return Result("ok", "answers, and wants a login")
    if method == _SASL_FINAL:
        await _scram(login, rest)
        return None
    answer = await _proof(target, login, method, rest)
    if answer is None:
        return Result("auth", f"wants a way to log in that is not spoken here ({method}); leave the password out")
    streams.writer.write(_framed(b"p", answer))
    return None


async def _proof(target: Target, login: _Login, method: int, rest: bytes) -> bytes | None:
    password = target.password.reveal() if target.password else ""
    if method == _CLEARTEXT:
        return _word(password)
    if method == _MD5:
        return _md5(_user(target), password, rest[:4])
    if method == _SASL and _MECHANISM in rest.split(b"\0"):
        from sidecars.init.scram import Scram

        login.scram = Scram("", password)  # the server takes the user of the startup packet
        first = login.scram.first()
        return _MECHANISM + b"\0" + len(first).to_bytes(4, "big") + first
    if method == _SASL_CONTINUE and login.scram:
        return await _scram(login, rest, proof=True)
    return None


def _md5(user: str, password: str, salt: bytes) -> bytes:
    import hashlib

    try:
        inner = hashlib.md5(password.encode() + user.encode()).hexdigest()  # noqa: S324  (the protocol's)
        outer = hashlib.md5(inner.encode() + salt).hexdigest()  # noqa: S324
    except ValueError:  # where only what FIPS allows is built in
        raise Unmet("auth", "wants a login by MD5, which this system forbids; let it use scram-sha-256") from None
    return f"md5{outer}\0".encode()


async def _scram(login: _Login, said: bytes, proof: bool = False) -> bytes:
    from sidecars.init.scram import Refused

    scram = login.scram
    if scram is None:
        raise Unmet("not-ready", "answers a question that was not asked; is it PostgreSQL?")
    try:
        if proof:
            return await in_thread(scram, lambda: scram.final(said))
        scram.check(said)
    except Refused as refused:
        raise Unmet("auth", f"does not log in as SCRAM has it: {refused}") from None
    return b""


def _failure(target: Target, body: bytes) -> Result:
    """Read an ErrorResponse: fields of a letter and a text each."""
    fields = {field[:1]: field[1:] for field in body.split(b"\0") if field}
    code, said = fields.get(b"C", b"").decode(errors="replace"), shown(fields.get(b"M", b""), 200)
    if code.startswith("28"):
        if target.password is None:
            return Result("ok", f"answers, and wants another login: {said}")
        return Result("auth", f"does not accept the login of {shown(_user(target))}: {said}")
    if code == "3D000":
        return Result("not-ready", f"has no database {shown(_database(target))}; is it created by another?")
    if code == "57P03":
        return Result("not-ready", f"is not ready yet: {said}")
    if code == "53300":
        return Result("not-ready", f"has as many clients as it takes: {said}")
    return Result("not-ready", f"answers with the error {shown(code)}: {said}")
