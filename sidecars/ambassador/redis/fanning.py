"""Commands whose keys are on several shards: each gets its part, and their replies become one."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from sidecars.ambassador.redis.commands import Command, WrongArguments, number
from sidecars.ambassador.redis.reading import REPLIES, REPLY, Malformed, encoded, follow
from sidecars.ambassador.redis.slots import FULL, Slot
from sidecars.ambassador.redis.writing import array, bulk

if TYPE_CHECKING:
    from sidecars.ambassador.redis.lane import Lane
    from sidecars.ambassador.redis.session import Session
    from sidecars.ambassador.redis.slots import Tally

_SCANNED = 1024  # a cursor of a client: that of the shard, times this, and which shard it is

_MOST = 64 * 1024 * 1024  # bytes of all parts of a reply
_TOO_LARGE = b"-ERR the replies of the shards are more than 64 MiB together; ask for fewer keys at once\r\n"
Merge = Callable[[list[bytes], list[list[int]]], bytes]
# From the replies of the shards, none of them an error, and for each shard the places its keys have in the command.


class Fan(Slot):
    """A command that goes to several shards, in its place among those of the client."""

    __slots__ = ("_came", "_merge", "_missing", "_places", "_replies")

    def __init__(self, session: Session, tally: Tally, since: float, places: list[list[int]], merge: Merge) -> None:
        super().__init__(session, tally, 1, 0, since)
        self._merge = merge
        self._places = places
        self._missing = len(places)
        self._came = 0
        self._replies = [b""] * len(places)

    def reply(self, index: int, data: bytes, now: float) -> None:
        """Take the reply of one shard; the last one makes the whole."""
        self._replies[index] = data
        self._missing -= 1
        if self._missing or (session := self.session) is None:
            return
        self.tally.add(now - self.since)
        session.complete(self, self._merged())

    def too_large(self, size: int) -> bool:
        """Whether, with so many bytes more, it is more than is held for a client; or there is no client any more."""
        self._came += size
        return self._came > _MOST or self.session is None

    def _merged(self) -> bytes:
        for reply in self._replies:
            if reply[:1] in (b"-", b"!"):
                return reply
        try:
            return self._merge(self._replies, self._places)
        except (Malformed, ValueError, IndexError):
            return b"-ERR a shard has given an answer that cannot be put together with the others'\r\n"


class Fragment(Slot):
    """What goes to one shard of it."""

    __slots__ = ("_fan", "_index", "_now")

    def __init__(self, fan: Fan, index: int, own: Tally, now: Callable[[], float]) -> None:
        super().__init__(None, own, 1, 0, 0.0)
        self._fan = fan
        self._index = index
        self._now = now

    def take(self, piece: bytes, done: bool) -> None:
        """Keep a piece of the reply until the last has come."""
        if self._fan.too_large(len(piece)):
            self.pieces, piece = None, _TOO_LARGE
        if done:
            self._fan.reply(self._index, b"".join([*(self.pieces or ()), piece]), self._now())
        elif piece is not _TOO_LARGE:
            self.pieces = [*(self.pieces or ()), piece]


def fan(session: Session, command: Command, keys: list[bytes], arguments: list[bytes], frame: bytes) -> None:
    """Send a command to the shards its keys are on; as it is, if that is one."""
    sharding = session.sharding
    shard = sharding.place_of
    parts: dict[int, list[int]] = {}
    for place, key in enumerate(keys):
        parts.setdefault(shard(key), []).append(place)
    tally = sharding.tally(command.name)
    if len(parts) == 1:
        session.lanes[next(iter(parts))].put(session, tally, 1, frame)
        return
    step = command.step
    messages = [
        encoded([command.name, *(word for place in places for word in arguments[place * step : (place + 1) * step])])
        for places in parts.values()
    ]
    lanes = [session.lanes[index] for index in parts]
    _send(session, tally, lanes, messages, list(parts.values()), _MERGES[command.name])


def everywhere(session: Session, command: Command, arguments: list[bytes], frame: bytes) -> None:
    """Send a command that has no key to each shard."""
    lanes = session.lanes
    tally = session.sharding.tally(command.name)
    if len(lanes) == 1:
        lanes[0].put(session, tally, 1, frame)
        return
    if command.name == b"SCAN":
        _scan(session, arguments, tally)
        return
    name = b" ".join([command.name, *arguments[:1]]).upper() if command.arity == -2 else command.name
    _send(session, tally, lanes, [frame] * len(lanes), [[]] * len(lanes), _MERGES.get(name, _first))


def _scan(session: Session, arguments: list[bytes], tally: Tally) -> None:
    """Scan one shard after the other: the cursor says at which of them it is."""
    cursor, index = divmod(number(arguments[0]), _SCANNED)
    if cursor < 0 or index >= len(session.lanes):
        raise WrongArguments("ERR invalid cursor")
    last = index + 1 == len(session.lanes)

    def merge(replies: list[bytes], places: list[list[int]]) -> bytes:
        word, keys = elements(replies[0])
        after = int(word.split(b"\r\n")[1])
        after = after * _SCANNED + index if after else 0 if last else index + 1
        return array([bulk(b"%d" % after), keys])

    _send(session, tally, [session.lanes[index]], [encoded([b"SCAN", b"%d" % cursor, *arguments[1:]])], [[]], merge)


def _send(
    session: Session, tally: Tally, lanes: list[Lane], messages: list[bytes], places: list[list[int]], merge: Merge
) -> None:
    sharding = session.sharding
    whole = Fan(session, tally, sharding.clock.now, places, merge)
    session.waiting.append(whole)
    sharding.fragments += len(lanes)
    for index, (lane, message) in enumerate(zip(lanes, messages, strict=True)):
        lane.put_part(Fragment(whole, index, sharding.own, lambda: sharding.clock.now), message)
        if lane.full:
            lane.stalled.append(session)
            session.stop(FULL)


def _sum(replies: list[bytes], places: list[list[int]]) -> bytes:
    return b":%d\r\n" % sum(int(reply[1:-2]) for reply in replies)


def _first(replies: list[bytes], places: list[list[int]]) -> bytes:
    return replies[0]


def _in_order(replies: list[bytes], places: list[list[int]]) -> bytes:
    """Put values where their keys are in the command."""
    values = [b""] * sum(map(len, places))
    for reply, where in zip(replies, places, strict=True):
        for place, value in zip(where, elements(reply), strict=True):
            values[place] = value
    return b"*%d\r\n" % len(values) + b"".join(values)


def _together(replies: list[bytes], places: list[list[int]]) -> bytes:
    """Put lists one behind the other; what is in several is there once."""
    values = dict.fromkeys(value for reply in replies for value in elements(reply))
    return b"*%d\r\n" % len(values) + b"".join(values)


def _least(replies: list[bytes], places: list[list[int]]) -> bytes:
    """Give the least of the numbers at each place: a script that is not everywhere is not there."""
    values = [min(each, key=_number) for each in zip(*map(elements, replies), strict=True)]
    return b"*%d\r\n" % len(values) + b"".join(values)


def _most(replies: list[bytes], places: list[list[int]]) -> bytes:
    """Give the largest number: each pattern is on every shard."""
    return max(replies, key=_number)


def _sums(replies: list[bytes], places: list[list[int]]) -> bytes:
    """Add the numbers up that follow the names, which are the same from everywhere."""
    columns = list(zip(*map(elements, replies), strict=True))
    values = [b":%d\r\n" % sum(map(_number, each)) if at % 2 else each[0] for at, each in enumerate(columns)]
    return b"*%d\r\n" % len(values) + b"".join(values)


def _number(reply: bytes) -> int:
    return int(reply[1:-2])


def _any(replies: list[bytes], places: list[list[int]]) -> bytes:
    """Give one that is not null."""
    return random.choice([reply for reply in replies if reply not in (b"$-1\r\n", b"_\r\n")] or replies)  # noqa: S311


def elements(reply: bytes) -> list[bytes]:
    r"""Take an array apart: `*2\r\n:1\r\n$1\r\na\r\n` -> `:1\r\n`, `$1\r\na\r\n`. Malformed when it is none."""
    at = reply.index(b"\r\n") + 2
    if reply[0] not in b"*~":
        raise Malformed("not an array")
    found = REPLIES.findall(reply, at)
    if found and REPLY.fullmatch(found[-1]) is None:
        rest = found.pop()
        found += _each(rest)
    if len(found) != int(reply[1 : at - 2]):
        raise Malformed("not so many elements as it says")
    return found


def _each(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        part = follow(data, at)
        if part.left:
            raise Malformed("an element is not whole")
        found.append(data[at : part.at])
        at = part.at
    return found


_MERGES: dict[bytes, Merge] = {
    b"MGET": _in_order,
    b"MSET": _first,
    b"DEL": _sum,
    b"UNLINK": _sum,
    b"TOUCH": _sum,
    b"EXISTS": _sum,
    b"DBSIZE": _sum,
    b"KEYS": _together,
    b"RANDOMKEY": _any,
    b"FLUSHDB": _first,
    b"SCRIPT EXISTS": _least,
    b"PUBSUB CHANNELS": _together,
    b"PUBSUB SHARDCHANNELS": _together,
    b"PUBSUB NUMSUB": _sums,
    b"PUBSUB SHARDNUMSUB": _sums,
    b"PUBSUB NUMPAT": _most,
}
