"""Who may come in by something that is kept in a file: API keys, users with passwords, tokens."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from sidecars.ambassador.http.renewing import Renewed
from sidecars.ambassador.http.request import Headers, Refusal, Request
from sidecars.ambassador.http.settings import ApiKeys, Basic, Bearer

_NOBODY = (os.urandom(16), False)
# What is compared is a digest with a key that nobody knows: how long it takes tells nothing of a secret.
_KEY = os.urandom(32)
_SHA256 = re.compile(r"sha256:([0-9a-fA-F]{64})")

Names = Mapping[bytes, str]  # by the digest of the secret


class Entry(NamedTuple):
    """Somebody may come in.

    user    as whom
    drop    the header that has let them in, in small letters; None: none is taken out
    target  without what has let them in; None: it stays
    add     headers that the upstream is told
    """

    user: str
    drop: bytes | None = None
    target: bytes | None = None
    add: Headers = []  # noqa: RUF012  (never changed)


def digest(secret: bytes) -> bytes:
    """Give what stands for a secret in this process, and nowhere else."""
    return hashlib.blake2b(secret, key=_KEY, digest_size=16).digest()


def named(text: str, noun: str) -> dict[bytes, str]:
    """Read lines of SECRET or NAME SECRET: names by digest. ValueError, without a secret in it.

    One without a name has that of its line: "key-2".
    """
    names: dict[bytes, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        match line.split():
            case []:
                continue
            case [secret]:
                names[digest(secret.encode())] = f"{noun}-{number}"
            case [name, secret]:
                names[digest(secret.encode())] = name
            case _:
                raise ValueError(f"line {number} has more than two words; write {noun.upper()}, or NAME {noun.upper()}")
    if not names:
        raise ValueError(f"has no {noun} in it; write one a line")
    return names


def keys(text: str) -> dict[bytes, str]:
    """Read the lines of a file of API keys."""
    return named(text, "key")


def tokens(text: str) -> dict[bytes, str]:
    """Read the lines of a file of tokens."""
    return named(text, "token")


def passwords(text: str) -> dict[bytes, tuple[bytes, bool]]:
    """Read lines of USER:PASSWORD and USER:sha256:HEX: the digest of the password, or of its SHA-256, by user.

    ValueError, without a password in it.
    """
    users: dict[bytes, tuple[bytes, bool]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        user, colon, password = line.partition(":")
        if not user or not colon or not password:
            raise ValueError(f"line {number} is not USER:PASSWORD or USER:sha256:HEX")
        hashed = _SHA256.fullmatch(password)
        if password.startswith("sha256:") and not hashed:
            raise ValueError(f"line {number} has sha256: without 64 hexadecimal digits after it")
        users[user.encode()] = digest(bytes.fromhex(hashed[1]) if hashed else password.encode()), bool(hashed)
    if not users:
        raise ValueError("has no user in it; write USER:PASSWORD, one a line")
    return users


def credentials_of(request: Request, scheme: bytes, rule: str) -> bytes | Refusal | None:
    """Give what comes after a scheme in Authorization; None when there is no such.

    Two of them are refused: who comes after us may read the other one.
    """
    values = request.get(b"authorization")
    if not values:
        return None
    if len(values) > 1:
        return Refusal(401, rule, "Authorization is there more than once", detail="Authorization more than once")
    given, _, rest = values[0].partition(b" ")
    return rest.strip() if given.lower() == scheme else None


class ApiKeyWay:
    """A key in a header, or in the query."""

    rule = "api_key"

    def __init__(self, settings: ApiKeys) -> None:
        self._keys: Renewed[Names] = Renewed(settings.keys, keys, {})
        self._shown = settings.header
        self._header = settings.header.lower().encode()
        self._query = settings.query.encode() if settings.query else None
        self.challenge = f'ApiKey realm="ambassador", header="{settings.header}"'.encode()
        self.missing = f"give a key in the header {settings.header}"

    def judge(self, request: Request) -> Entry | Refusal | None:
        """Say whether the key lets the request in; None when there is none."""
        given = request.get(self._header)
        target, found = self._taken_out(request)
        candidates = given or found
        if not candidates:
            return None
        if len(given) > 1 or len(found) > 1:
            return Refusal(401, self.rule, "there is more than one key", detail="more than one key")
        name = self._keys.get().get(digest(candidates[0].strip()))
        if name is None:
            return Refusal(401, self.rule, "the key is not known", detail="unknown key")
        return Entry(name, self._header, target)

    def _taken_out(self, request: Request) -> tuple[bytes | None, list[bytes]]:
        """Give the target without the keys in its query, and the keys."""
        if self._query is None or not request.query:
            return None, []
        kept, found = [], []
        for part in request.query.split(b"&"):
            name, _, value = part.replace(b"+", b" ").partition(b"=")
            if unquote_to_bytes(name) == self._query:
                found.append(unquote_to_bytes(value))
            else:
                kept.append(part)
        if not found:
            return None, []
        return request.path + (b"?" + b"&".join(kept) if kept else b""), found


class BasicWay:
    """A user and a password. Source: RFC 7617."""

    rule = "basic"
    missing = "give a user and a password"

    def __init__(self, settings: Basic) -> None:
        self._users: Renewed[Mapping[bytes, tuple[bytes, bool]]] = Renewed(settings.users, passwords, {})
        self.challenge = f'Basic realm="{settings.realm}", charset="UTF-8"'.encode()

    def judge(self, request: Request) -> Entry | Refusal | None:
        """Say whether the password lets the request in; None when there is none."""
        given = credentials_of(request, b"basic", self.rule)
        if given is None or isinstance(given, Refusal):
            return given
        try:
            user, colon, password = base64.b64decode(given, validate=True).partition(b":")
        except binascii.Error:
            colon = b""
        if not colon:
            return Refusal(401, self.rule, "user and password are not in Base64, with a colon", detail="not Base64")
        # An unknown user takes as long as a known one.
        expected, hashed = self._users.get().get(user, _NOBODY)
        sha256 = hashlib.sha256(password).digest()
        actual = digest(sha256 if hashed else password)
        if not hmac.compare_digest(actual, expected):
            return Refusal(401, self.rule, "user or password is wrong", detail="wrong user or password")
        return Entry(user.decode(errors="replace"), b"authorization")


class BearerWay:
    """A token that is known. Source: RFC 6750."""

    rule = "bearer"
    missing = "give a token: Authorization: Bearer TOKEN"
    challenge = b'Bearer realm="ambassador"'

    def __init__(self, settings: Bearer) -> None:
        self._tokens: Renewed[Names] = Renewed(settings.tokens, tokens, {})

    def judge(self, request: Request) -> Entry | Refusal | None:
        """Say whether the token lets the request in; None when there is none."""
        given = credentials_of(request, b"bearer", self.rule)
        if given is None or isinstance(given, Refusal):
            return given
        name = self._tokens.get().get(digest(given))
        if name is None:
            return Refusal(401, self.rule, "the token is not known", detail="unknown token")
        return Entry(name, b"authorization")
