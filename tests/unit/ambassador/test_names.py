from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import structlog.testing

from sidecars.ambassador.names import Found, Name, Place, place, usable
from sidecars.core.resolve import Resolver
from tests.servers.name_server import NameServer


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer() as server:
        yield server


def resolving(server: NameServer, text: str, work: Callable[[Name], Coroutine[Any, Any, None]]) -> list[str]:
    """Do something with a name, which is looked for only when that says so; how often it changed, and what was said."""
    changes: list[int] = []

    async def run() -> None:
        # Absolute names, and a TTL of 0: nothing else is asked, and nothing remembered.
        resolver = Resolver([server.address], config="/dev/null", hosts="/dev/null")
        await work(Name(text, resolver, lambda: changes.append(1), lambda _, b: b))

    with structlog.testing.capture_logs() as said:
        asyncio.run(run())
    events = [each["event"] for each in said]
    assert len(events) == len(changes)
    return events


def ips(name: Name) -> list[str]:
    return sorted(each.ip for each in name.found)


def test_what_changes_is_told_and_what_only_turns_is_not(server: NameServer) -> None:
    async def work(name: Name) -> None:
        server.set("db", "A", "10.0.0.1", "10.0.0.2", ttl=0)
        await name.look()
        first = name.found
        server.set("db", "A", "10.0.0.2", "10.0.0.1", ttl=0)
        await name.look()
        assert name.found == first
        server.set("db", "A", "10.0.0.2", "10.0.0.3", ttl=0)
        await name.look()
        assert ips(name) == ["10.0.0.2", "10.0.0.3"]

    assert resolving(server, "db", work) == ["name resolved"] * 2


@pytest.mark.parametrize("trouble", ["nxdomain", "noerror", "servfail"])
def test_the_last_good_answer_is_kept_and_the_failure_said_once(server: NameServer, trouble: str) -> None:
    async def work(name: Name) -> None:
        server.set("db", "A", "10.0.0.1", "10.0.0.2", ttl=0)
        await name.look()
        found = name.found
        server.trouble["db"] = trouble
        for _ in range(3):
            await name.look()
        assert name.found == found
        assert name.failures == 3
        assert name.trouble
        del server.trouble["db"]
        server.set("db", "A", "10.0.0.2", "10.0.0.1", ttl=0)
        await name.look()
        assert (name.trouble, name.found) == (None, found)

    assert resolving(server, "db", work) == ["name resolved", "name does not resolve", "name resolved"]


def test_the_ttl_says_when_to_look_again_within_bounds_and_failures_wait_longer_and_longer(server: NameServer) -> None:
    async def work(name: Name) -> None:
        for ttl, pause in ((0, 1), (30, 30), (86400, 300)):
            name.text = f"{'x' * (ttl % 7 + 1)}.test"
            server.set(name.text, "A", "10.0.0.1", ttl=ttl)
            assert await name.look() == pause
        server.trouble[""] = "servfail"
        name.text = "db"
        assert [await name.look() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]

    resolving(server, "db", work)


def test_a_family_that_fails_keeps_its_addresses_until_it_says_that_there_are_none(server: NameServer) -> None:
    async def work(name: Name) -> None:
        server.set("db", "A", "127.0.0.2", ttl=0)
        server.set("db", "AAAA", "::1", ttl=0)
        await name.look()
        server.fails["db", "AAAA"] = "servfail"
        server.set("db", "A", "127.0.0.3", ttl=0)
        await name.look()
        assert ips(name) == ["127.0.0.3", "::1"]
        server.fails["db", "AAAA"] = "noerror"
        await name.look()
        assert ips(name) == ["127.0.0.3"]

    resolving(server, "db", work)


def test_srv_gives_ports_and_shares_of_the_first_priority_that_has_any(server: NameServer) -> None:
    async def work(name: Name) -> None:
        server.set(
            "_db._tcp", "SRV", "0 20 5001 a.test", "0 40 5002 b.test", "0 0 5003 10.0.0.9", "9 1 5004 c.test", ttl=0
        )
        server.set("a.test", "A", "10.0.0.1", "10.0.0.2", ttl=0)
        server.set("b.test", "A", "10.0.0.3", ttl=0)
        server.set("c.test", "A", "10.0.0.4", ttl=0)
        await name.look()
        assert sorted(name.found) == [
            ("10.0.0.1", 5001, 1, "a.test"), ("10.0.0.2", 5001, 1, "a.test"), ("10.0.0.3", 5002, 2, "b.test"),
            ("10.0.0.9", 5003, 1, "10.0.0.9"),
        ]  # fmt: skip
        # A target whose own name fails stays; one that the answer has no more does not.
        server.trouble["a.test"] = "servfail"
        server.set("_db._tcp", "SRV", "0 1 5001 a.test", "9 1 5004 c.test", ttl=0)
        await name.look()
        assert ips(name) == ["10.0.0.1", "10.0.0.2"]
        server.set("_db._tcp", "SRV", "0 1 5005 nobody.test", "9 1 5004 c.test", ttl=0)
        await name.look()
        assert ips(name) == ["10.0.0.4"]

    resolving(server, "srv://_db._tcp", work)


def test_srv_targets_that_do_not_resolve_are_the_reason(server: NameServer) -> None:
    async def work(name: Name) -> None:
        server.set("_db._tcp", "SRV", "0 1 5001 a.test", ttl=0)
        await name.look()
        assert str(name.trouble).startswith("a.test.: no such name")

    assert resolving(server, "srv://_db._tcp", work) == ["name does not resolve"]


@pytest.mark.parametrize(
    ("address", "expected", "name"),
    [
        ("db:5432", Place("db", 5432), "db"),
        ("db.shop.:5432", Place("db.shop.", 5432), "db.shop."),
        ("10.0.0.7:5432", Place("10.0.0.7", 5432), None),
        ("[2001:db8::1]:5432", Place("2001:db8::1", 5432), None),
        ("srv://_redis._tcp.cache", Place("_redis._tcp.cache"), "srv://_redis._tcp.cache"),
        ("/run/db.sock", Place(path="/run/db.sock"), None),
    ],
)
def test_an_address_says_what_is_to_be_resolved(address: str, expected: Place, name: str | None) -> None:
    assert place(address) == expected
    assert place(address).name == name


@pytest.mark.parametrize("address", ["", "db", ":5432", "db:0", "srv://", "srv://a:1", "db:99999"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=rf"^{address}$"):
        place(address)


def test_one_family_alone_is_never_left_out() -> None:
    # 240.0.0.0/4 is reserved, and has no route.
    assert usable([Found("240.0.0.1")]) == [Found("240.0.0.1")]
    assert usable([Found("127.0.0.1"), Found("127.0.0.2")]) == [Found("127.0.0.1"), Found("127.0.0.2")]
