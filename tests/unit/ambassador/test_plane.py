"""What a plan makes of connections: clients and upstreams are real sockets, on the plane's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any

import pytest

from sidecars.ambassador.listening import open_sockets
from sidecars.ambassador.loop import Loop
from sidecars.ambassador.plan import Endpoint, Outcome, Plan, Route
from sidecars.ambassador.plane import Plane
from sidecars.ambassador.settings import Listener, Upstream
from sidecars.core.units import Seconds
from tests.unit.core.running import free_port

PATIENCE = 20.0


class Records:
    """The access log, as a list."""

    def __init__(self) -> None:
        self.all: list[Mapping[str, Any]] = []

    def write(self, record: Mapping[str, Any]) -> None:
        self.all.append(record)

    @property
    def reasons(self) -> list[str]:
        return [record["reason"] for record in self.all]


class Rig:
    """A plane with one listener; upstreams a, b, ... say their name to whom they accept, and then echo."""

    def __init__(self, **settings: Any) -> None:
        self.told: list[Outcome] = []
        self.access = Records()
        self.loop = asyncio.get_running_loop()
        assert isinstance(self.loop, Loop)
        self.plane = Plane(self.loop, self.told.append, access=self.access)  # type: ignore[arg-type]
        upstreams = tuple(Upstream(address=f"{name}:1") for name in "abc")
        self.listener = Listener(listen=":0", upstreams=upstreams, **settings)
        self.sockets = open_sockets(self.listener, 1)
        self.port = self.sockets[0].getsockname()[1]
        self.servers: dict[str, asyncio.Server] = {}
        self.ports: dict[str, int] = {}

    async def serve(self, name: str) -> None:
        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                writer.write(name.encode())
                while data := await reader.read(1000):
                    writer.write(data)
            writer.close()

        self.servers[name] = await asyncio.start_server(one, "127.0.0.1", self.ports.get(name, 0))
        self.ports[name] = self.servers[name].sockets[0].getsockname()[1]

    def endpoint(self, name: str, state: Any = "up", **settings: Any) -> Endpoint:
        port = self.ports.get(name) or self.ports.setdefault(name, free_port())
        return Endpoint(name, "abc".index(name), ("127.0.0.1", port), state=state, **settings)

    def apply(self, *endpoints: Endpoint) -> None:
        route = Route(self.listener, endpoints)
        self.plane.apply(Plan((route,)), {route.id: self.sockets})

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def name(self) -> str:
        """Which upstream a new connection gets to; nothing if it is closed."""
        async with self.client() as (reader, _):
            return (await reader.read(1)).decode()

    async def until_idle(self) -> None:
        while self.plane.connections():
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        self.plane.close()
        for server in self.servers.values():
            server.close()
        for sock in self.sockets:
            sock.close()
        await asyncio.sleep(0.02)


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test on a loop of our own."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(asyncio.wait_for(test, PATIENCE))


@contextlib.asynccontextmanager
async def rig(*served: str, **settings: Any) -> AsyncIterator[Rig]:
    made = Rig(**settings)
    for name in served:
        await made.serve(name)
    try:
        yield made
    finally:
        await made.close()


@pytest.mark.parametrize(
    ("states", "allowed"),
    [
        ({"a": "up", "b": "up"}, {"a", "b"}),
        ({"a": "up", "b": "down"}, {"a"}),
        ({"a": "up", "b": "ejected"}, {"a"}),
        ({"a": "draining", "b": "up"}, {"b"}),
        ({"a": "disabled", "b": "up"}, {"b"}),
        ({"a": "down", "b": "ejected"}, {"a", "b"}),
        ({"a": "down", "b": "draining"}, {"a"}),
        ({"a": "draining", "b": "disabled"}, {""}),
        ({}, {""}),
    ],
)
def test_who_gets_connections(states, allowed):
    async def test() -> None:
        async with rig("a", "b") as plane:
            plane.apply(plane.endpoint("a"))
            plane.apply(*[plane.endpoint(name, state) for name, state in states.items()])
            assert {await plane.name() for _ in range(4)} == allowed
            if allowed == {""}:
                assert set(plane.access.reasons) == {"no_upstream"}

    run(test())


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        ({"state": "draining", "close": True}, "removed"),
        ({"state": "down", "close": True}, "removed"),
        ({"state": "disabled"}, "operator"),
        ({"state": "draining"}, None),
        ({"state": "down"}, None),
        ({"state": "ejected"}, None),
        (None, None),
    ],
)
def test_what_becomes_of_a_connection_when_its_endpoint_changes(after, reason):
    async def test() -> None:
        async with rig("a", "b") as plane:
            plane.apply(plane.endpoint("a"))
            async with plane.client() as (reader, writer):
                assert await reader.read(1) == b"a"
                plane.apply(*([plane.endpoint("a", **after)] if after else []), plane.endpoint("b"))
                if reason is None:
                    writer.write(b"x")
                    assert await reader.read(1) == b"x"
                else:
                    assert await reader.read(1) == b""
                    assert plane.access.reasons == [reason]
            await plane.until_idle()

    run(test())


def test_a_plan_that_was_applied_before_changes_nothing():
    async def test() -> None:
        async with rig("a") as plane:
            plane.apply(plane.endpoint("a"))
            async with plane.client() as (reader, writer):
                for _ in range(3):
                    plane.apply(plane.endpoint("a"))
                    writer.write(b"x")
                    assert await reader.read(2)
            await plane.until_idle()
            assert plane.plane.counted()["connections_total"] == {(":0",): 1}

    run(test())


def test_each_failure_is_told_and_the_first_success_after_one():
    async def test() -> None:
        async with rig() as plane:
            plane.apply(plane.endpoint("a"))
            assert [await plane.name(), await plane.name()] == ["", ""]
            await plane.serve("a")
            assert [await plane.name(), await plane.name()] == ["a", "a"]
            failure = Outcome(":0", "a", False, "refused", "Connection refused")
            assert plane.told == [failure, failure, Outcome(":0", "a", True)]

    run(test())


def test_another_is_tried_and_each_but_once():
    async def test() -> None:
        async with rig("c", retries=5) as plane:
            plane.apply(plane.endpoint("a"), plane.endpoint("b"))
            assert await plane.name() == ""
            assert sorted(outcome.endpoint for outcome in plane.told) == ["a", "b"]
            plane.apply(plane.endpoint("a"), plane.endpoint("b"), plane.endpoint("c"))
            assert {await plane.name() for _ in range(6)} == {"c"}

    run(test())


def test_retries_are_as_many_as_allowed():
    async def test() -> None:
        async with rig(retries=1) as plane:
            plane.apply(*[plane.endpoint(name) for name in "abc"])
            assert await plane.name() == ""
            assert len(plane.told) == 2
            assert [(each["reason"], each["retries"]) for each in plane.access.all] == [("connect_failed", 1)]

    run(test())


def test_a_connection_outlives_its_route_which_may_come_back():
    async def test() -> None:
        async with rig("a") as plane:
            plane.apply(plane.endpoint("a"))
            async with plane.client() as (reader, writer):
                assert await reader.read(1) == b"a"
                plane.plane.apply(Plan(), {})
                async with plane.client() as (waiting, _):  # the kernel accepts it; the plane does not
                    writer.write(b"x")
                    assert await reader.read(1) == b"x"
                    assert plane.plane.connections() == 1
                    plane.apply(plane.endpoint("a"))
                    assert await waiting.read(1) == b"a"
                    assert plane.plane.connections() == 2
            await plane.until_idle()
            assert plane.plane.counted()["connections_total"] == {(":0",): 2}

    run(test())


def test_who_comes_before_the_first_answer_to_a_name_waits_for_it():
    async def test() -> None:
        async with rig("a", queue_timeout=Seconds(20)) as plane:
            plane.apply()
            async with plane.client() as (reader, _):
                while not plane.plane.connections():
                    await asyncio.sleep(0.005)
                plane.apply(plane.endpoint("a"))
                assert await reader.read(1) == b"a"
            await plane.until_idle()

    run(test())


def test_who_waits_in_vain_for_the_first_answer_to_a_name_is_let_go():
    async def test() -> None:
        async with rig("a", queue_timeout=Seconds(0.1)) as plane:
            plane.apply()
            assert await plane.name() == ""
            assert plane.access.reasons == ["no_upstream"]

    run(test())


def test_whom_the_kernel_has_let_in_before_a_listener_closes_is_served():
    async def test() -> None:
        async with rig("a") as plane:
            plane.apply(plane.endpoint("a"))
            # The loop does not turn meanwhile.
            clients = [socket.create_connection(("127.0.0.1", plane.port)) for _ in range(100)]
            plane.plane.drain(close_listeners=True)
            for each in plane.sockets:
                each.close()
            assert plane.plane.connections() == 100
            for client in clients:
                reader, writer = await asyncio.open_connection(sock=client)
                assert await reader.read(1) == b"a"
                writer.close()
            await plane.until_idle()

    run(test())


def test_one_that_is_being_dialled_is_given_up_for_another_when_it_is_removed():
    async def test() -> None:
        full = socket.create_server(("127.0.0.1", 0), backlog=0)
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        async with rig("b") as plane:
            plane.ports["a"] = full.getsockname()[1]
            plane.apply(plane.endpoint("a"))
            async with plane.client() as (reader, _):
                while not plane.plane.connections():
                    await asyncio.sleep(0.005)
                plane.apply(plane.endpoint("a", "draining", close=True), plane.endpoint("b"))
                assert await reader.read(1) == b"b"
            await plane.until_idle()
            assert plane.told == []
        for each in (full, *waiting):
            each.close()

    run(test())


def test_the_rate_is_kept_and_who_waits_is_let_in():
    async def test() -> None:
        async with rig("a", rate=50.0, burst=2) as plane:
            plane.apply(plane.endpoint("a"))
            began = plane.loop.time()
            assert set(await asyncio.gather(*[plane.name() for _ in range(12)])) == {"a"}
            assert plane.loop.time() - began >= 0.19

    run(test())


def test_rows_for_the_status_page():
    async def test() -> None:
        async with rig("a") as plane:
            plane.apply(plane.endpoint("a"))
            async with plane.client() as (reader, writer):
                assert await reader.read(1) == b"a"
                host, port = writer.get_extra_info("sockname")
                (row,) = plane.plane.shown()
                assert row.pop("age_seconds") >= 0
                upstream = {"upstream": "a:1", "address": f"127.0.0.1:{plane.ports['a']}"}
                assert row == {"listener": ":0", "client": f"{host}:{port}", **upstream, "bytes": 1}

    run(test())


def test_close_ends_all_at_once():
    async def test() -> None:
        async with rig("a") as plane:
            plane.apply(plane.endpoint("a"))
            async with plane.client() as (reader, _):
                assert await reader.read(1) == b"a"
                plane.plane.close()
                assert await reader.read(1) == b""
                assert plane.plane.connections() == 0
                assert plane.access.reasons == ["drained"]

    run(test())


def test_what_is_counted():
    async def test() -> None:
        async with rig("b") as plane:
            plane.apply(plane.endpoint("a"), plane.endpoint("b"))
            async with plane.client() as (reader, writer):
                assert await reader.read(1) == b"b"
                writer.write(b"xyz")
                assert await reader.readexactly(3) == b"xyz"
                counted = plane.plane.counted()
                assert counted["connections"] == {(":0",): 1}
                assert counted["upstream_connections"] == {(":0", "a:1"): 0, (":0", "b:1"): 1}
                assert counted["received_bytes_total"] == {(":0",): 3}
                assert counted["sent_bytes_total"] == {(":0",): 4}
            await plane.until_idle()
            counted = plane.plane.counted()
            assert counted["connections"] == {(":0",): 0}
            assert counted["ended_total"] == {(":0", "client"): 1}
            assert counted["received_bytes_total"] == {(":0",): 3}
            assert counted["upstream_connections_total"] == {(":0", "b:1"): 1}
            assert counted["upstream_failures_total"] == {(":0", "a:1", "refused"): 1}
            assert counted["retries_total"] == {(":0",): 1}
            histogram = counted["upstream_connect_seconds"][(":0",)]
            assert isinstance(histogram, list)
            assert (sum(histogram[:-1]), 0 < histogram[-1] < 20) == (1, True)

    run(test())
