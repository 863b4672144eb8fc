"""The headers that a listener has a say in: who sends them cannot move them to where they are not looked at.

They are for heads only, since some programs read trailers as if they were headers, and X_User as X-User; and a client's
Connection does not take them out behind the rule that has let them pass, or what we say ourselves.
"""

from __future__ import annotations

from collections.abc import Iterator

from sidecars.ambassador.http.request import Headers, plain
from sidecars.ambassador.http.settings import Auth, Credential, HeaderChanges, Http


class Reserved:
    """Names of headers, of which a * at the end is for any ending."""

    __slots__ = ("_beginnings", "_names")

    def __init__(self, names: Iterator[str]) -> None:
        every = [plain(name.encode("latin-1")) for name in names]
        self._names = frozenset(name for name in every if not name.endswith(b"*"))
        self._beginnings = tuple(name[:-1] for name in every if name.endswith(b"*"))

    def __contains__(self, name: bytes) -> bool:
        alike = plain(name)
        return alike in self._names or alike.startswith(self._beginnings)

    def trailing(self, trailers: Headers) -> Headers:
        """Give those that may be passed on."""
        return [pair for pair in trailers if pair[0] not in self]


def of_requests(http: Http) -> Reserved:
    """Give what is looked at, taken out or said in requests."""
    return Reserved(_of_requests(http))


def of_answers(http: Http) -> Reserved:
    """Give what is changed in answers."""
    return Reserved(_changed(http.response))


def _of_requests(http: Http) -> Iterator[str]:
    if http.request_id:
        yield http.request_id
    yield from (rule.name for rule in http.headers)
    if http.auth:
        yield from _of_auth(http.auth)
    if http.rate_limit and http.rate_limit.key.startswith("header:"):
        yield http.rate_limit.key.removeprefix("header:")
    if http.credential:
        yield from _of_credential(http.credential)
    yield from _changed(http.request)


def _of_auth(auth: Auth) -> Iterator[str]:
    if auth.api_keys:
        yield auth.api_keys.header
    if auth.jwt:
        yield auth.jwt.header
        yield from (each.header for each in auth.jwt.claim_headers)


def _of_credential(credential: Credential) -> Iterator[str]:
    if credential.api_key:
        yield credential.api_key.header
    if credential.hmac:
        yield credential.hmac.header


def _changed(changes: HeaderChanges) -> Iterator[str]:
    yield from changes.remove
    yield from (each.name for each in changes.rewrite)
    yield from (each.name for each in (*changes.set, *changes.add))
