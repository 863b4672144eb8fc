"""How many requests each key may make: whose a request is, and what it is answered when it is one too many."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

from sidecars.ambassador.admission import Admission
from sidecars.ambassador.http.request import Refusal, Request
from sidecars.ambassador.http.settings import RateLimit

_LONGEST = 1024  # bytes of a header's value that are looked at


def key_of(kind: str) -> Callable[[Request], bytes]:
    """Give what finds the key of a request, by the setting's text."""
    if kind == "client":
        return lambda request: request.client.encode()
    if kind == "user":
        return lambda request: (request.user or next(iter(request.names), "")).encode()
    if kind.startswith("header:"):
        name = kind.removeprefix("header:").lower().encode()
        return lambda request: b",".join(request.get(name))[:_LONGEST]
    return lambda request: b""


class Limit:
    """One listener's limit.

    late  the key is known only when it is known who comes in
    """

    def __init__(self, id: str, settings: RateLimit, admission: Admission) -> None:
        self._id = id.encode()
        self._rate, self._burst = settings.rate, settings.burst
        self._admission = admission
        self.late = settings.key in ("user", "listener")
        self._key = key_of(settings.key)

    def refuse(self, request: Request) -> Refusal | None:
        """Count a request; say so when it is one too many."""
        name = hashlib.blake2b(self._id + b"\0" + self._key(request), digest_size=8).digest()
        wait = self._admission.may_ask(int.from_bytes(name) or 1, self._rate, self._burst)
        if not wait:
            return None
        seconds = str(max(1, math.ceil(wait))).encode()
        return Refusal(429, "rate_limit", "too many requests", ((b"Retry-After", seconds),))
