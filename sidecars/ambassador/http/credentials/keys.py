"""Credentials that are the same in each request: a key, a password, a token."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Self

from sidecars.ambassador.http.credentials import Unavailable, without
from sidecars.ambassador.http.renewing import Renewed
from sidecars.ambassador.http.request import Headers
from sidecars.ambassador.http.settings import Credential
from sidecars.core.units import Secret

_FIT = re.compile(r"[\x21-\x7e]+(?:[ \t]+[\x21-\x7e]+)*")


def value(text: str) -> bytes:
    """Give a secret as the value of a header. ValueError, without it, where it would break out of one."""
    text = text.strip()
    if not _FIT.fullmatch(text):
        raise ValueError("is empty, or has something in it that no header may have, as a line break")
    return text.encode()


class HeaderSigner:
    """A header whose value is made of a secret."""

    needs_body = False

    def __init__(self, header: str, secret: Secret, make: Callable[[str], bytes]) -> None:
        self._name = header.encode()
        self._low = header.lower().replace("_", "-").encode()
        self._value: Renewed[bytes] = Renewed(secret, make, b"")

    @classmethod
    def of(cls, credential: Credential) -> Self | None:
        """Give what puts a key, a password or a token; None where it is neither."""
        if credential.api_key:
            return cls(credential.api_key.header, credential.api_key.key, value)
        if credential.basic:
            user = credential.basic.user
            return cls("Authorization", credential.basic.password, lambda password: basic(user, password))
        if credential.bearer:
            return cls("Authorization", credential.bearer.token, lambda token: b"Bearer " + value(token))
        return None

    def sign(
        self, method: str, scheme: str, authority: str, target: bytes, headers: Headers, body: bytes | None
    ) -> Headers:
        """Give the headers with the credential. Raises Unavailable."""
        value = self._value.get()
        if not value:
            raise Unavailable("the secret cannot be read, or is none that a header may have")
        return [*without(headers, self._low), (self._name, value)]


def basic(user: str, password: str) -> bytes:
    """Give a user and a password as RFC 7617 has them."""
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())
