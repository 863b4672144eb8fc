"""The forward protocol's handshake: both sides prove by digests that they know the shared key, without saying it.

Source: Forward Protocol Specification v1, section "Handshake messages".
"""

from __future__ import annotations

import hashlib
import hmac
import reprlib
import secrets

import msgspec

from sidecars.core.errors import DeliveryFailed


class Helo(msgspec.Struct, frozen=True):
    """What the receiver opens with: its nonce, the password's salt if it asks for a user, whether it keeps alive."""

    nonce: bytes
    auth: bytes
    keepalive: bool


class Handshake:
    """One side's answer to one HELO, and what it remembers to check the PONG by.

    The receiver's texts are bytes here: a nonce may be any bytes, also where MessagePack calls them a string.
    """

    def __init__(self, helo: Helo, key: str, hostname: str) -> None:
        self._helo = helo
        self._key = key.encode()
        self._hostname = hostname
        self._salt = secrets.token_hex(16)

    def ping(self, username: str, password: str) -> bytes:
        """Make the PING, with the user's digest if the receiver asked for a user."""
        auth = self._helo.auth
        proof = self._proof(self._hostname.encode())
        password_proof = _digest(auth, username.encode(), password.encode()) if auth else ""
        return msgspec.msgpack.encode(["PING", self._hostname, self._salt, proof, username, password_proof])

    def check(self, pong: object) -> None:
        """Raise DeliveryFailed unless the receiver took the PING and knows the shared key itself."""
        match pong:
            case [b"PONG", True, _, bytes(hostname), bytes(proof)]:
                if not hmac.compare_digest(proof, self._proof(hostname).encode()):
                    raise DeliveryFailed("auth", "it does not know the shared key; is this the right receiver?")
            case [b"PONG", False, reason, *_]:
                raise DeliveryFailed(
                    "auth", f"it refused us: {shown(reason)}; have both sides the same shared key and user?"
                )
            case _:
                raise DeliveryFailed(
                    "protocol", f"it answered {shown(pong)} instead of PONG; is it a forward receiver?"
                )

    def _proof(self, hostname: bytes) -> str:
        return _digest(self._salt.encode(), hostname, self._helo.nonce, self._key)


def read_helo(message: object) -> Helo:
    """Read the receiver's first message; DeliveryFailed when it is no HELO."""
    match message:
        case [b"HELO", {} as options]:
            nonce, auth = (options.get(name, b"") for name in (b"nonce", b"auth"))
            if isinstance(nonce, bytes) and isinstance(auth, bytes):
                return Helo(nonce, auth, options.get(b"keepalive", True) is not False)
    raise DeliveryFailed("protocol", f"it began with {shown(message)} instead of HELO; is it a forward receiver?")


def shown(message: object) -> str:
    """Give a stranger's message as text for ours: short, not deep, without control characters."""
    text = message[:100].decode(errors="replace") if isinstance(message, bytes) else reprlib.repr(message)
    return "".join(character if character.isprintable() else "?" for character in text)


def _digest(*parts: bytes) -> str:
    return hashlib.sha512(b"".join(parts)).hexdigest()
