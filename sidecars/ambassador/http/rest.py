"""Keys by HTTP, for applications without a Redis client: /keys/KEY, over the shards of Redis mode."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_to_bytes

from sidecars.ambassador.http import openapi
from sidecars.ambassador.http.answering import Answer, said
from sidecars.ambassador.http.request import Headers, Request
from sidecars.ambassador.http.serving import ANSWERED_BODY, Serving
from sidecars.ambassador.plan import Counted, Route
from sidecars.ambassador.redis.commands import LONGEST_KEY
from sidecars.ambassador.redis.reading import encoded
from sidecars.ambassador.redis.sharding import Sharding
from sidecars.ambassador.redis.slots import Slot, Tally

if TYPE_CHECKING:
    from sidecars.ambassador.plane import Plane

_KEYS = b"/keys/"
_DOCUMENT = b"/openapi.json"
_LONGEST_TTL = 10**10  # seconds, some 300 years: Redis counts milliseconds since 1970, in 63 bits
_NUMBER = re.compile(r"\d{1,11}(?:\.\d{1,9})?")
_ESCAPES = re.compile(rb"(?:[^%]|%[0-9A-Fa-f]{2})*")
_FRAME = 32  # bytes that a reply has beside its value, at most
_AGAIN = ((b"Retry-After", b"1"),)
# Whoever has written it may have meant it for a browser, and we do not know what it is.
_VALUE = [
    (b"Content-Type", b"application/octet-stream"), (b"Cache-Control", b"no-store"),
    (b"X-Content-Type-Options", b"nosniff"),
]  # fmt: skip
_DOWN = (b"-ERR Host is down", b"-ERR Connection refused", b"-ERR Connection reset by peer")
_BUSY = frozenset((
    b"-LOADING", b"-BUSY", b"-OOM", b"-MASTERDOWN", b"-CLUSTERDOWN", b"-READONLY", b"-MISCONF", b"-NOREPLICAS",
    b"-TRYAGAIN",
))  # fmt: skip
Done = Callable[[Answer], None]


class View(Serving):
    """One listener in HTTP mode whose upstreams are shards: both modes, one above the other."""

    def __init__(self, plane: Plane, route: Route) -> None:
        self._sharding = Sharding(plane, route)
        super().__init__(plane, route, lambda _, route: Rest(self._sharding, route))

    def update(self, route: Route) -> None:
        """Take a new plan, or a changed listener."""
        self._sharding.update(route)
        if route.listener != self.route.listener and isinstance(self.answerer, Rest):
            self.answerer.update(route)
        super().update(route)

    def close(self) -> None:
        """End everything, at once."""
        super().close()
        self._sharding.close()

    def counted(self) -> Counted:
        """What it has counted: of connections and bytes at the shards, and of requests."""
        return {**super().counted(), **{k: v for k, v in self._sharding.counted().items() if k not in _OF_CLIENTS}}


_OF_CLIENTS = ("received_bytes_total", "sent_bytes_total")  # Redis mode has none here


class Rest:
    """What answers requests for keys: each becomes one or two commands for one shard.

    asked  questions that have no answer yet
    """

    def __init__(self, sharding: Sharding, route: Route) -> None:
        self.sharding = sharding
        self.asked = 0
        self._turn = 0
        self.update(route)

    def update(self, route: Route) -> None:
        """Take a changed listener."""
        http = route.listener.http
        assert http is not None  # noqa: S101  (the plane has chosen this mode by it)
        self._most_asked = http.max_requests
        self._most = int(http.max_body or ANSWERED_BODY)
        self._document = openapi.document(http, self._most)

    def answer(self, request: Request, body: bytes, done: Done) -> Callable[[], None]:
        """Answer a request: see Answerer."""
        path, method = request.path, request.method
        if path == _DOCUMENT:
            done(self._described() if method in ("GET", "HEAD") else _not_allowed(b"GET, HEAD"))
        elif not path.startswith(_KEYS):
            done(said(404, "there are /keys/KEY and /openapi.json"))
        elif (key := _key(path)) is None:
            done(said(400, "the key has a % that is no escape; write %25"))
        elif not 0 < len(key) <= LONGEST_KEY:
            done(said(414 if key else 404, "the key is too long" if key else "there is no key in the path"))
        elif method in ("GET", "HEAD"):
            return self._ask(key, [[b"GET", key], [b"PTTL", key]], lambda replies: self._found(*replies), done)
        elif method == "PUT":
            return self._put(request, key, body, done)
        elif method == "DELETE":
            return self._ask(key, [[b"DEL", key]], _deleted, done)
        else:
            done(_not_allowed(b"GET, HEAD, PUT, DELETE"))
        return _nothing

    def _described(self) -> Answer:
        return Answer(200, [(b"Content-Type", b"application/json")], self._document)

    def _put(self, request: Request, key: bytes, body: bytes, done: Done) -> Callable[[], None]:
        try:
            options = [*_expiry(request), *_condition(request)]
        except ValueError as error:
            done(said(400, str(error)))
            return _nothing
        only_new = b"NX" in options
        return self._ask(key, [[b"SET", key, body, *options]], lambda replies: _kept(replies[0], only_new), done)

    def _ask(
        self, key: bytes, commands: Sequence[list[bytes]], made: Callable[[list[bytes]], Answer], done: Done
    ) -> Callable[[], None]:
        """Send commands to the shard of a key; what is made of their replies is the answer."""
        sharding = self.sharding
        self._turn = (self._turn + 1) % sharding.settings.connections
        lane = sharding.lanes(2, self._turn)[sharding.place_of(key)]
        if lane.full or (self._most_asked is not None and self.asked >= self._most_asked):
            done(said(503, "too many requests are at the shards", _AGAIN))
            return _nothing
        frames = [encoded(words) for words in commands]
        if len(frames[0]) > sharding.most:
            done(said(413, "the command is longer than the shards are sent"))
            return _nothing
        question = Question(self, len(commands), made, done)
        for place, (words, frame) in enumerate(zip(commands, frames, strict=True)):
            lane.put_part(Reply(question, place, sharding.tally(words[0]), self._most + _FRAME), frame)
        return question.cancel

    def _found(self, value: bytes, left: bytes) -> Answer:
        if value[:1] != b"$":
            return failed(value)
        head, _, rest = value.partition(b"\r\n")
        size = int(head[1:])
        if size < 0:
            return said(404, "there is no such key")
        if size > self._most or len(rest) != size + 2:
            return said(502, f"the value is longer than {self._most} bytes; the limit is http.max_body")
        headers: Headers = [*_VALUE]
        milliseconds = int(left[1:]) if left[:1] == b":" else -1
        if milliseconds >= 0:
            headers.append((b"X-TTL", b"%d.%03d" % divmod(milliseconds, 1000)))
        return Answer(200, headers, rest[:-2])


class Question:
    """The commands that one request has become, and their replies; the answer is made at the end of a round.

    Not sooner: with it the client's next request may come, while the connection to the shard is being read, or has
    just failed and is about to send anew what is waiting.
    """

    __slots__ = ("_done", "_made", "_missing", "_replies", "_rest")

    def __init__(self, rest: Rest, count: int, made: Callable[[list[bytes]], Answer], done: Done) -> None:
        self._rest = rest
        self._replies = [b""] * count
        self._missing = count
        self._made = made
        self._done: Done | None = done
        rest.asked += 1

    @property
    def over(self) -> bool:
        """Nobody waits for it any more."""
        return self._done is None

    def cancel(self) -> None:
        """Have it answered to nobody."""
        self._done = None

    def reply(self, place: int, reply: bytes) -> None:
        """Take the reply to one command."""
        self._replies[place] = reply
        self._missing -= 1
        if not self._missing:
            self._rest.sharding.to_flush(self)

    def flush(self) -> None:
        """Answer."""
        self._rest.asked -= 1
        if self._done is not None:
            self._done(self._made(self._replies))


class Reply(Slot):
    """The reply to one command; of one that is too long, the beginning."""

    __slots__ = ("_most", "_place", "_question")

    def __init__(self, question: Question, place: int, tally: Tally, most: int) -> None:
        super().__init__(None, tally, 1, 0, 0.0)
        self._question = question
        self._place = place
        self._most = most

    def take(self, piece: bytes, done: bool) -> None:
        """Take a piece of it; after a failure it begins anew, with an error."""
        if self.pieces is None:
            self.pieces = []
        if self._most >= 0 and not self._question.over:
            self.pieces.append(piece)
            self._most -= len(piece)
        if done:
            self._question.reply(self._place, b"".join(self.pieces))


def _nothing() -> None:
    """There is nothing to cancel: it is answered."""


def _not_allowed(methods: bytes) -> Answer:
    return said(405, "the method is not one for this path", ((b"Allow", methods),))


def _key(path: bytes) -> bytes | None:
    """Give the key of a path; None where a % is no escape."""
    text = path[len(_KEYS) :]
    return unquote_to_bytes(text) if _ESCAPES.fullmatch(text) else None


def _expiry(request: Request) -> list[bytes]:
    """Read how long a value is to live, in seconds, from ?ttl= or X-TTL; ValueError."""
    pairs = parse_qsl(request.query.decode("latin-1"), keep_blank_values=True)
    if unknown := [name for name, _ in pairs if name != "ttl"]:
        raise ValueError(f"there is no parameter {unknown[0][:40]!a}; there is ttl")
    given = [*(value for _, value in pairs), *(value.decode("latin-1") for value in request.get(b"x-ttl"))]
    if not given:
        return []
    if len(given) > 1:
        raise ValueError("the ttl is given twice; give it as ?ttl=SECONDS, or in the header X-TTL")
    seconds = float(given[0]) if _NUMBER.fullmatch(given[0]) else 0.0
    if not 0 < seconds <= _LONGEST_TTL:
        raise ValueError(f"the ttl is {given[0][:40]!a}, expected seconds, as 60 or 0.5, up to {_LONGEST_TTL}")
    return [b"PX", b"%d" % math.ceil(seconds * 1000)]


def _condition(request: Request) -> list[bytes]:
    """Read whether it is only to be kept where there is none, or one; ValueError. There are no versions of values."""
    new, there = request.get(b"if-none-match"), request.get(b"if-match")
    if not {*new, *there} <= {b"*"}:
        raise ValueError("If-None-Match and If-Match can only be *")
    if new and there:
        raise ValueError("If-None-Match and If-Match go not together")
    return [b"NX"] if new else [b"XX"] if there else []


def _kept(reply: bytes, only_new: bool) -> Answer:
    if reply == b"+OK\r\n":
        return Answer(201 if only_new else 204, [])
    if reply[:1] in (b"$", b"_"):
        return said(412, "there is such a key already" if only_new else "there is no such key")
    return failed(reply)


def _deleted(replies: list[bytes]) -> Answer:
    [reply] = replies
    if reply[:1] != b":":
        return failed(reply)
    return Answer(204, []) if reply != b":0\r\n" else said(404, "there is no such key")


def failed(reply: bytes) -> Answer:
    """Answer for a shard that has none: what it says is for its operator, who finds it in metrics and in its log."""
    line = reply.rstrip()
    if line.startswith(b"-WRONGTYPE"):
        return said(409, "the key has a value of another kind: a list, a set, a hash")
    if line.startswith(b"-ERR Connection timed out"):
        return said(504, "the shard of this key does not answer")
    if line.startswith(_DOWN):
        return said(503, "the shard of this key is down", _AGAIN)
    if line.partition(b" ")[0] in _BUSY:
        return said(503, "the shard of this key cannot do it now", _AGAIN)
    return said(502, "the shard of this key gives an error")
