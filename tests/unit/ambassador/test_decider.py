from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar, cast

import pytest
import structlog.testing

from sidecars.ambassador.decider import Decider
from sidecars.ambassador.loop import Loop
from sidecars.ambassador.plan import Endpoint, Outcome, Plan
from sidecars.ambassador.pool import NoSuchUpstream
from sidecars.ambassador.settings import Check, Eject, Listener, Redis, TcpCheck, Upstream
from sidecars.core.health import Health
from sidecars.core.units import Seconds
from tests.servers.name_server import NameServer

T = TypeVar("T")

PATIENCE = 30.0
ID = ":5432"


def run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(work)


def listener(*addresses: str, **settings: Any) -> Listener:
    return Listener(listen=ID, upstreams=tuple(Upstream(address=address) for address in addresses), **settings)


class Deciding:
    """A decider, with the plans it has made."""

    def __init__(self, *listeners: Listener, server: NameServer | None = None) -> None:
        self.health = Health()
        self.health.started()
        self.plans: list[Plan] = []
        self._news = asyncio.Event()
        loop = cast(Loop, asyncio.get_running_loop())
        addresses = [server.address] if server else []
        self.decider = Decider(loop, listeners, self._changed, self.health, nameservers=addresses)
        self.crashed = self.decider.start()

    def __enter__(self) -> Deciding:
        return self

    def __exit__(self, *_: object) -> None:
        self.decider.close()
        assert not self.crashed.done()

    def _changed(self, plan: Plan) -> None:
        self.plans.append(plan)
        self._news.set()

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return self.plans[-1].routes[0].endpoints

    @property
    def states(self) -> dict[str, str]:
        """By address; what is to be closed has an exclamation mark."""
        return {
            str(each.address[0] if isinstance(each.address, tuple) else each.address): each.state + "!" * each.close
            for each in self.endpoints
        }

    async def until(self, so: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not so():
                self._news.clear()
                await self._news.wait()

    async def until_states(self, **states: str) -> None:
        """Wait for these states, by the last number of each address: _2="up"."""
        wanted = {f"127.0.0.{key[1:]}": state for key, state in states.items()}
        try:
            await self.until(lambda: self.states == wanted)
        except TimeoutError:
            raise AssertionError(f"{self.states} are not {wanted}") from None

    def fail(self, key: str, times: int = 1) -> None:
        for _ in range(times):
            self.decider.outcome(Outcome(ID, key, False, "refused", "Connection refused"))

    def key(self, last: int) -> str:
        return next(each.key for each in self.endpoints if each.address[0] == f"127.0.0.{last}")


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer() as server:
        yield server


def test_addresses_and_sockets_are_in_the_first_plan() -> None:
    async def decide() -> None:
        upstreams = listener("127.0.0.1:5432", "[::1]:5433", "/run/db.sock")
        with Deciding(upstreams) as deciding:
            assert deciding.endpoints == (
                Endpoint("127.0.0.1:5432 127.0.0.1:5432", 0, ("127.0.0.1", 5432)),
                Endpoint("[::1]:5433 [::1]:5433", 1, ("::1", 5433)),
                Endpoint("/run/db.sock /run/db.sock", 2, "/run/db.sock"),
            )
            assert not deciding.health.why_not_delivering()

    run(decide())


def test_a_name_is_not_waited_for_and_comes_with_all_its_addresses(server: NameServer) -> None:
    server.set("db.test", "A", "127.0.0.2", "127.0.0.3")

    async def decide() -> None:
        with Deciding(listener("db.test:5432"), server=server) as deciding:
            assert deciding.endpoints == ()
            assert deciding.health.why_not_delivering() == [f"{ID}: every upstream is out: db.test is being looked up"]
            await deciding.until_states(_2="up", _3="up")
            assert deciding.key(2) == "db.test:5432 127.0.0.2:5432"
            assert not deciding.health.why_not_delivering()

    run(decide())


def test_an_answer_that_changes_changes_the_plan_and_the_old_address_is_closed(server: NameServer) -> None:
    server.set("db.test", "A", "127.0.0.2")

    async def decide() -> None:
        with Deciding(listener("db.test:1"), server=server) as deciding:
            await deciding.until_states(_2="up")
            server.set("db.test", "A", "127.0.0.3")
            await deciding.until_states(_2="draining!", _3="up")
            # And back again before it has been forgotten.
            server.set("db.test", "A", "127.0.0.2", "127.0.0.3")
            await deciding.until_states(_2="up", _3="up")

    run(decide())


def test_close_removed_off_lets_connections_to_an_address_that_left_be(server: NameServer) -> None:
    server.set("db.test", "A", "127.0.0.2")

    async def decide() -> None:
        with Deciding(listener("db.test:1", close_removed=False), server=server) as deciding:
            await deciding.until_states(_2="up")
            server.set("db.test", "A", "127.0.0.3")
            await deciding.until_states(_2="draining", _3="up")

    run(decide())


def test_failures_eject_and_the_time_brings_back() -> None:
    eject = Eject(failures=2, time=Seconds(0.1), max_time=Seconds(0.1))

    async def decide() -> None:
        with Deciding(listener("127.0.0.2:1", "127.0.0.3:1", eject=eject)) as deciding:
            deciding.fail(deciding.key(2), 2)
            await deciding.until_states(_2="ejected", _3="up")
            await deciding.until_states(_2="up", _3="up")
            assert deciding.decider.counted()["ejections_total"][ID, "127.0.0.2:1"] == 1

    run(decide())


def test_a_success_between_failures_keeps_it_in_and_the_share_is_kept() -> None:
    eject = Eject(failures=2, time=Seconds(60), max_share=50)

    async def decide() -> None:
        with Deciding(listener("127.0.0.2:1", "127.0.0.3:1", eject=eject)) as deciding:
            two, three = deciding.key(2), deciding.key(3)
            deciding.fail(two)
            deciding.decider.outcome(Outcome(ID, two, True))
            deciding.fail(two)
            deciding.fail(three, 2)
            # The other one may not leave as well.
            deciding.fail(two, 5)
            await deciding.until_states(_2="up", _3="ejected")
            await asyncio.sleep(0)
            assert deciding.states == {"127.0.0.2": "up", "127.0.0.3": "ejected"}

    run(decide())


def test_a_shard_comes_back_only_when_it_answers_a_probe() -> None:
    eject = Eject(failures=1, time=Seconds(0.05), max_time=Seconds(0.05), max_share=100)

    async def decide() -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.2", 0))
            port = bound.getsockname()[1]
            with Deciding(listener(f"127.0.0.2:{port}", "127.0.0.3:1", redis=Redis(), eject=eject)) as deciding:
                deciding.fail(deciding.key(2))
                await deciding.until_states(_2="ejected", _3="up")
                async with asyncio.timeout(PATIENCE):
                    while "Connection refused; for" not in str(deciding.decider.shown()[0]["reason"]):
                        await asyncio.sleep(0.01)
                pings = 0

                async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    nonlocal pings
                    await reader.readuntil(b"PING\r\n")
                    pings += 1
                    writer.write(b"-LOADING soon\r\n" if pings < 3 else b"+PONG\r\n")
                    writer.close()

                shard = await asyncio.start_server(answer, sock=bound)
                await deciding.until_states(_2="up", _3="up")
                assert pings == 3
                assert deciding.decider.counted()["ejections_total"][ID, f"127.0.0.2:{port}"] == 1
                shard.close()

    run(decide())


def test_a_shard_has_one_address_which_stays_while_it_is_well(server: NameServer) -> None:
    server.set("a.test", "A", "127.0.0.3")
    eject = Eject(failures=1, time=Seconds(60), max_share=100)

    async def decide() -> None:
        with Deciding(listener("a.test:1", redis=Redis(), eject=eject), server=server) as deciding:
            await deciding.until_states(_3="up")
            with structlog.testing.capture_logs() as said:
                server.set("a.test", "A", "127.0.0.2", "127.0.0.3")
                async with asyncio.timeout(PATIENCE):
                    while not said:
                        await asyncio.sleep(0.01)
            assert [each["added"] for each in said] == [["127.0.0.2"]]
            assert deciding.states == {"127.0.0.3": "up"}
            deciding.fail(deciding.key(3))
            await deciding.until_states(_2="up")
            # With no better one, it is the shard that is out.
            deciding.fail(deciding.key(2))
            await deciding.until_states(_2="ejected")
            assert deciding.health.why_not_delivering()

    run(decide())


def test_checks_bring_down_and_up() -> None:
    async def decide() -> None:
        with socket.socket() as bound, socket.create_server(("127.0.0.3", 0)) as other:
            bound.bind(("127.0.0.2", 0))
            check = Check(tcp=TcpCheck(), interval=Seconds(0.1), timeout=Seconds(20))
            addresses = [f"{each[0]}:{each[1]}" for each in (bound.getsockname(), other.getsockname())]
            with Deciding(listener(*addresses, check=check)) as deciding:
                await deciding.until_states(_2="down!", _3="up")
                assert not deciding.health.why_not_delivering()
                bound.listen()
                await deciding.until_states(_2="up", _3="up")

    run(decide())


def test_health_says_why_no_upstream_is_up() -> None:
    async def decide() -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.2", 0))
            address = f"127.0.0.2:{bound.getsockname()[1]}"
            check = Check(tcp=TcpCheck(), timeout=Seconds(20))
            with Deciding(listener(address, check=check)) as deciding:
                await deciding.until_states(_2="down!")
                assert deciding.health.why_not_delivering() == [
                    f"{ID}: every upstream is out: {address} {address} is down (Connection refused)"
                ]
                deciding.decider.reload([])
                assert not deciding.health.why_not_delivering()

    run(decide())


def test_an_operator_drains_and_disables_upstreams_and_single_addresses(server: NameServer) -> None:
    server.set("db.test", "A", "127.0.0.2", "127.0.0.3")

    async def decide() -> None:
        with Deciding(listener("db.test:1"), server=server) as deciding:
            await deciding.until_states(_2="up", _3="up")
            deciding.decider.set_state(ID, "db.test:1", "draining")
            await deciding.until_states(_2="draining", _3="draining")
            deciding.decider.set_state(ID, deciding.key(2), "up")
            await deciding.until_states(_2="up", _3="draining")
            deciding.decider.set_state(ID, deciding.key(3), "disabled")
            await deciding.until_states(_2="up", _3="disabled!")
            deciding.decider.set_state(ID, "db.test:1", "up")
            await deciding.until_states(_2="up", _3="up")
            for route, which in ((ID, "nobody"), (":1", "db.test:1")):
                with pytest.raises(NoSuchUpstream):
                    deciding.decider.set_state(route, which, "up")

    run(decide())


def test_a_reload_keeps_what_is_known_of_what_stays() -> None:
    eject = Eject(failures=1, time=Seconds(60))

    async def decide() -> None:
        with Deciding(listener("127.0.0.2:1", "127.0.0.3:1", eject=eject)) as deciding:
            deciding.fail(deciding.key(2))
            deciding.decider.set_state(ID, "127.0.0.3:1", "draining")
            await deciding.until_states(_2="ejected", _3="draining")
            deciding.decider.reload([listener("127.0.0.4:1", "127.0.0.3:1", "127.0.0.2:1", eject=eject)])
            assert deciding.states == {"127.0.0.4": "up", "127.0.0.3": "draining", "127.0.0.2": "ejected"}
            assert [each.upstream for each in deciding.endpoints] == [0, 1, 2]
            deciding.decider.reload([listener("127.0.0.3:1")])
            assert deciding.states == {"127.0.0.3": "draining"}

    run(decide())


def test_rows_show_addresses_and_names_without_any(server: NameServer) -> None:
    async def decide() -> None:
        with Deciding(listener("127.0.0.2:1", "db.test:1"), server=server) as deciding:
            async with asyncio.timeout(PATIENCE):
                while "no such name" not in str(deciding.decider.shown()[1]["reason"]):
                    await asyncio.sleep(0.01)
            one, other = deciding.decider.shown()
            assert (one["endpoint"], one["state"]) == ("127.0.0.2:1 127.0.0.2:1", "up")
            assert (other["upstream"], other["state"]) == ("db.test:1", "unresolved")
            assert deciding.decider.counted()["upstream_up"] == {(ID, "127.0.0.2:1"): 1, (ID, "db.test:1"): 0}

    run(decide())
