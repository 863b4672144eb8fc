"""What the side that decides tells the side that carries bytes: everything, each time anything changes.

The decider (names, checks, ejection, reload, the admin door) makes a Plan. A plane (plane.py), in the same process or
in each worker, makes it so. Applying the same plan twice changes nothing; a plan that was missed is no loss.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from sidecars.ambassador.settings import Listener

State = Literal["up", "down", "ejected", "draining", "disabled"]
# up        takes connections
# down      its checks fail: takes none unless no other is up
# ejected   its connections failed: the same, for a time
# draining  asked by an operator, or an address that its name has lost: keeps its connections, takes no new ones
# disabled  asked by an operator: its connections are closed


class Endpoint(msgspec.Struct, frozen=True):
    """One address that can be dialled.

    key       unique within its route, and the same over plans: "db:5432 10.0.0.7:5432"
    upstream  which of the listener's upstreams it is of
    address   ("10.0.0.7", 5432), ("2001:db8::1", 5432), or the path of a unix socket
    close     its connections are to be closed now: it is gone, down or disabled, and the listener's policy says so
    """

    key: str
    upstream: int
    address: tuple[str, int] | str
    weight: int = 1
    state: State = "up"
    close: bool = False


class Jwks(msgspec.Struct, frozen=True):
    """The keys that JSON Web Tokens are checked with, as they were published.

    text  a JWKS (RFC 7517) with a key at least; empty as long as there was none
    at    when it was asked for last, in vain or not; on the monotonic clock, in seconds
    """

    text: str
    at: float


class Route(msgspec.Struct, frozen=True):
    """One listener, with the addresses its upstreams have now.

    In Redis mode each upstream is a shard, and has one endpoint or none (its name has no address yet).

    jwks  where the listener has a JWKS address: what is known of it; None before it was first asked
    """

    listener: Listener
    endpoints: tuple[Endpoint, ...] = ()
    jwks: Jwks | None = None

    @property
    def id(self) -> str:
        """What tells it from the others."""
        return self.listener.id


class Plan(msgspec.Struct, frozen=True):
    """All routes."""

    routes: tuple[Route, ...] = ()


class Outcome(NamedTuple):
    """What a plane tells of an endpoint: each failure, and the first success after one.

    reason  a short word for metrics and a page: refused, timeout, reset, unreachable, tls, eof, error; or jwks, without
            an endpoint: a token names a key that is unknown, so the keys are to be asked for anew
    detail  for people: "Connection refused"
    """

    route: str
    endpoint: str
    ok: bool
    reason: str = ""
    detail: str = ""


# What a plane has counted: by metric and label values, as metrics.py lists them. A histogram's value is its bucket
# counts (each bucket's own, the last is for all that is longer) and, at the end, the sum. Reports of planes add up.
Counted = dict[str, dict[tuple[str, ...], float | list[float]]]
