"""What is told of a listener's Redis: numbers for the metrics, rows for the status page."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from sidecars.ambassador.connection import written
from sidecars.ambassador.plan import Counted

if TYPE_CHECKING:
    from sidecars.ambassador.redis.sharding import Sharding

_MOST_ROWS = 200
_OF_SHARD = {
    "upstream_connections": "connections",
    "redis_upstream_requests_total": "requests",
    "redis_upstream_responses_total": "responses",
    "redis_upstream_request_bytes_total": "request_bytes",
    "redis_upstream_response_bytes_total": "response_bytes",
    "redis_upstream_queue": "outstanding",
}
_KINDS_OF_ERRORS = frozenset((
    "ERR", "WRONGTYPE", "OOM", "BUSY", "LOADING", "MOVED", "ASK", "NOAUTH", "NOPERM", "WRONGPASS", "READONLY",
    "NOSCRIPT", "EXECABORT", "CROSSSLOT", "MASTERDOWN", "CLUSTERDOWN", "MISCONF", "NOREPLICAS", "BUSYGROUP", "NOGROUP",
    "NOPROTO", "BUSYKEY", "UNKILLABLE", "TRYAGAIN", "INPROG",
))  # fmt: skip


def kind_of_error(line: bytes) -> str:
    """Give the kind of an error, by its first word; a server may write any, and a metric must not grow with them."""
    word = line[1:40].split(b" ", 1)[0].strip().decode(errors="replace")
    return word if word in _KINDS_OF_ERRORS else "other"


def counted(sharding: Sharding) -> Counted:
    """Give all that was counted."""
    route = sharding.route.id
    label = (route,)
    here = sharding.sessions.values()
    numbers: Counted = {
        "received_bytes_total": {label: sharding.received_bytes + sum(each.received_bytes for each in here)},
        "sent_bytes_total": {label: sharding.sent_bytes + sum(each.sent_bytes for each in here)},
        "redis_command_seconds": {
            (route, tally.name): [*map(float, tally.counts), tally.seconds] for tally in sharding.every_tally
        },
        "redis_errors_total": {(route, kind): count for kind, count in sharding.errors.items()},
        "redis_fragments_total": {label: sharding.fragments},
    }
    for name, attribute in _OF_SHARD.items():
        numbers[name] = {(route, shard.name): getattr(shard, attribute) for shard in sharding.shards}
    return numbers


def shown(sharding: Sharding) -> list[dict[str, object]]:
    """Give a row for each client."""
    now = sharding.clock.now
    return [
        {
            "listener": sharding.route.id,
            "client": written(session.connection.peer),
            "upstream": None,
            "age_seconds": round(now - session.connection.since, 3),
            "bytes": session.received_bytes + session.sent_bytes,
        }
        for session in islice(sharding.sessions.values(), _MOST_ROWS)
    ]
