"""dns://: a name exists, and has as many addresses, or records, as are wanted."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from sidecars.init.checks import Result, State, Unmet, late
from sidecars.init.resolving import impossible, lookup

if TYPE_CHECKING:
    from sidecars.core.resolve import Resolver
    from sidecars.init.target import Target

_FAMILIES = {"any": socket.AF_UNSPEC, "A": socket.AF_INET, "AAAA": socket.AF_INET6}
_MOST = 4  # of the answers, as many are shown
_STATES: dict[str, State] = {"no such name": "no-name", "no record": "no-endpoints", "not a name": "impossible"}


def validate(target: Target) -> None:
    """Read the options once; WrongSettings."""
    target.number("answers", 1, least=1)
    target.choice("type", (*_FAMILIES, "SRV"), "any")


async def check(target: Target, patience: float) -> Result:
    """Look the name up as an application does, with the search path; `answers=3` wants that many addresses at least.

    `type=A` and `type=AAAA` want addresses of one family, `type=SRV` records that getaddrinfo does not know.
    """
    kind = target.choice("type", (*_FAMILIES, "SRV"), "any")
    found = await (_services(target) if kind == "SRV" else _addresses(target, _FAMILIES[kind]))
    wanted = target.number("answers", 1)
    listed = ", ".join(found[:_MOST]) + (f" and {len(found) - _MOST} more" if len(found) > _MOST else "")
    if len(found) < wanted:
        return Result("no-endpoints", f"has {len(found)} of {wanted} answers: {listed}")
    return Result("ok", f"is {listed}")


async def _addresses(target: Target, family: int) -> list[str]:
    return [str(address.where[0]) for address in await lookup(target.host, family=family)]


async def _services(target: Target) -> list[str]:
    from sidecars.core.resolve import Unresolved

    if complaint := impossible(target.host):
        raise Unmet("impossible", f"the name {target.host} can never exist; {complaint}")
    silence = f"the name server does not answer for {target.host}; is it reachable from here?"
    late.set(lambda: Result("error", silence))
    try:
        answer = await _resolver(target).lookup(target.host, ("SRV",))
    except Unresolved as error:
        raise Unmet(_STATES.get(error.reason, "error"), str(error)) from None
    return [f"{each.host}:{each.port}" for each in answer.targets]


def _resolver(target: Target) -> Resolver:
    """Keep one resolver for all attempts: it has sockets."""
    from sidecars.core.resolve import Resolver

    made: Resolver = target.memory.setdefault("resolver", Resolver())
    return made
