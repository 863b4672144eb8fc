"""What decides whether a request is passed on: the rules of one listener, asked at the head of each request."""

from __future__ import annotations

from collections.abc import Callable

from sidecars.ambassador.admission import Admission
from sidecars.ambassador.http.request import Refusal, Request, Wait
from sidecars.ambassador.http.settings import Http
from sidecars.ambassador.plan import Outcome, Route


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
        self._id = id

    def update(self, route: Route) -> None:
        """Take the keys of a new plan."""

    def check(self, request: Request) -> Refusal | Wait | None:
        """Say why a request is not passed on; None when it is."""
        return None
