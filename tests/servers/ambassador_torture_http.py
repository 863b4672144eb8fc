"""ambassador's HTTP mode under clients that check every body, while servers are killed, stopped and started again.

python tests/servers/ambassador_torture.py --only http --seeds 100 --jobs 2
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.servers.ambassador import Ambassador
from tests.servers.ambassador_torture_origin import noise
from tests.servers.ambassador_torture_tcp import PATIENCE, tear
from tests.unit.core.running import free_port

MEMORY = 80.0  # MiB of one process, whatever is done to it
GROWTH = 15.0  # MiB that it may have more in the end than before
PLAIN = "127.0.0.1:0"
ORIGINS = 3
EJECT = {"failures": 3, "time": "200ms", "max_time": "500ms"}
AFTER = 3.0  # seconds in which what was done may still be felt
_LATE = 0.7  # seconds without a processor in which timeouts are met

METHODS = ("GET", "GET", "GET", "HEAD", "PUT", "POST", "POST", "DELETE", "PATCH")
ONCE = ("POST", "PATCH")
# What becomes of a request: the server does the first of them, the client the last three.
FATES = {"whole": 50, "chunks": 15, "until_close": 5, "hints": 3, "drip": 2, "flaky": 5, "unwell": 5, "poor": 2,
         "reset": 3, "short": 3, "short_chunks": 3, "early": 2, "abort": 3, "leave": 2, "slow": 3}  # fmt: skip
CALM = ("whole", "chunks", "hints")
CUT = ("short", "short_chunks")  # these answers must not come whole
BAD = (*CUT, "flaky", "unwell", "poor", "reset", "early", "abort", "leave")


@dataclass
class Trial:
    """What came of one seed."""

    seed: int
    workers: int
    clients: int
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    memory: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong."""
        return not self.wrong

    def __str__(self) -> str:
        wrong = "".join(f"\n    {each}" for each in self.wrong[:20])
        counts = self.counts
        return (
            f"http, seed {self.seed}: {self.workers} workers, {self.clients} clients, {counts['requests']} requests, "
            f"{counts['200']} answered whole, {counts['once']} that may arrive once, {counts['again']} tried again, "
            f"{self.bytes / 1e6:.0f} MB, {sum(self.faults.values())} faults, {self.memory:.0f} MiB{wrong}"
        )


class Ledger:
    """What is known of the requests of a trial, and what was wrong.

    asked     the methods of all that were ever sent, by their numbers
    whole     those that were answered whole with 200, by a server that has read all of them
    restless  until when one may fail for what was done
    """

    def __init__(self) -> None:
        self.ids = itertools.count(1)
        self.asked: dict[int, str] = {}
        self.whole: set[int] = set()
        self.restless = 0.0
        self.counts: Counter[str] = Counter()
        self.bytes = 0
        self.wrong: list[str] = []

    def say(self, text: str) -> None:
        """Keep what is wrong."""
        self.wrong.append(text)

    def disturbed(self, seconds: float = AFTER) -> None:
        """What is under way, and what comes in these seconds, may fail."""
        self.restless = max(self.restless, time.monotonic() + seconds)


class Server:
    """A server in a process of its own."""

    def __init__(self, log: Path) -> None:
        self.log, self.port = log, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Have it listen, at the same port as before."""
        script = Path(__file__).with_name("ambassador_torture_origin.py")
        command = [sys.executable, "-I", "-S", str(script), str(self.port), str(self.log)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout
        assert self.process.stdout.readline() == b"listening\n"

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.process
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout
            self.process.stdout.close()
            self.process = None


class Cut(Exception):  # noqa: N818  (named for what is so)
    """An answer is not whole."""


class Client:
    """One who asks again and again, over connections that are kept for some requests."""

    def __init__(self, ledger: Ledger, dice: random.Random, connect: Callable[[], Awaitable[Any]]) -> None:
        self.ledger, self.dice, self.connect = ledger, dice, connect
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None
        self.left = 0  # requests that this connection is still for
        self.used = 0

    async def run(self, over: asyncio.Event, calm: bool) -> None:
        """Go on until it is over; while it is calm, all must be well."""
        await asyncio.sleep(self.dice.random() * 0.2)
        while not over.is_set():
            id = next(self.ledger.ids)
            fate = self.dice.choice(CALM) if calm else self.dice.choices(list(FATES), list(FATES.values()))[0]
            try:
                async with asyncio.timeout(PATIENCE):
                    await self.ask(id, self.dice.choice(METHODS), fate)
            except TimeoutError:
                self.ledger.say(f"{id} ({fate}) hangs")
                self.drop()
            await asyncio.sleep(self.dice.random() * 0.05)
        self.drop()

    def drop(self) -> None:
        """Close the connection."""
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None

    async def ask(self, id: int, method: str, fate: str) -> None:
        """Send one request, and judge what comes of it."""
        ledger, since = self.ledger, time.monotonic()
        down = self.dice.choice((0, 10, 3000, self.dice.randrange(60_000), self.dice.randrange(300_000)))
        down = max(down, 100) if fate in CUT else min(down, 20_000) if fate == "drip" else down
        try:
            outcome = await self._exchange(id, method, fate, down)
        except (OSError, asyncio.IncompleteReadError, Cut):
            outcome = "cut"
        if outcome in ("cut", "left"):
            reused = self.used > 1
            self.drop()
            if outcome == "cut" and reused and not ledger.asked.get(id):
                outcome = "unsent"
        ledger.counts["requests"] += 1
        ledger.counts["once"] += method in ONCE
        ledger.counts[outcome] += 1
        ledger.counts[f"{fate}: {outcome}"] += 1
        if outcome not in ("200", "left") and fate not in BAD and since > ledger.restless:
            await self._blame(f"{id} ({method}, {fate}) is {outcome} for no reason", since)

    async def _blame(self, text: str, since: float) -> None:
        # It may be only now that the trial learns of its having had no processor.
        await asyncio.sleep(0.3)
        if since > self.ledger.restless:
            self.ledger.say(text)

    async def _exchange(self, id: int, method: str, fate: str, down: int) -> str:
        if self.writer is None or self.reader is None:
            self.reader, self.writer = await self.connect()
            self.left, self.used = self.dice.choice((1, 3, 20)), 0
        self.left -= 1
        self.used += 1
        reader, writer = self.reader, self.writer
        giving = asyncio.create_task(self._give(writer, id, method, fate, down))
        try:
            if fate == "leave":
                await asyncio.sleep(self.dice.random() * 0.01)
                return "left"
            status, close = await self._take(reader, id, method, fate, down)
            if fate == "abort":
                return "left"
            if fate != "early":
                await giving
            if close or not self.left or fate == "early":
                self.drop()
            return status
        finally:
            giving.cancel()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await giving
            if fate in ("leave", "abort"):
                tear(writer)

    async def _give(self, writer: asyncio.StreamWriter, id: int, method: str, fate: str, down: int) -> None:
        """Send the request, whole or the half of it."""
        dice = self.dice
        up = dice.choice((0, 10, 3000, dice.randrange(60_000), dice.randrange(300_000)))
        body = b"" if method in ("GET", "HEAD", "DELETE") else dice.randbytes(max(up, 2000) if fate == "abort" else up)
        chunked = bool(body) and dice.random() < 0.3
        path = "whole" if fate in ("abort", "leave", "slow") else fate
        lines = [
            f"{method} /{id}/{path}/{down} HTTP/1.1", "Host: torture.test", f"X-Id: {id}",
            f"X-Sha: {hashlib.sha1(body).hexdigest()}",
            "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}",
        ]  # fmt: skip
        self.ledger.asked[id] = method
        writer.write("\r\n".join([*lines, "", ""]).encode())
        end = len(body) // 2 if fate == "abort" else len(body)
        for at in range(0, end, 16_000):
            piece = body[at : min(at + 16_000, end)]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await writer.drain()
        if fate == "abort":
            tear(writer)
        elif chunked:
            writer.write(b"0\r\n\r\n")
            await writer.drain()

    async def _take(self, reader: asyncio.StreamReader, id: int, method: str, fate: str, down: int) -> tuple[str, bool]:
        """Read the answer, and check it; its status, and whether the connection ends with it."""
        status, headers = await _head(reader)
        while status[0] == "1":
            status, headers = await _head(reader)
        body, trailers = await _body(reader, status, headers, method, self.dice if fate == "slow" else None)
        close = headers.get("connection") == "close"
        ledger = self.ledger
        ledger.bytes += len(body)
        if status != "200":
            if status not in ("502", "503", "504"):
                ledger.say(f"{id} ({method}, {fate}) is answered {status}: {body[:80]!r}")
            return status, close
        self._check(id, method, fate, down, headers.get("x-id"), body, trailers)
        return status, close

    def _check(
        self, id: int, method: str, fate: str, down: int, whose: str | None, body: bytes, trailers: list[str]
    ) -> None:
        ledger, what = self.ledger, f"{id} ({method}, {fate})"
        if whose != str(id):
            ledger.say(f"{what} got the answer of {whose}")
        elif body != (b"" if method == "HEAD" else noise(id, down)):
            ledger.say(f"{what} got another body: {len(body)} bytes instead of {down}")
        elif fate in CUT and method != "HEAD":
            ledger.say(f"{what} came whole, and could not")
        elif fate == "chunks" and method != "HEAD" and trailers != [f"X-Sum: {id}"]:
            ledger.say(f"{what} has the trailers {trailers}")
        if fate != "early":
            ledger.whole.add(id)


async def _head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(": ") for line in lines[1:-2])
    return lines[0].split(" ")[1], {name.lower(): value for name, _, value in pairs}


async def _body(
    reader: asyncio.StreamReader, status: str, headers: dict[str, str], method: str, slow: random.Random | None
) -> tuple[bytes, list[str]]:
    if method == "HEAD" or status in ("204", "304"):
        return b"", []
    if headers.get("transfer-encoding") == "chunked":
        return await _chunks(reader)
    if "content-length" not in headers:
        raise Cut
    size, body = int(headers["content-length"]), b""
    while len(body) < size:
        more = await reader.read(min(size - len(body), 5000 if slow else 1 << 20))
        if not more:
            raise Cut
        body += more
        if slow is not None:
            await asyncio.sleep(0.001)
    return body, []


async def _chunks(reader: asyncio.StreamReader) -> tuple[bytes, list[str]]:
    pieces, trailers = [], []
    while size := int((await reader.readuntil(b"\r\n")), 16):
        pieces.append((await reader.readexactly(size + 2))[:-2])
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        trailers.append(line.decode().strip())
    return b"".join(pieces), trailers


class World:
    """All that there is in a trial, and what is done to it."""

    def __init__(self, trial: Trial, directory: Path, dice: random.Random, stack: contextlib.ExitStack) -> None:
        self.trial, self.directory, self.dice, self.stack = trial, directory, dice, stack
        self.ledger = Ledger()
        self.servers = [Server(directory / f"origin{number}.log") for number in range(ORIGINS)]
        self._socket = str(directory / "web.sock")
        self._config = directory / "ambassador.json"

    async def start(self) -> None:
        """Bring all of it up."""
        for each in self.servers:
            self.stack.callback(each.kill)
        await asyncio.gather(*(asyncio.to_thread(each.start) for each in self.servers))
        self._publish(json.dumps(self._settings(0)))
        make = lambda: Ambassador(f"--config={self._config}").ready()  # noqa: E731
        self.ambassador = self.stack.enter_context(await asyncio.to_thread(make))
        await self.until("/healthz is well", lambda: self.ambassador.ask("/healthz")[0] == 200)
        await asyncio.to_thread(self.ambassador.ask, "/metrics")
        self.before = self._sizes()

    def _settings(self, version: int) -> dict[str, Any]:
        """The config; versions differ in what drops no request."""
        few = self.trial.clients < 100
        web = {
            "timeout": "15s", "try_timeout": "1s" if few else "4s", "upstream_keep_alive": "500ms",
            "retry": {"tries": 3, "budget": 30, "floor": 20}, "max_body": f"{10 + version}MiB",
            "request": {"add": [{"name": "X-Version", "value": str(version)}]},
        }  # fmt: skip
        upstreams = [{"address": f"127.0.0.1:{each.port}"} for each in self.servers]
        balance = ("round-robin", "least-connections", "random-two")[version % 3]
        own = {"upstreams": upstreams, "http": web, "eject": EJECT, "balance": balance, "connect_timeout": "3s"}
        return {
            "listeners": [{"listen": PLAIN, **own}, {"listen": self._socket, **own}],
            "workers": self.trial.workers,
        }

    def _publish(self, text: str) -> None:
        new = self._config.with_suffix(".new")
        new.write_text(text)
        new.replace(self._config)

    def _processes(self) -> list[psutil.Process]:
        found = []
        for pid in (self.ambassador.pid, *self.ambassador.children()):
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(pid))
        return found

    def _sizes(self) -> tuple[int, float]:
        """Descriptors of all its processes, and the MiB of the largest."""
        with contextlib.suppress(psutil.NoSuchProcess):
            every = self._processes()
            return sum(each.num_fds() for each in every), max(each.memory_info().rss for each in every) / 2**20
        return 0, 0.0

    # What is done to it: each of these ends as it began.

    async def kill(self) -> None:
        """A server is killed, and started again."""
        server = self.dice.choice(self.servers)
        self.ledger.disturbed(3600)
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(self.dice.random() * 0.5)
        await asyncio.to_thread(server.start)

    async def stall(self) -> None:
        """A server stands still for a while."""
        server = self.dice.choice(self.servers)
        self.ledger.disturbed(3600)
        server.signal(signal.SIGSTOP)
        await asyncio.sleep(self.dice.choice((0.1, 0.3, 1.5)))
        server.signal(signal.SIGCONT)

    async def swap(self) -> None:
        """New settings, good or bad: no request fails for them."""
        bad = self.dice.choice(('{"listeners": [', '{"listeners": []}', '{"listenrs": []}'))
        text = bad if self.dice.random() < 0.3 else json.dumps(self._settings(self.dice.randrange(1, 50)))
        self._publish(text)
        for _ in range(self.dice.choice((1, 1, 3))):
            self.ambassador.send(signal.SIGHUP)

    async def fell(self) -> None:
        """A process that carries is killed."""
        if self.trial.workers > 1 and (children := self.ambassador.children()):
            self.ledger.disturbed(3600)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.dice.choice(children), signal.SIGKILL)
            await asyncio.sleep(0.2)

    async def trouble(self, over: asyncio.Event, seconds: float) -> None:
        """Do one thing after another, with a while of peace between them, for some seconds."""
        weights = {self.kill: 4, self.stall: 3, self.swap: 4, self.fell: 1}
        end = time.monotonic() + seconds
        await asyncio.sleep(min(0.2, seconds / 5))
        while time.monotonic() < end:
            kind = self.dice.choices(list(weights), list(weights.values()))[0]
            self.trial.faults[kind.__name__] += 1
            await kind()
            if self.ledger.restless > time.monotonic() + 60:
                self.ledger.restless = time.monotonic() + AFTER
            await asyncio.sleep(self.dice.random() * 0.3)
        over.set()

    async def load(self, over: asyncio.Event, calm: bool = False) -> None:
        """Let clients ask until it is over, and to the end of what they are at."""
        host, port = self.ambassador.address(PLAIN)
        connects = (
            lambda: asyncio.open_connection(host, port, limit=1 << 20),
            lambda: asyncio.open_unix_connection(self._socket, limit=1 << 20),
        )
        clients = [
            Client(self.ledger, random.Random(self.dice.random()), self.dice.choices(connects, (3, 1))[0])
            for _ in range(self.trial.clients)
        ]
        tasks = [asyncio.create_task(each.run(over, calm)) for each in clients]
        done, late = await asyncio.wait(tasks, timeout=3 * PATIENCE)
        for each in late:
            each.cancel()
            self.ledger.say("a client did not come to its end")
        for each in done:
            each.result()

    async def watch(self, over: asyncio.Event) -> None:
        """See how large its processes become; and whether this machine has time for all of this."""
        last = time.monotonic()
        while not over.is_set():
            now = time.monotonic()
            if now - last > 0.2 + _LATE:
                self.trial.counts["moments without a processor"] += 1
                self.ledger.disturbed()
            last = now
            self.trial.memory = max(self.trial.memory, self._sizes()[1])
            await asyncio.sleep(0.2)

    # What must be so in the end.

    async def until(self, what: str, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not await asyncio.to_thread(happened):
            if time.monotonic() > deadline:
                self.ledger.say(f"not so in the end: {what}; {self._sizes()} instead of {self.before}")
                return
            await asyncio.sleep(0.05)

    async def settled(self) -> None:
        """All servers are asked again, and nothing is left of the connections that there were."""
        await self.until("/healthz is well", lambda: self.ambassador.ask("/healthz")[0] == 200)
        count = len(self._processes())
        await self.until("its descriptors are as before", lambda: self._sizes()[0] <= self.before[0] + 2 * count)
        if self.trial.memory > MEMORY:
            self.ledger.say(f"a process has taken {self.trial.memory:.0f} MiB")
        if (now := self._sizes()[1]) > self.before[1] + GROWTH:
            self.ledger.say(f"a process has {now:.0f} MiB in the end, and had {self.before[1]:.0f}")

    async def calm(self, seconds: float) -> None:
        """Nothing is done any more: every request is answered whole."""
        self.ledger.restless = 0.0
        over = asyncio.Event()
        whole = self.ledger.counts["200"]
        watching = asyncio.create_task(self.watch(over))
        load = asyncio.create_task(self.load(over, calm=True))
        await asyncio.sleep(seconds)
        over.set()
        await asyncio.gather(load, watching)
        self.trial.counts["in peace"] = self.ledger.counts["200"] - whole

    async def ended(self) -> None:
        """SIGTERM ends it in good order."""
        self.trial.counts["again"] = int(self.ambassador.sum("http_retries_total"))
        self.ambassador.send(signal.SIGTERM)
        if code := await asyncio.to_thread(self.ambassador.wait, PATIENCE):
            self.ledger.say(f"the drain has ended with {code}: {self.ambassador.lines[-5:]}")
        for line in self.ambassador.lines:
            if "Traceback" in line or '"exception"' in line:
                self.ledger.say(f"it has logged {line[-1500:]}")

    def settle(self) -> None:
        """What arrived is what was sent: whole, known, and once where once is all that may be."""
        ledger, arrived, whole = self.ledger, Counter[int](), set()
        for line in (line for each in self.servers for line in each.log.read_text().splitlines()):
            word, number, *more = line.split()
            id = int(number)
            if word == "arrived":
                arrived[id] += 1
                if ledger.asked.get(id) != more[0]:
                    ledger.say(f"{id} arrived as {more[0]}, and was sent as {ledger.asked.get(id)}")
            elif word == "whole":
                whole.add(id)
            else:
                ledger.say(f"{id} arrived with another body")
        for id, count in arrived.items():
            if count > 1 and ledger.asked.get(id) in ONCE:
                ledger.say(f"{id} arrived {count} times, and is a {ledger.asked[id]}")
        if lost := ledger.whole - whole:
            ledger.say(f"{sorted(lost)[:5]} were answered, and have not arrived whole")


async def _play(trial: Trial, directory: Path, dice: random.Random, seconds: float) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # clients that are gone are meant
    with contextlib.ExitStack() as stack:
        world = World(trial, directory, dice, stack)
        await world.start()
        over = asyncio.Event()
        await asyncio.gather(world.load(over), world.trouble(over, seconds), world.watch(over))
        await world.settled()
        await world.calm(min(1.0, seconds / 2))
        await world.settled()
        await world.ended()
        world.settle()
        ledger = world.ledger
        trial.counts += ledger.counts
        trial.bytes, trial.wrong = ledger.bytes, ledger.wrong


def run(seed: int, clients: int = 500, seconds: float = 8.0) -> Trial:
    """Play one seed."""
    dice = random.Random(seed)
    trial = Trial(seed, dice.choice((1, 2)), clients)
    with tempfile.TemporaryDirectory(prefix="torture") as directory:
        asyncio.run(_play(trial, Path(directory), dice, seconds))
    return trial


def summary(trials: list[Trial]) -> str:
    """Give a Markdown table, and the sentences that count."""
    rows = [
        "| workers | seeds | requests | answered whole | of them in peace | POST and PATCH | arrived twice "
        "| tried again | MB checked | largest process, MiB | wrong | failed seeds |",
        "| --- " * 12 + "|",
    ]
    for workers in (1, 2):
        those = [each for each in trials if each.workers == workers]
        counts = sum((each.counts for each in those), Counter[str]())
        twice = sum("times, and is a" in wrong for each in those for wrong in each.wrong)
        cells = (
            workers, len(those), counts["requests"], counts["200"], counts["in peace"], counts["once"], twice,
            counts["again"], sum(each.bytes for each in those) // 10**6,
            round(max((each.memory for each in those), default=0)), sum(len(each.wrong) for each in those),
            ", ".join(str(each.seed) for each in those if each.wrong) or "none",
        )  # fmt: skip
        rows.append("| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else cell for cell in cells) + " |")
    faults = sum((each.faults for each in trials), Counter[str]())
    fates = sum((each.counts for each in trials), Counter[str]())
    rows += ["", "What was done: " + ", ".join(f"{name} {count:,}" for name, count in sorted(faults.items())) + "."]
    ends = [f"{name} {count:,}" for name, count in sorted(fates.items()) if ": " in name]
    rows += ["", "What clients and servers did, and what came of it: " + ", ".join(ends) + "."]
    return "\n".join(rows)
