"""SCRAM-SHA-256: a client proves that it knows a password, and learns that the server knows it too. RFC 5802, 7677."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import unicodedata

_MOST_ROUNDS = 2_000_000  # about a second of work that the server would have us do


class Refused(Exception):  # noqa: N818
    """The server's message is none of SCRAM, or it does not know the password."""


class Scram:
    """One login: first() is sent, then what final() makes of the answer, and check() looks at the last answer."""

    def __init__(self, user: str, password: str, nonce: str | None = None) -> None:
        name = user.replace("=", "=3D").replace(",", "=2C")
        self._password = prepared(password)
        self._nonce = nonce or secrets.token_urlsafe(18)
        self._bare = f"n={name},r={self._nonce}"
        self._signature = b""

    def first(self) -> bytes:
        """Begin: no channel binding, and the name."""
        return f"n,,{self._bare}".encode()

    def final(self, said: bytes) -> bytes:
        """Answer the server's first message with the proof. It hashes as often as the server says. Raises Refused."""
        fields = _fields(said)
        nonce, rounds = fields.get("r", ""), fields.get("i", "")
        if not nonce.startswith(self._nonce) or not rounds.isascii() or not rounds.isdigit() or len(rounds) > 8:
            raise Refused("its challenge is none of SCRAM")
        if not 0 < int(rounds) <= _MOST_ROUNDS:
            raise Refused(f"it asks for {rounds} rounds of hashing, of which none to {_MOST_ROUNDS} are done")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, _decoded(fields.get("s", "")), int(rounds))
        key = _hmac(salted, b"Client Key")
        without = f"c=biws,r={nonce}"
        everything = ",".join((self._bare, said.decode(), without)).encode()
        self._signature = _hmac(_hmac(salted, b"Server Key"), everything)
        mask = _hmac(hashlib.sha256(key).digest(), everything)
        proof = bytes(a ^ b for a, b in zip(key, mask, strict=True))
        return f"{without},p={base64.b64encode(proof).decode()}".encode()

    def check(self, said: bytes) -> None:
        """Look whether the server knows the password too. Raises Refused."""
        if not self._signature or not hmac.compare_digest(_decoded(_fields(said).get("v", "")), self._signature):
            raise Refused("it does not know the password itself; is it the right server?")


def prepared(password: str) -> bytes:
    """Write a password as SASLprep does, RFC 4013, as far as letters that people type go."""
    if password.isascii():
        return password.encode()
    spaced = "".join(" " if unicodedata.category(each) == "Zs" else each for each in password)
    return unicodedata.normalize("NFKC", spaced).encode()


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _fields(said: bytes) -> dict[str, str]:
    try:
        pairs = [each.partition("=") for each in said.decode("ascii").split(",")]
    except UnicodeDecodeError:
        raise Refused("its message is none of SCRAM") from None
    return {name: value for name, _, value in pairs}


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Refused("its message is none of SCRAM") from None
