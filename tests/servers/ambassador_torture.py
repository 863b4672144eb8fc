"""ambassador under clients that check every byte and every answer, while all that it leans on fails, and it is killed.

python tests/servers/ambassador_torture.py --seeds 100 --jobs 2     # a summary as Markdown tables on stdout
python tests/servers/ambassador_torture.py --only http --seeds 10   # one of: streams (TCP and Redis mode), http
python tests/servers/ambassador_torture.py --seed 4711              # one of them again
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import multiprocessing
import os
import random
import signal
import ssl
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil
import redis
import trustme

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from sidecars.ambassador.redis.ring import Node, Ring
from tests.servers import ambassador_torture_http
from tests.servers.ambassador import Ambassador
from tests.servers.ambassador_torture_redis import AFTER, Front, Redis
from tests.servers.ambassador_torture_tcp import PATIENCE, Client, Ledger, Server
from tests.servers.name_server import NameServer
from tests.servers.redis_server import RedisServer

MEMORY = 120.0  # MiB of one process, whatever is done to it
PLAIN, SECURE, TERMINATED, SHARDED = "127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0", "127.0.0.4:0"
APP, SAFE = ("127.0.0.2", "127.0.0.3", "127.0.0.4"), "127.0.0.5"
SHARDS = 3
EJECT = {"failures": 2, "time": "300ms", "max_time": "600ms"}


_LATE = 0.7  # seconds


@dataclass
class Trial:
    """What came of one seed."""

    seed: int
    workers: int
    on_failure: str
    clients: int
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    memory: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def waits(self) -> dict[str, str]:
        """Timeouts of a listener: above what so many clients in one process need, each for its turn."""
        few = self.clients < 100
        return {"connect_timeout": f"{2 if few else 4}s", "idle_timeout": f"{3 if few else 8}s", "queue_timeout": "15s"}

    @property
    def timeout(self) -> int:
        """Seconds that a shard has: below what a client waits, and above what so many of them need."""
        return 3 if self.clients < 100 else 5

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong."""
        return not self.wrong

    def __str__(self) -> str:
        wrong = "".join(f"\n    {each}" for each in self.wrong[:20])
        return (
            f"seed {self.seed}: {self.workers} workers, {self.on_failure}, {self.clients} clients, "
            f"{self.counts['whole']} connections whole of {self.counts['connections']}, "
            f"{self.counts['answers']} answers, {self.counts['errors']} errors, {self.bytes / 1e6:.0f} MB, "
            f"{sum(self.faults.values())} faults, {self.memory:.0f} MiB{wrong}"
        )


class World:
    """All that there is in a trial, and what is done to it."""

    def __init__(self, trial: Trial, directory: Path, dice: random.Random, stack: contextlib.ExitStack) -> None:
        self.trial, self.directory, self.dice = trial, directory, dice
        self.ledger = Ledger()
        self.names = stack.enter_context(NameServer())
        words = ("--appendonly", "yes", "--appendfsync", "no")
        self.shards = [stack.enter_context(RedisServer(*words)) for _ in range(SHARDS)]
        self.stack = stack
        self._socket = str(directory / "app.sock")
        self._version = 0

    async def start(self) -> Self:
        """Bring all of it up."""
        ledger = self.ledger
        self.app = [Server(ledger, host) for host in APP]
        while True:
            try:
                for server in self.app:
                    server.port = self.app[0].port
                    await server.start()
                break
            except OSError:  # the kernel's choice for one address is taken at another
                for server in self.app:
                    server.stop()
                self.app[0].port = 0
        self.app[1].doomed = self.app[2].doomed = True
        self._make_certificates()
        self.secure = Server(ledger, SAFE, tls=self._context("server"))
        self.safe = Server(ledger, SAFE, proxied=True)
        self.fronts = [Front(shard.path, f"127.0.0.{10 + number}") for number, shard in enumerate(self.shards)]
        for each in (self.secure, self.safe, *self.fronts):
            await each.start()
        self.names.set("app.test", "A", *APP)
        self.names.set("secure.test", "A", SAFE)
        for number, front in enumerate(self.fronts):
            self.names.set(f"shard{number}.test", "A", front.host)
        self._publish(1)
        arguments = ("--config", self.directory / "ambassador.json", f"--nameserver={self.names.address}")
        self.ambassador = self.stack.enter_context(await asyncio.to_thread(lambda: Ambassador(*arguments).ready()))
        ring = [Node(f"shard{number}.test:{front.port}".encode()) for number, front in enumerate(self.fronts)]
        self.ring = Ring(ring, "fnv1a_64", "ketama", None, [True] * SHARDS)
        return self

    def _make_certificates(self) -> None:
        self.authority, self.stranger = trustme.CA(), trustme.CA()
        (self.directory / "ca.pem").write_bytes(self.authority.cert_pem.bytes())
        self._issue("server", "secure.test")
        self._issue("listener", "ambassador.test")
        self.trusting = ssl.create_default_context(cadata=self.authority.cert_pem.bytes().decode())

    def _issue(self, name: str, host: str) -> None:
        issued = self.authority.issue_cert(host)
        new = self.directory / f"{name}.new"
        new.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
        new.replace(self.directory / f"{name}.pem")

    def _context(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.directory / f"{name}.pem")
        return context

    def _settings(self, version: int) -> dict[str, Any]:
        """The config; versions differ in what drops no connection."""
        own = {"max_age": f"{version}h", "eject": EJECT, **self.trial.waits}
        app = {"address": f"app.test:{self.app[0].port}"}
        ca = str(self.directory / "ca.pem")
        safe = {"address": f"{SAFE}:{self.safe.port}", "proxy_protocol": "v2"}
        pem = str(self.directory / "listener.pem")
        balance = ("round-robin", "least-connections", "source-hash", "random-two")[version % 4]
        listeners = [
            {"listen": PLAIN, "upstreams": [app], "balance": balance, **own},
            {"listen": SECURE, "upstreams": [{"address": f"secure.test:{self.secure.port}", "tls": {"ca": ca}}], **own},
            {"listen": TERMINATED, "upstreams": [safe], "tls": {"cert": pem}, **own},
            {"listen": self._socket, "upstreams": [safe], "max_connections": 8, "queue": 5000, **own},
            {"listen": SHARDED, "redis": {"timeout": f"{self.trial.timeout}s", "on_failure": self.trial.on_failure},
             "upstreams": [{"address": f"shard{number}.test:{front.port}"} for number, front in enumerate(self.fronts)],
             **own, "eject": {**EJECT, "max_share": 100}, "idle_timeout": "1h"},
        ]  # fmt: skip
        if version % 3 == 2:
            listeners.append({"listen": "127.0.0.5:0", "upstreams": [app]})
        return {"listeners": listeners, "workers": self.trial.workers}

    def _publish(self, version: int, text: str | None = None) -> None:
        """Swap the config as the kubelet does."""
        self._version += 1
        folder = self.directory / f"..{self._version}"
        folder.mkdir()
        (folder / "ambassador.json").write_text(text or json.dumps(self._settings(version)))
        (self.directory / "..new").symlink_to(folder.name)
        os.replace(self.directory / "..new", self.directory / "..data")
        if self._version == 1:
            (self.directory / "ambassador.json").symlink_to("..data/ambassador.json")

    def close(self) -> None:
        """Let nobody in any more."""
        for each in (*self.app, self.secure, self.safe, *self.fronts):
            each.close()

    # What is done to it: each of these ends as it began.

    async def swap(self) -> None:
        """New settings, good or bad; taken at once where SIGHUP says so."""
        if self.dice.random() < 0.3:
            self._publish(0, self.dice.choice(('{"listeners": [', '{"listeners": []}', '{"listenrs": []}')))
        else:
            self._publish(self.dice.randrange(1, 50))
        for _ in range(self.dice.choice((0, 1, 1, 5))):
            self.ambassador.send(signal.SIGHUP)

    async def restart(self) -> None:
        """A server is killed, refuses for a while, and is there again."""
        server = self.app[1]
        server.stop()
        await asyncio.sleep(self.dice.random())
        await server.start()

    async def leave(self) -> None:
        """A server leaves its name, and comes back."""
        # What has been dialled there may be closed before it is read: a moment later than the name server says so.
        self.ledger.restless["app"] = time.monotonic() + 8
        self.app[2].excuse()
        self.names.set("app.test", "A", *APP[:2])
        await asyncio.sleep(1.5)
        self.ledger.restless["app"] = time.monotonic() + 5
        self.names.set("app.test", "A", *APP)

    async def unname(self) -> None:
        """The name server fails, for some or all."""
        name = self.dice.choice(("", "app.test", "secure.test", "shard0.test"))
        self.names.trouble[name] = self.dice.choice(("servfail", "refused", "silent"))
        await asyncio.sleep(1)
        del self.names.trouble[name]

    async def vanish(self) -> None:
        """A name does not exist for a while."""
        name, host = self.dice.choice((("secure.test", SAFE), ("shard0.test", self.fronts[0].host)))
        self.names.remove(name)
        await asyncio.sleep(1)
        self.names.set(name, "A", host)

    async def distrust(self) -> None:
        """The server shows a stranger's certificate."""
        assert self.secure.tls
        self.ledger.restless["secure"] = time.monotonic() + 3600
        self.stranger.issue_cert("secure.test").configure_cert(self.secure.tls)
        await asyncio.sleep(0.5)
        self.secure.tls.load_cert_chain(self.directory / "server.pem")
        self.ledger.restless["secure"] = time.monotonic() + 2  # that is how long it may be left out

    async def renew(self) -> None:
        """The listener's certificate is another."""
        await asyncio.to_thread(self._issue, "listener", "ambassador.test")

    async def kill(self) -> None:
        """A process that carries is killed."""
        if self.trial.workers > 1 and (children := self.ambassador.children()):
            self.ledger.excuse_all()
            victim = self.dice.choice(children)
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            with contextlib.suppress(psutil.NoSuchProcess):
                await asyncio.to_thread(psutil.Process(victim).wait, 5)
            self.ledger.excuse_all()

    async def harm(self) -> None:
        """A shard is badly connected. Nothing is ever done to the first."""
        front = self.dice.choice(self.fronts[1:])
        trouble = self.dice.choice(("refuse", "garbage", "stall", "drip", "reset", "reset"))
        if front.trouble:
            return
        self.ledger.restless["redis"] = time.monotonic() + 3600
        await front.begin(trouble)
        await asyncio.sleep(self.dice.choice((0.1, 0.3, self.trial.timeout + 0.5 if trouble == "stall" else 1)))
        await front.end()
        self.ledger.restless["redis"] = time.monotonic() + AFTER

    async def fell(self) -> None:
        """A shard is killed, and started again."""
        shard = self.dice.choice(self.shards[1:])
        self.ledger.restless["redis"] = time.monotonic() + 3600
        await asyncio.to_thread(shard.kill)
        await asyncio.sleep(self.dice.random())
        await asyncio.to_thread(shard.restart)
        self.ledger.restless["redis"] = time.monotonic() + AFTER

    async def trouble(self, over: asyncio.Event, seconds: float) -> None:
        """Do one thing after another, several at once, for some seconds."""
        weights: dict[Callable[[], Awaitable[None]], int] = {
            self.swap: 4, self.restart: 3, self.leave: 2, self.unname: 2, self.vanish: 1, self.distrust: 2,
            self.renew: 1, self.kill: 2, self.harm: 6, self.fell: 2,
        }  # fmt: skip
        chosen = self.dice.sample(list(weights), k=self.dice.randrange(3, len(weights) + 1))
        running: dict[Any, asyncio.Task[None]] = {}
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(self.dice.random() * 0.4)
            kind = self.dice.choices(chosen, [weights[each] for each in chosen])[0]
            if kind in running and not running[kind].done():
                continue
            self.trial.faults[kind.__name__] += 1
            running[kind] = asyncio.create_task(kind())
        await asyncio.gather(*running.values())
        over.set()

    # Who connects.

    def clients(self) -> tuple[list[Client], list[Redis]]:
        """Some for each listener."""
        count, dice = self.trial.clients, self.dice
        connects = {
            "app": lambda: asyncio.open_connection(*self._at(PLAIN)),
            "secure": lambda: asyncio.open_connection(*self._at(SECURE)),
            "terminated": lambda: asyncio.open_connection(
                *self._at(TERMINATED), ssl=self.trusting, server_hostname="ambassador.test"
            ),
            "unix": lambda: asyncio.open_unix_connection(self._socket),
        }
        kinds = dice.choices(list(connects), (6, 2, 1, 2), k=count - count // 3)
        tcp = [Client(self.ledger, random.Random(dice.random()), kind, connects[kind]) for kind in kinds]
        reroutes = self.trial.on_failure == "reroute"
        redis = [
            Redis(self.ledger, random.Random(dice.random()), number, lambda key: self.ring.shard(key) == 0, reroutes)
            for number in range(count // 3)
        ]
        return tcp, redis

    def _at(self, listen: str) -> tuple[str, int]:
        address = self.addresses[listen]
        assert isinstance(address, tuple)
        return address

    async def load(self, tcp: list[Client], redis: list[Redis], over: asyncio.Event, calm: bool = False) -> None:
        """Let all of them go on until it is over, and to the end of what they are at."""
        self.addresses = {each: self.ambassador.address(each) for each in (PLAIN, SECURE, TERMINATED, SHARDED)}
        host, port = self._at(SHARDED)
        tasks = [asyncio.create_task(each.run(over, calm)) for each in tcp]
        tasks += [asyncio.create_task(each.run(port, host, over)) for each in redis]
        done, late = await asyncio.wait(tasks, timeout=3 * PATIENCE + 60)
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
                # Timeouts are met then that nothing but this is the reason of.
                self.trial.counts["moments without a processor"] += 1
                self.ledger.excuse_all()
                self.ledger.starved = now + AFTER
                for kind, seconds in (("redis", AFTER), ("app", 5), ("secure", 5), ("terminated", 5), ("unix", 5)):
                    self.ledger.restless[kind] = max(self.ledger.restless.get(kind, 0), now + seconds)
            last = now
            for pid in (self.ambassador.pid, *self.ambassador.children()):
                with contextlib.suppress(psutil.NoSuchProcess):
                    self.trial.memory = max(self.trial.memory, psutil.Process(pid).memory_info().rss / 2**20)
            await asyncio.sleep(0.2)

    # What must be so in the end.

    async def recovered(self) -> None:
        """All that can be used is used again, and nothing is left of the connections that there were."""
        await self._until("/healthz is well", lambda: self.ambassador.ask("/healthz")[0] == 200)
        await self._until("nothing is open", lambda: not self._open())
        if self.trial.memory > MEMORY:
            self.ledger.say(f"a process has taken {self.trial.memory:.0f} MiB")
        lost = self.ledger.whole - self.ledger.received
        await self._until(
            "upstreams have all that whole connections have sent", lambda: not lost - self.ledger.received
        )

    async def _until(self, what: str, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not await asyncio.to_thread(happened):
            if time.monotonic() > deadline:
                self.ledger.say(f"not so in the end: {what}; {self._open()}")
                return
            await asyncio.sleep(0.05)

    def _open(self) -> list[str]:
        """What the ambassador's processes have open for clients: none is there."""
        ours = {self._at(each)[1] for each in (PLAIN, SECURE, TERMINATED, SHARDED)}
        theirs = {self.app[0].port, self.secure.port, self.safe.port}
        found = []
        for pid in (self.ambassador.pid, *self.ambassador.children()):
            try:
                for each in psutil.Process(pid).net_connections("tcp"):
                    far = each.raddr.port if each.raddr else 0
                    if far and (each.laddr.port in ours or far in theirs):
                        found.append(f"{each.laddr} {each.raddr} {each.status}")
            except psutil.NoSuchProcess:
                pass
        return found

    async def drained(self, tcp: list[Client], redis: list[Redis]) -> None:
        """SIGTERM under load: whoever is served is served to the end, and whoever comes then, too."""
        before, whole = len(self.ledger.wrong), len(self.ledger.whole)
        self.ledger.restless.clear()
        over = asyncio.Event()
        load = asyncio.create_task(self.load(tcp, redis, over, calm=True))
        await asyncio.sleep(0.2)
        self.ambassador.send(signal.SIGTERM)
        await asyncio.sleep(0.4)
        over.set()
        await load
        code = await asyncio.to_thread(self.ambassador.wait, PATIENCE)
        self.trial.counts["whole while draining"] = len(self.ledger.whole) - whole
        if code or len(self.ledger.wrong) > before:
            self.ledger.say(f"the drain has ended with {code}: {self.ambassador.lines[-5:]}")

    def settle(self, asking: list[Redis]) -> None:
        """What the shards have is what clients were told."""
        lists: dict[bytes, list[list[bytes]]] = {}
        numbers: Counter[bytes] = Counter()
        for shard in self.shards:
            client = redis.Redis(unix_socket_path=shard.path)
            for key in client.scan_iter(count=10_000):
                if b":list:" in key:
                    lists.setdefault(key, []).append(client.lrange(key, 0, -1))
                elif b":count:" in key:
                    numbers[key] += int(client.get(key))
            client.close()
        for each in asking:
            each.settle(lists, numbers)

    def tracebacks(self) -> None:
        """A bug is said as it is."""
        for line in self.ambassador.lines:
            if "Traceback" in line or '"exception"' in line:
                self.ledger.say(f"it has logged {line[-1500:]}")


async def _play(trial: Trial, directory: Path, dice: random.Random, seconds: float) -> None:
    # Handshakes that fail, and clients that are gone, are meant.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        world = await World(trial, directory, dice, stack).start()
        tcp, redis = world.clients()
        await world._until("/healthz is well", lambda: world.ambassador.ask("/healthz")[0] == 200)
        await asyncio.to_thread(world.ambassador.ask, "/metrics")  # each worker answers after it has heard of that
        over = asyncio.Event()
        await asyncio.gather(world.load(tcp, redis, over), world.trouble(over, seconds), world.watch(over))
        await world.recovered()
        await world.drained(tcp, redis)
        world.settle(redis)
        world.tracebacks()
        world.close()
        await asyncio.sleep(0.05)  # for the transports to close what they have
        ledger = world.ledger
        trial.counts += ledger.counts
        trial.counts["connections"] = sum(ledger.counts[each] for each in ("whole", "cut", "reset", "left", "wrong"))
        trial.bytes, trial.wrong = ledger.bytes, ledger.wrong


def run(seed: int, clients: int = 500, seconds: float = 8.0) -> Trial:
    """Play one seed."""
    dice = random.Random(seed)
    trial = Trial(seed, dice.choice((1, 2)), dice.choice(("fail", "reroute")), clients)
    with tempfile.TemporaryDirectory(prefix="torture") as directory:
        asyncio.run(_play(trial, Path(directory), dice, seconds))
    return trial


def runs(play: Callable[..., Any], seeds: list[int], jobs: int, clients: int, seconds: float) -> list[Any]:
    """Play several, each in a process that has a core for itself."""
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(play, seed, clients, seconds) for seed in seeds]
        trials = []
        for each in waiting:
            trials.append(each.result())
            print(f"{'ok  ' if trials[-1].passed else 'FAIL'} {trials[-1]}", file=sys.stderr, flush=True)
    return trials


def summary(trials: list[Trial]) -> str:
    """Give a Markdown table, and the sentences that count."""
    rows = [
        "| workers | a failed shard's keys | seeds | connections | whole | ended early, as they had to | MB checked "
        "| answers checked | errors | whole while draining | largest process, MiB | wrong | failed seeds |",
        "| --- " * 13 + "|",
    ]
    for workers in (1, 2):
        for on_failure in ("fail", "reroute"):
            those = [each for each in trials if (each.workers, each.on_failure) == (workers, on_failure)]
            counts = sum((each.counts for each in those), Counter[str]())
            cells = (
                workers, on_failure, len(those), counts["connections"], counts["whole"],
                counts["connections"] - counts["whole"], sum(each.bytes for each in those) // 10**6,
                counts["answers"], counts["errors"], counts["whole while draining"],
                round(max((each.memory for each in those), default=0)), sum(len(each.wrong) for each in those),
                ", ".join(str(each.seed) for each in those if each.wrong) or "none",
            )  # fmt: skip
            rows.append("| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else cell for cell in cells) + " |")
    faults = sum((each.faults for each in trials), Counter[str]())
    fates = sum((each.counts for each in trials), Counter[str]())
    rows += ["", "What was done: " + ", ".join(f"{name} {count:,}" for name, count in sorted(faults.items())) + "."]
    ends = [f"{name} {count:,}" for name, count in sorted(fates.items()) if ": " in name]
    rows += ["", "What clients and upstreams did, and how it ended for the client: " + ", ".join(ends) + "."]
    return "\n".join(rows)


def main() -> int:
    """Run trials from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=0, help="run the seeds 1 to N")
    parser.add_argument("--seed", type=int, action="append", default=[], help="run this seed")
    parser.add_argument("--jobs", type=int, default=1, help="trials at a time")
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--only", choices=("streams", "http"), help="streams are TCP and Redis mode")
    options = parser.parse_args()
    seeds = [*options.seed, *range(1, options.seeds + 1)]
    modes = {"streams": (run, summary), "http": (ambassador_torture_http.run, ambassador_torture_http.summary)}
    passed = True
    for name in [options.only] if options.only else modes:
        play, summed = modes[name]
        trials = runs(play, seeds, options.jobs, options.clients, options.seconds)
        print(f"## {name.upper() if name == 'http' else 'TCP and Redis'}\n\n{summed(trials)}\n", flush=True)
        passed = passed and all(each.passed for each in trials)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
