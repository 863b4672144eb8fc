"""mysql:// and mariadb://: the server says its version, and takes, or refuses, a login.

Without a password there is a login all the same, of a user without one: a client that leaves in the middle of the
handshake is counted, and after max_connect_errors of them the server blocks its host. Refused, it is ready.
Source: MySQL's internals manual, "Connection Phase", and MariaDB's "Clientserver Protocol".
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from sidecars.init.checks import Result, State, Unmet, shown
from sidecars.init.connecting import Streams, connected
from sidecars.init.upgrading import REQUIRE, upgrade
from sidecars.init.upgrading import validate as validate_tls

if TYPE_CHECKING:
    from sidecars.init.target import Target

_MOST = 16 * 1024  # bytes of one packet
_MOST_PACKETS = 20
_NOBODY = "pod-init"
_LONG_PASSWORD, _LONG_FLAG, _WITH_DB, _PROTOCOL_41, _SSL = 0x1, 0x4, 0x8, 0x200, 0x800
_TRANSACTIONS, _SECURE_CONNECTION, _PLUGIN_AUTH = 0x2000, 0x8000, 0x80000
_FLAGS = _LONG_PASSWORD | _LONG_FLAG | _PROTOCOL_41 | _TRANSACTIONS | _SECURE_CONNECTION | _PLUGIN_AUTH
_UTF8MB4 = 45
_NATIVE, _SHA2 = b"mysql_native_password", b"caching_sha2_password"
_WHOLE = (b"mysql_clear_password", b"sha256_password")  # the password as it is, by TLS only
_QUIT = b"\x01\0\0\0\x01"
# Source: mysqld_error.h. What is not here is only a number and its text.
_ERRORS: dict[int, tuple[State, str]] = {
    1040: ("not-ready", "has as many clients as it takes; see its max_connections"),
    1044: ("auth", "does not let this user into the database"),
    1045: ("auth", "does not accept the user or the password"),
    1049: ("not-ready", "has no such database; is it created by another?"),
    1053: ("not-ready", "shuts down"),
    1129: ("not-ready", "blocks this host after clients that broke off; FLUSH HOSTS lets it in again"),
    1130: ("auth", "lets nobody in from this host; see the hosts of its users"),
    1251: ("auth", "wants a way to log in that is not spoken here"),
    1698: ("auth", "does not accept the user or the password"),
    3159: ("tls", "wants TLS; add tls=require"),
}
_LOGIN_WANTED = (1044, 1045, 1251, 1698, 3159)


class _Greeting(msgspec.Struct):
    """What the server says first, and what the login has come to."""

    version: str
    flags: int
    nonce: bytes
    plugin: bytes
    sequence: int = 0
    secure: bool = False


def validate(target: Target) -> None:
    """Read the options once; WrongSettings."""
    validate_tls(target, target.choice("tls", REQUIRE, "off") == "require", "add tls=require")


async def check(target: Target, patience: float) -> Result:
    """Read the greeting, and log in."""
    async with connected(target, patience) as streams:
        sequence, packet = await _packet(streams)
        if packet[:1] == b"\xff":
            return _failure(target, packet)
        greeting = _greeted(packet)
        greeting.sequence = sequence
        if target.choice("tls", REQUIRE, "off") == "require":
            await _secure(target, streams, greeting)
        _send(streams, greeting, _response(target, greeting))
        result = await _outcome(target, streams, greeting)
        streams.writer.write(_QUIT)
        return result


async def _packet(streams: Streams) -> tuple[int, bytes]:
    """Read one packet: three bytes of length, least first, its number, and what it holds."""
    head = await streams.reader.readexactly(4)
    length = int.from_bytes(head[:3], "little")
    if not 0 < length <= _MOST:
        raise Unmet("not-ready", f"does not speak MySQL: it says {shown(head)}")
    return head[3], await streams.reader.readexactly(length)


def _send(streams: Streams, greeting: _Greeting, body: bytes) -> None:
    greeting.sequence = (greeting.sequence + 1) % 256
    streams.writer.write(len(body).to_bytes(3, "little") + bytes([greeting.sequence]) + body)


def _greeted(packet: bytes) -> _Greeting:
    """Read the handshake, version 10: version, thread, 8 bytes of nonce, flags, the rest of the nonce, the plugin."""
    version, end, rest = packet[1:].partition(b"\0")
    if packet[:1] != b"\x0a" or not end or len(rest) < 31 + 12:
        raise Unmet("not-ready", f"does not speak MySQL: it says {shown(packet[:40])}")
    flags = int.from_bytes(rest[13:15] + rest[18:20], "little")
    length = max(13, rest[20] - 8)
    return _Greeting(
        version=shown(version.removeprefix(b"5.5.5-"), 40)[1:-1],
        flags=flags,
        nonce=(rest[4:12] + rest[31 : 31 + length])[:20],
        plugin=rest[31 + length :].partition(b"\0")[0] if flags & _PLUGIN_AUTH else _NATIVE,
    )


async def _secure(target: Target, streams: Streams, greeting: _Greeting) -> None:
    if not greeting.flags & _SSL:
        raise Unmet("tls", "speaks no TLS; leave tls=require out, or give the server a certificate")
    _send(streams, greeting, _head(target, _SSL))
    await upgrade(target, streams)
    greeting.secure = True


def _head(target: Target, more: int) -> bytes:
    flags = _FLAGS | more | (_WITH_DB if _database(target) else 0)
    return flags.to_bytes(4, "little") + (1 << 24).to_bytes(4, "little") + bytes([_UTF8MB4]) + bytes(23)


def _response(target: Target, greeting: _Greeting) -> bytes:
    plugin = greeting.plugin if greeting.plugin in (_NATIVE, _SHA2) else _NATIVE
    proof = _proof(target, plugin, greeting.nonce)
    database = _word(_database(target)) if _database(target) else b""
    head = _head(target, _SSL if greeting.secure else 0)
    return head + _word(target.user or _NOBODY) + bytes([len(proof)]) + proof + database + plugin + b"\0"


def _database(target: Target) -> str:
    return target.path.strip("/")


def _word(text: str) -> bytes:
    return text.replace("\0", "").encode() + b"\0"


def _password(target: Target) -> bytes:
    return target.password.reveal().encode() if target.password else b""


def _proof(target: Target, plugin: bytes, nonce: bytes) -> bytes:
    """Scramble the password with the nonce; an empty one is sent as nothing."""
    password = _password(target)
    if not password:
        return b""
    return sha2(password, nonce) if plugin == _SHA2 else native(password, nonce)


def native(password: bytes, nonce: bytes) -> bytes:
    """SHA1(password) XOR SHA1(nonce + SHA1(SHA1(password)))."""
    once = hashlib.sha1(password).digest()  # noqa: S324  (the protocol's)
    twice = hashlib.sha1(once).digest()  # noqa: S324
    mask = hashlib.sha1(nonce + twice).digest()  # noqa: S324
    return bytes(a ^ b for a, b in zip(once, mask, strict=True))


def sha2(password: bytes, nonce: bytes) -> bytes:
    """SHA256(password) XOR SHA256(SHA256(SHA256(password)) + nonce)."""
    once = hashlib.sha256(password).digest()
    mask = hashlib.sha256(hashlib.sha256(hashlib.sha256(password).digest()).digest() + nonce).digest()
    return bytes(a ^ b for a, b in zip(once, mask, strict=True))


async def _outcome(target: Target, streams: Streams, greeting: _Greeting) -> Result:
    """Follow the login to its end."""
    for _ in range(_MOST_PACKETS):
        greeting.sequence, packet = await _packet(streams)
        match packet[0]:
            case 0x00:
                who = f" takes queries for {target.user}" if target.user else " is ready"
                return Result("ok", f"{greeting.version}{who}")
            case 0xFF:
                return _failure(target, packet)
            case 0xFE:
                _switch(target, streams, greeting, packet)
            case 0x01:
                _more(target, streams, greeting, packet)
            case _:
                break
    return Result("not-ready", "does not end the login as MySQL does; is it MySQL?")


def _switch(target: Target, streams: Streams, greeting: _Greeting, packet: bytes) -> None:
    """Answer who wants another way to log in: its name, and another nonce. Raises Unmet."""
    plugin, _, data = packet[1:].partition(b"\0")
    if plugin in (_NATIVE, _SHA2):
        greeting.plugin, greeting.nonce = plugin, data[:20]
        _send(streams, greeting, _proof(target, plugin, greeting.nonce))
    elif plugin in _WHOLE and greeting.secure:
        _send(streams, greeting, _password(target) + b"\0")
    elif target.password is None:
        # It is complete for the server only with an answer, which it refuses.
        _send(streams, greeting, b"")
    else:
        way = f"wants to log in by {shown(plugin) if plugin else 'the passwords of MySQL 4.0'}"
        raise Unmet("auth", f"{way}, which is not spoken here{'' if greeting.secure else ' without TLS'}")


def _more(target: Target, streams: Streams, greeting: _Greeting, packet: bytes) -> None:
    """Take a step of caching_sha2_password: 3, it knows us; 4, it wants the whole password. Raises Unmet."""
    if packet[1:] == b"\x03":
        return
    if packet[1:] != b"\x04" or greeting.plugin != _SHA2:
        raise Unmet("not-ready", f"says {shown(packet)} in the login; is it MySQL?")
    if not greeting.secure:
        raise Unmet("auth", "wants the whole password, which is sent only by TLS; add tls=require, or leave it out")
    _send(streams, greeting, _password(target) + b"\0")


def _failure(target: Target, packet: bytes) -> Result:
    """Read an error: its number, a # and five letters of its class, and its text."""
    code, said = int.from_bytes(packet[1:3], "little"), packet[3:]
    if said[:1] == b"#":
        said = said[6:]
    if target.password is None and code in _LOGIN_WANTED:
        return Result("ok", "answers, and wants a login")
    state, words = _ERRORS.get(code, ("not-ready", ""))
    what, _, advice = words.partition("; ")
    text = f"{what or 'answers with an error'} ({code}: {shown(said, 200)})"
    return Result(state, f"{text}; {advice}" if advice else text)
