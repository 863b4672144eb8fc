"""Whom a JSON Web Token lets in: the keys come from a plan, a file or a secret, and what was verified is remembered."""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable
from typing import NamedTuple

from sidecars.ambassador.http.jwt import (
    LONGEST,
    Claims,
    Key,
    Rejected,
    UnknownKey,
    Verifier,
    claim_of,
    in_file,
    published,
    shared,
    written,
)
from sidecars.ambassador.http.renewing import Renewed
from sidecars.ambassador.http.request import Headers, Refusal, Request, Wait
from sidecars.ambassador.http.settings import Jwt
from sidecars.ambassador.http.users import Entry, credentials_of
from sidecars.ambassador.plan import Jwks
from sidecars.core.units import Secret

_FRESH = 5.0  # seconds in which keys that were asked for are not asked for anew because of an unknown one
_AGAIN = 1.0  # seconds between two such wishes
_MOST_REMEMBERED = 1024
_REMEMBERED = 300.0  # seconds at most
_LONGEST_USER = 200
_UNFIT = re.compile(r"[\x00-\x1f\x7f]")

Keys = tuple[Key, ...]


def fresh(interval: float) -> float:
    """Give for how many seconds keys are new, which are asked for so often."""
    return min(_FRESH, interval)


class _Remembered(NamedTuple):
    entry: Entry
    keys: Keys  # they are the same still
    until: float  # on the wall clock, as `exp` is


class JwtWay:
    """A JSON Web Token.

    want  is called when keys are to be fetched anew
    """

    rule = "jwt"

    def __init__(self, settings: Jwt, want: Callable[[], None]) -> None:
        self._settings = settings
        self._want = want
        self._wanted = float("-inf")
        self._fresh = fresh(float(settings.jwks_interval))
        self._verifier = Verifier(settings)
        self._header = settings.header.lower().encode()
        self._jwks: Jwks | None = None
        self._fetched: Keys = ()
        self._kept = _kept(settings)
        self._remembered: dict[bytes, _Remembered] = {}
        self.challenge = b'Bearer realm="ambassador"'
        self.missing = f"give a token: {settings.header}: Bearer TOKEN"

    def update(self, jwks: Jwks | None) -> None:
        """Take the keys of a plan. They were looked at before they came into it."""
        if jwks and (self._jwks is None or jwks.text != self._jwks.text):
            self._fetched = published(jwks.text) if jwks.text else ()
        self._jwks = jwks

    def judge(self, request: Request) -> Entry | Refusal | Wait | None:
        """Say whether the token lets the request in; None when there is none."""
        token = self._token(request)
        if token is None or isinstance(token, Refusal):
            return token
        keys, now = self._keys(), time.time()
        hashed = hashlib.sha256(token).digest() if len(token) <= LONGEST else b""
        known = self._remembered.get(hashed)
        if known and known.keys is keys and now < known.until:
            return known.entry
        try:
            claims = self._verifier.verify(token, keys)
        except UnknownKey as error:
            return self._unknown(error)
        except Rejected as error:
            return self._refused(error)
        entry = self._entry(claims)
        self._remember(hashed, _Remembered(entry, keys, _until(claims, now, float(self._settings.leeway))))
        return entry

    def _token(self, request: Request) -> bytes | Refusal | None:
        if self._header == b"authorization":
            return credentials_of(request, b"bearer", self.rule)
        values = request.get(self._header)
        if len(values) > 1:
            return Refusal(401, self.rule, "there is more than one token", detail="more than one token")
        # Such a header, as Cf-Access-Jwt-Assertion, has the token alone at times.
        return re.sub(rb"(?i)\Abearer +", b"", values[0]).strip() if values else None

    def _keys(self) -> Keys:
        return self._kept.get() if self._kept else self._fetched

    def _unknown(self, error: UnknownKey) -> Refusal | Wait:
        """Ask for newer keys if those that are known are not quite new."""
        if self._kept:
            return self._refused(error)
        known = self._jwks
        if known and known.text:
            refusal = self._refused(error)
        else:
            retry = ((b"Retry-After", str(math.ceil(self._fresh)).encode()),)
            refusal = Refusal(503, self.rule, "the keys for tokens cannot be had now", retry, "no keys")
        if known is None:
            return Wait(refusal)
        now = time.monotonic()
        if now - known.at < self._fresh:
            return refusal
        if now - self._wanted >= _AGAIN:
            self._wanted = now
            self._want()
        return Wait(refusal)

    def _refused(self, error: Rejected) -> Refusal:
        """Answer as RFC 6750, section 3.1, says."""
        text = f"the token {error}"
        if not error.lacking:
            challenge = f'Bearer realm="ambassador", error="invalid_token", error_description="{text}"'
            return Refusal(401, self.rule, text, ((b"WWW-Authenticate", challenge.encode()),), text)
        scope = f', scope="{" ".join(self._settings.scopes)}"' if self._settings.scopes else ""
        challenge = f'Bearer realm="ambassador", error="insufficient_scope"{scope}'
        return Refusal(403, self.rule, text, ((b"WWW-Authenticate", challenge.encode()),), text)

    def _entry(self, claims: Claims) -> Entry:
        add: Headers = []
        for each in self._settings.claim_headers:
            value = claim_of(claims, each.claim)
            text = "" if value is None else written(value)
            # What would break out of a header is not passed on, whoever has signed it.
            if text and not _UNFIT.search(text):
                add.append((each.header.encode(), text.encode(errors="replace")))
        user = claims.get("sub")
        name = _UNFIT.sub("?", str(user))[:_LONGEST_USER] if isinstance(user, (str, int)) else ""
        return Entry(name, None if self._settings.pass_on else self._header, None, add)

    def _remember(self, hashed: bytes, known: _Remembered) -> None:
        if len(self._remembered) >= _MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[hashed] = known


def _until(claims: Claims, now: float, leeway: float) -> float:
    """Give when a token is to be verified anew: when it expires, or soon."""
    expires = claims.get("exp")
    return now + _REMEMBERED if expires is None else min(now + _REMEMBERED, int(expires) + leeway)


def _kept(settings: Jwt) -> Renewed[Keys] | None:
    """Give the keys of a file; None where they are fetched."""
    none: Keys = ()
    if settings.secret is not None:
        return Renewed(settings.secret, shared, none)
    if settings.keys is not None:
        return Renewed(Secret(file=settings.keys), in_file, none)
    return None
