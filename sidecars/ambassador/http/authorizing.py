"""Who may come in: each of the ways there are is asked, and one is enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sidecars.ambassador.http.request import Headers, Refusal, Request, Wait, plain
from sidecars.ambassador.http.settings import Auth
from sidecars.ambassador.http.users import ApiKeyWay, BasicWay, BearerWay, Entry
from sidecars.ambassador.plan import Jwks

if TYPE_CHECKING:
    from sidecars.ambassador.http.bearing import JwtWay


class Way(Protocol):
    """A way to come in.

    rule       its word in refusals
    challenge  what WWW-Authenticate says of it
    missing    what a client's developer is told who has given nothing
    """

    rule: str
    challenge: bytes
    missing: str

    def judge(self, request: Request) -> Entry | Refusal | Wait | None:
        """Say whether what the request has lets it in; None when it has nothing of the kind."""


class Admitted(NamedTuple):
    """A request may come in, as this user, and goes on with these headers and this target."""

    user: str
    target: bytes
    headers: Headers


class Authorizing:
    """What a listener's `auth` says."""

    def __init__(self, settings: Auth, want: Callable[[], None]) -> None:
        self._ways: list[Way] = []
        self._jwt: JwtWay | None = None
        if settings.api_keys:
            self._ways.append(ApiKeyWay(settings.api_keys))
        if settings.basic:
            self._ways.append(BasicWay(settings.basic))
        if settings.bearer:
            self._ways.append(BearerWay(settings.bearer))
        told: tuple[str, ...] = ()
        if settings.jwt:
            from sidecars.ambassador.http.bearing import JwtWay  # cryptography, where there are such tokens only

            self._jwt = JwtWay(settings.jwt, want)
            self._ways.append(self._jwt)
            told = tuple(each.header for each in settings.jwt.claim_headers)
        # Frameworks take X_User and X-User for one header.
        self._told = frozenset(plain(name.encode()) for name in told)
        self._challenges = tuple((b"WWW-Authenticate", text) for text in {way.challenge: 0 for way in self._ways})

    def update(self, jwks: Jwks | None) -> None:
        """Take the keys of a plan."""
        if self._jwt:
            self._jwt.update(jwks)

    def judge(self, request: Request) -> Admitted | Refusal | Wait:
        """Say whether a request may come in. The request stays as it is."""
        if self._told and self._untold(request):
            text = "Connection names a header that is not the client's"
            return Refusal(400, "header", text, detail=text)
        refusal: Refusal | None = None
        wait: Wait | None = None
        for way in self._ways:
            verdict = way.judge(request)
            if isinstance(verdict, Entry):
                return self._admitted(request, verdict)
            if isinstance(verdict, Wait):
                wait = verdict
            # The later way knows more of what was given: a JWT is an unknown token to the ways before it.
            refusal = verdict if isinstance(verdict, Refusal) else refusal
        if wait:
            return wait
        if refusal is None:
            texts = " or ".join(way.missing for way in self._ways)
            refusal = Refusal(401, self._ways[0].rule, texts, detail="no credentials")
        return self._challenged(refusal)

    def _untold(self, request: Request) -> bool:
        """Whether the client would have the upstream not be told whom the request is from, as a hop-by-hop header."""
        tokens = b",".join(request.get(b"connection")).split(b",")
        return any(plain(each.strip()) in self._told for each in tokens)

    def _challenged(self, refusal: Refusal) -> Refusal:
        if refusal.status != 401 or any(name == b"WWW-Authenticate" for name, _ in refusal.headers):
            return refusal
        return refusal._replace(headers=(*refusal.headers, *self._challenges))

    def _admitted(self, request: Request, entry: Entry) -> Admitted:
        headers, drop, told = request.headers, entry.drop, self._told
        if drop:
            headers = [each for each in headers if each[0].lower() != drop]
        if told:
            headers = [each for each in headers if plain(each[0]) not in told]
        target = request.target if entry.target is None else entry.target
        return Admitted(entry.user, target, headers + entry.add if entry.add else headers)
