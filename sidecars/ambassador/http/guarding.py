"""What decides whether a request is passed on: the rules of one listener, asked at the head of each request."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from sidecars.ambassador.admission import Admission
from sidecars.ambassador.http.paths import Allowed, BadPath, normal
from sidecars.ambassador.http.request import Refusal, Request, Wait, plain
from sidecars.ambassador.http.settings import HeaderRule, Http
from sidecars.ambassador.plan import Outcome, Route

if TYPE_CHECKING:
    from sidecars.ambassador.http.authorizing import Admitted, Authorizing
    from sidecars.ambassador.http.limiting import Limit

_LONGEST = 8192  # bytes of a value that an expression is tried on
_NEVER = frozenset({"CONNECT", "TRACE"})

Rule = Callable[[Request], Refusal | None]


class Guard:
    """The rules of one listener; made anew when its `http` changes.

        guard = Guard(listener.id, listener.http, plane.admission, plane.tell)
        guard.update(route)             # with each plan: the keys that JWTs are checked with come by it
        answer = guard.check(request)   # at the head, before anything of the body is read

    check() gives None for a request that may pass. Then request.target and request.headers are without what let it
    in, the path is in its normal form where paths matter, and request.user says as whom it came in. With a Wait or
    a Refusal the request is as it was. Asked again after a Wait it counts once for rate limits.

    tell  hears Outcome(id, "", False, "jwks") when keys are to be fetched anew; the next plan answers it, if only with
          the time of the fetch
    """

    def __init__(self, id: str, http: Http, admission: Admission, tell: Callable[[Outcome], None]) -> None:
        self._rules = _rules(http)
        self._auth: Authorizing | None = None
        self._limit: Limit | None = None
        if http.auth:
            from sidecars.ambassador.http.authorizing import Authorizing  # hashlib, which loads OpenSSL

            self._auth = Authorizing(http.auth, lambda: tell(Outcome(id, "", False, "jwks")))
        if http.rate_limit:
            from sidecars.ambassador.http.limiting import Limit  # the same

            self._limit = Limit(id, http.rate_limit, admission)
        self._rewrites = bool(http.paths or http.rewrite)
        self._normal = self._rewrites
        self._allowed = Allowed(http.paths).permits if http.paths else None

    def update(self, route: Route) -> None:
        """Take the keys of a new plan, and whether upstreams have a path of their own, above which nothing is."""
        self._normal = self._rewrites or any(each.path for each in route.listener.upstreams)
        if self._auth:
            self._auth.update(route.jwks)

    def check(self, request: Request) -> Refusal | Wait | None:
        """Say why a request is not passed on; None when it is."""
        for rule in self._rules:
            refusal = rule(request)
            if refusal:
                return refusal
        if not self._normal:
            return self._let_in(request, None)
        try:
            path = normal(request.path)
        except BadPath as error:
            return Refusal(400, "path", f"the path {error}", detail=f"the path {error}")
        if self._allowed and not self._allowed(path):
            return Refusal(403, "path", "the path is not allowed")
        return self._let_in(request, path)

    def _let_in(self, request: Request, path: bytes | None) -> Refusal | Wait | None:
        """Ask who it is, count it, and only then change it: a request that has to wait is asked again."""
        verdict = self._auth.judge(request) if self._auth else None
        if isinstance(verdict, Wait):
            return verdict
        # What a client has without being let in is counted whoever comes: who guesses passwords is slowed down.
        if self._limit and not self._limit.late and (refusal := self._limit.refuse(request)):
            return refusal
        if isinstance(verdict, Refusal):
            return verdict
        request.user = verdict.user if verdict else None
        if self._limit and self._limit.late and (refusal := self._limit.refuse(request)):
            return refusal
        _complete(request, verdict, path)
        return None


def _complete(request: Request, verdict: Admitted | None, path: bytes | None) -> None:
    if verdict:
        request.target = verdict.target
        request.changed(verdict.headers)
    if path is not None and path != request.path:
        _, mark, query = request.target.partition(b"?")
        request.target = path + mark + query


def _rules(http: Http) -> list[Rule]:
    """Give what is asked of each request by itself, the cheap first."""
    rules = [_urls(http), _methods(http)]
    if http.headers:
        rules += [_forbidden(rule) if rule.forbidden else _required(rule) for rule in http.headers]
    if http.max_body is not None or _signs(http):
        rules.append(_bodies(http))
    return rules


def _urls(http: Http) -> Rule:
    most = int(http.max_url)

    def rule(request: Request) -> Refusal | None:
        if len(request.target) <= most:
            return None
        return Refusal(414, "url_size", f"the target is longer than {most} bytes")

    return rule


def _methods(http: Http) -> Rule:
    allowed = frozenset(http.methods)
    allow = ((b"Allow", ", ".join(http.methods).encode()),) if allowed else ((b"Allow", _USUAL),)

    def rule(request: Request) -> Refusal | None:
        if request.method in allowed if allowed else request.method not in _NEVER:
            return None
        return Refusal(405, "method", f"the method {request.method} is not allowed", allow)

    return rule


_USUAL = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


def _bodies(http: Http) -> Rule:
    limits = [http.max_body] if http.max_body is not None else []
    most = int(min([*limits, http.signed_body] if _signs(http) else limits))

    def rule(request: Request) -> Refusal | None:
        if request.length is None or request.length <= most:
            return None
        return Refusal(413, "body_size", f"the body is longer than {most} bytes")

    return rule


def _signs(http: Http) -> bool:
    credential = http.credential
    return credential is not None and (credential.hmac is not None or _signs_body(http))


def _signs_body(http: Http) -> bool:
    sigv4 = http.credential.sigv4 if http.credential else None
    return sigv4 is not None and sigv4.sign_body


def _matching(rule: HeaderRule) -> Callable[[bytes], bool]:
    """Give what says whether a value is as the rule's expression says."""
    if rule.matches is None:
        return lambda _: True
    fullmatch = re.compile(rule.matches).fullmatch
    return lambda value: len(value) <= _LONGEST and fullmatch(value.decode("latin-1")) is not None


def _required(rule: HeaderRule) -> Rule:
    name, alike, matches = rule.name.lower().encode(), plain(rule.name.encode()), _matching(rule)
    missing = Refusal(400, "header", f"the header {rule.name} is missing")
    wrong = Refusal(400, "header", f"the header {rule.name} is not as it must be")

    def check(request: Request) -> Refusal | None:
        if not request.get(name):
            return missing
        # Who takes X_Tenant and X-Tenant for one header would read the other one.
        return None if all(matches(value) for each, value in request.headers if plain(each) == alike) else wrong

    return check


def _forbidden(rule: HeaderRule) -> Rule:
    # Frameworks take X_Admin and X-Admin for one header, so neither may come.
    name, long = plain(rule.name.encode()), rule.matches is not None
    matches = _matching(rule)
    refusal = Refusal(403, "header", f"the header {rule.name} is not allowed{' with this value' if long else ''}")

    def check(request: Request) -> Refusal | None:
        for each, value in request.headers:
            # A value too long to be tried is taken for a forbidden one.
            if plain(each) == name and (matches(value) or (long and len(value) > _LONGEST)):
                return refusal
        return None

    return check
