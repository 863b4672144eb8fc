"""Clients of Redis that check each answer against what they have written, and what harms the shards."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.servers.ambassador_torture_tcp import PATIENCE, Ledger, deafen, tear

_PIECE = 65536
# What a client may be told that cannot be served; anything else is an answer to somebody else's question.
_ERRORS = re.compile(
    rb"ERR Connection (refused|timed out|reset by peer)$|ERR Host is down$|ERR not the Redis protocol|"
    rb"EXECABORT |CROSSSLOT .*transaction|UNBLOCKED |LOADING |ERR .*(Broken pipe|protocol)"
)
AFTER = 4.0  # seconds after trouble in which its traces may be met: a shard that is left out, and its probe


class Front:
    """What stands before a redis-server: it passes all on, but for what it is told to do.

    refuse   nobody listens
    garbage  what connects gets no Redis
    stall    nothing passes
    drip     replies come in small pieces
    """

    def __init__(self, path: str, host: str) -> None:
        self.path, self.host, self.port = path, host, 0
        self.trouble = ""
        self.calm = asyncio.Event()
        self.calm.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen, at the same port as before."""
        self._server = await asyncio.start_server(self._serve, self.host, self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Listen no more, and tear down what is connected."""
        if self._server is not None:
            deafen(self._server)
        self.reset()

    def reset(self) -> None:
        """Tear down what is connected."""
        for writer in list(self._writers):
            tear(writer)

    async def begin(self, trouble: str) -> None:
        """Do one of those things from now on."""
        self.trouble = trouble
        if trouble == "refuse":
            self.close()
        elif trouble == "stall":
            self.calm.clear()
        elif trouble in ("garbage", "reset"):
            self.reset()

    async def end(self) -> None:
        """Do it no more."""
        if self.trouble == "refuse":
            await self.start()
        self.trouble = ""
        self.calm.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        beyond = None
        try:
            if self.trouble == "garbage":
                await reader.read(1)
                writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                return
            source, beyond = await asyncio.open_unix_connection(self.path)
            self._writers.add(beyond)
            await asyncio.gather(self._pass(reader, beyond, False), self._pass(source, writer, True))
        except OSError:
            tear(writer)
        finally:
            for each in (writer, beyond):
                if each is not None:
                    self._writers.discard(each)
                    each.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, replies: bool) -> None:
        while data := await reader.read(_PIECE):
            await self.calm.wait()
            size = 7 if self.trouble == "drip" and replies and len(data) < 2000 else _PIECE
            for at in range(0, len(data), size):
                writer.write(data[at : at + size])
                await writer.drain()
                if size < _PIECE:
                    await asyncio.sleep(0)
        writer.write_eof()


class Failed(Exception):  # noqa: N818
    """An error that was answered."""


async def reply(reader: asyncio.StreamReader) -> Any:
    """One reply; an error is given, not raised. ValueError when it is none."""
    line = (await reader.readuntil(b"\r\n"))[:-2]
    sign, rest = line[:1], line[1:]
    match sign:
        case b"+":
            return rest
        case b"-":
            return Failed(rest)
        case b":":
            return int(rest)
        case b"$":
            return None if rest == b"-1" else (await reader.readexactly(int(rest) + 2))[:-2]
        case b"*":
            return None if rest == b"-1" else [await reply(reader) for _ in range(int(rest))]
    raise ValueError(f"no reply: {line[:80]!r}")


def encoded(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


@dataclass
class Asked:
    """A command, or several that belong together.

    count    of its replies
    check    says what is wrong with them, and learns from them
    unsure   is called when nobody knows whether it was done
    strict   its keys are on a shard that nothing is done to
    """

    data: bytes
    count: int
    check: Callable[[list[Any]], bool]
    unsure: Callable[[], None]
    strict: bool


class Cell:
    """What a key may hold."""

    def __init__(self) -> None:
        self.sure: bytes | None = None
        self.unsure: set[bytes | None] = set()
        self.ever: set[bytes | None] = {None}


class Redis:
    """One who asks again and again, of keys that are nobody else's.

    loose   which keys may be on another shard for a while, and so be read as they were once
    pushed  tokens, in their order: True where the answer was that it is done, False where nobody knows
    """

    def __init__(
        self, ledger: Ledger, dice: random.Random, number: int, strict: Callable[[bytes], bool], reroutes: bool
    ) -> None:
        self.ledger, self.dice, self.number, self.strict, self.reroutes = ledger, dice, number, strict, reroutes
        self.cells: dict[bytes, Cell] = {}
        self.pushed: dict[bytes, dict[bytes, bool]] = {}
        self.pairs: list[tuple[bytes, bytes, bytes]] = []
        self.counts: dict[bytes, list[int]] = {}  # of a counter: surely done at least, and at most
        self._serial = 0

    async def run(self, port: int, host: str, over: asyncio.Event) -> None:
        """Go on until it is over."""
        await asyncio.sleep(self.dice.random() * 0.3)  # not all at the same moment
        while not over.is_set():
            id = next(self.ledger.ids)
            self.ledger.opened.add(id)
            try:
                await self._session(id, port, host, over)
            finally:
                self.ledger.opened.discard(id)

    async def _session(self, id: int, port: int, host: str, over: asyncio.Event) -> None:
        try:
            reader, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            self.ledger.say(f"Redis client {self.number} cannot connect: {error}")
            return
        try:
            while not over.is_set() and self.dice.random() > 0.05:
                await self._exchange(id, reader, writer)
                await asyncio.sleep(self.dice.random() * 0.05)
        except ConnectionAbortedError:
            pass  # it has been seen to
        finally:
            writer.close()

    async def _exchange(self, id: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = [self._ask() for _ in range(self.dice.choice((1, 1, 3, 20)))]
        since, done = time.monotonic(), 0
        data = b"".join(each.data for each in asked)
        try:
            async with asyncio.timeout(PATIENCE):
                sending = asyncio.create_task(self._send(writer, data))
                try:
                    for each in asked:
                        got = [await reply(reader) for _ in range(each.count)]
                        done += 1
                        self._judge(each, got, since)
                    await sending
                finally:
                    sending.cancel()
                    with contextlib.suppress(OSError, asyncio.CancelledError):
                        await sending
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            self._cut(id, error, since)
            for each in asked[done:]:
                each.unsure()
            raise ConnectionAbortedError from None
        self.ledger.counts["answers"] += sum(each.count for each in asked)

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        size = self.dice.choice((1, 13, 1000)) if len(data) < 1000 and self.dice.random() < 0.1 else len(data)
        for at in range(0, len(data), size):
            writer.write(data[at : at + size])
            await writer.drain()
            if size < len(data):
                await asyncio.sleep(0)

    def _cut(self, id: int, error: Exception, since: float) -> None:
        self.ledger.counts["cut"] += 1
        if isinstance(error, TimeoutError):
            self.ledger.say(f"Redis client {self.number} hangs")
        elif isinstance(error, ValueError):
            self.ledger.say(f"Redis client {self.number}: {error}")
        elif id not in self.ledger.excused and not self._troubled(since):
            self.ledger.say(f"Redis client {self.number} is cut for no reason: {error!r}")

    def _troubled(self, since: float) -> bool:
        return since < self.ledger.restless.get("redis", 0)

    def _judge(self, asked: Asked, got: list[Any], since: float) -> None:
        errors = [each.args[0] for each in _flat(got) if isinstance(each, Failed)]
        if not errors:
            if not asked.check(got):
                self.ledger.say(f"Redis client {self.number}: {asked.data[:200]!r} was answered {str(got)[:300]}")
            return
        asked.unsure()
        self.ledger.counts["errors"] += 1
        excused = since < self.ledger.starved or (not asked.strict and self._troubled(since))
        for error in errors:
            if not (excused and _ERRORS.match(error)):
                why = "for no reason" if _ERRORS.match(error) else "which makes no sense"
                self.ledger.say(f"Redis client {self.number}: {error[:100]!r} {why}, to {asked.data[:100]!r}")

    # What is asked.

    def _ask(self) -> Asked:
        kinds = (self._set, self._get, self._incr, self._push, self._mset, self._mget, self._delete, self._echo,
                 self._multi, self._pop)  # fmt: skip
        return self.dice.choices(kinds, (20, 25, 10, 10, 4, 6, 4, 6, 3, 2))[0]()

    def _key(self, what: str, among: int = 6) -> bytes:
        return f"{self.dice.randrange(among)}:{what}:{self.number}".encode()

    def _cell(self, key: bytes) -> Cell:
        return self.cells.setdefault(key, Cell())

    def _token(self) -> bytes:
        self._serial += 1
        return b"%d.%d" % (self.number, self._serial)

    def _value(self) -> bytes:
        size = self.dice.choice((0, 0, 0, 100, 100, 3000))
        if self.dice.random() < 0.02:
            size = self.dice.choice((70_000, 300_000))
        return self._token() + b"." + random.Random(self._serial).randbytes(size)

    def _holds(self, key: bytes, value: bytes | None) -> bool:
        cell = self._cell(key)
        if value == cell.sure or value in cell.unsure:
            return True
        return self.reroutes and not self.strict(key) and value in cell.ever

    def _written(self, key: bytes, value: bytes | None) -> bool:
        self._cell(key).sure = value
        return True

    def _may_hold(self, key: bytes, value: bytes | None) -> None:
        self._cell(key).unsure.add(value)

    def _set(self) -> Asked:
        key, value = self._key("text"), self._value()
        self._cell(key).ever.add(value)
        return Asked(
            encoded(b"SET", key, value), 1, lambda got: got == [b"OK"] and self._written(key, value),
            lambda: self._may_hold(key, value), self.strict(key),
        )  # fmt: skip

    def _get(self) -> Asked:
        key = self._key("text")
        return Asked(
            encoded(b"GET", key), 1, lambda got: self._holds(key, got[0]), lambda: None, self.strict(key)
        )  # fmt: skip

    def _mset(self) -> Asked:
        pairs = {self._key("text"): self._value() for _ in range(4)}
        for key, value in pairs.items():
            self._cell(key).ever.add(value)

        def check(got: list[Any]) -> bool:
            return got == [b"OK"] and all(self._written(*pair) for pair in pairs.items())

        def unsure() -> None:
            for pair in pairs.items():
                self._may_hold(*pair)

        words = [word for pair in pairs.items() for word in pair]
        return Asked(encoded(b"MSET", *words), 1, check, unsure, all(map(self.strict, pairs)))

    def _mget(self) -> Asked:
        keys = [self._key("text") for _ in range(5)]

        def check(got: list[Any]) -> bool:
            return len(got[0]) == len(keys) and all(map(self._holds, keys, got[0]))

        return Asked(encoded(b"MGET", *keys), 1, check, lambda: None, all(map(self.strict, keys)))

    def _delete(self) -> Asked:
        keys = sorted({self._key("text") for _ in range(3)})

        def check(got: list[Any]) -> bool:
            return 0 <= got[0] <= len(keys) and all(self._written(key, None) for key in keys)

        def unsure() -> None:
            for key in keys:
                self._may_hold(key, None)

        return Asked(encoded(b"DEL", *keys), 1, check, unsure, all(map(self.strict, keys)))

    def _echo(self) -> Asked:
        token = self._token()
        return Asked(encoded(b"ECHO", token), 1, lambda got: got == [token], lambda: None, True)

    def _incr(self) -> Asked:
        key = self._key("count")
        bounds = self.counts.setdefault(key, [0, 0])
        lost = self.reroutes and not self.strict(key)

        def check(got: list[Any]) -> bool:
            low, high = bounds
            bounds[:] = [low + 1, high + 1]
            return (low < got[0] or lost) and got[0] <= high + 1

        def unsure() -> None:
            bounds[1] += 1

        script = encoded(b"EVAL", b"return redis.call('INCR', KEYS[1])", b"1", key)
        data = encoded(b"incr", key) if self.dice.random() < 0.8 else script
        return Asked(data, 1, check, unsure, self.strict(key))

    def _push(self) -> Asked:
        key, token = self._key("list"), self._token()
        tokens = self.pushed.setdefault(key, {})
        tokens[token] = False

        def check(got: list[Any]) -> bool:
            tokens[token] = True
            return 0 < got[0] <= len(tokens)

        return Asked(encoded(b"RPUSH", key, token), 1, check, lambda: None, self.strict(key))

    def _multi(self) -> Asked:
        key, one, two = self._key("list"), self._token(), self._token()
        tokens = self.pushed.setdefault(key, {})
        tokens[one] = tokens[two] = False
        self.pairs.append((key, one, two))

        def check(got: list[Any]) -> bool:
            tokens[one] = tokens[two] = True
            ok, *queued, (first, second) = got
            return ok == b"OK" and queued == [b"QUEUED"] * 2 and second == first + 1

        words = [(b"MULTI",), (b"RPUSH", key, one), (b"RPUSH", key, two), (b"EXEC",)]
        data = b"".join(encoded(*each) for each in words)
        return Asked(data, 4, check, lambda: None, self.strict(key))

    def _pop(self) -> Asked:
        """Push and pop with a command that blocks; or wait for what does not come."""
        key, token = b"%b:%d" % (self._key("queue"), self._serial), self._token()
        if self.dice.random() < 0.2:
            data = encoded(b"BLPOP", key, b"0.02")
            return Asked(data, 1, lambda got: got == [None], lambda: None, self.strict(key))
        data = encoded(b"LPUSH", key, token) + encoded(b"BLPOP", key, b"1")
        return Asked(data, 2, lambda got: got == [1, [key, token]] or self._elsewhere(key, got), lambda: None,
                     self.strict(key))  # fmt: skip

    def _elsewhere(self, key: bytes, got: list[Any]) -> bool:
        """Whether the two may have gone to different shards."""
        return self.reroutes and not self.strict(key) and got == [1, None]

    # What there must be in the end.

    def settle(self, lists: dict[bytes, list[list[bytes]]], numbers: dict[bytes, int]) -> None:
        """Compare with what the shards have: the lists of each of them, and the sums of the counters."""
        for key, tokens in self.pushed.items():
            found = [token for each in lists.get(key, []) for token in each]
            self._settle_list(key, tokens, found)
        for key, one, two in self.pairs:
            for each in lists.get(key, []):
                if (one in each) != (two in each):
                    self.ledger.say(f"{key!r} has half of a transaction: {one!r}, {two!r}")
        for key, (low, high) in self.counts.items():
            if not low <= numbers.get(key, 0) <= high:
                self.ledger.say(f"{key!r} counts {numbers.get(key, 0)}, which must be {low} to {high}")

    def _settle_list(self, key: bytes, tokens: dict[bytes, bool], found: Sequence[bytes]) -> None:
        if len(found) != len(set(found)):
            self.ledger.say(f"{key!r} has what was pushed once twice")
        if strange := [token for token in found if token not in tokens]:
            self.ledger.say(f"{key!r} has what was never pushed to it: {strange[:3]}")
        sure = [token for token, done in tokens.items() if done]
        if missing := [token for token in sure if token not in found]:
            self.ledger.say(f"{key!r} has not what was pushed, as was answered: {missing[:3]}")
        elif not self.reroutes and [token for token in found if tokens.get(token)] != sure:
            self.ledger.say(f"{key!r} has it in another order than it was pushed")


def _flat(got: list[Any]) -> list[Any]:
    return [inner for each in got for inner in (_flat(each) if isinstance(each, list) else [each])]
