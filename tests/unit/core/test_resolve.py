from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import run

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.core.resolvconf import Hosts, Search, family, is_address, parse_hosts, parse_search
from sidecars.core.resolve import ADDRESSES, Answer, Resolver, Target, Type, Unresolved
from tests.servers.name_server import NameServer

KUBERNETES = """\
search shop.svc.cluster.local svc.cluster.local cluster.local eu-west-1.compute.internal corp.example example
nameserver 10.96.0.10
options ndots:5
"""


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer() as server:
        yield server


def lookup(
    server: NameServer, tmp_path: Path, name: str, types: tuple[Type, ...] = ADDRESSES, hosts: str = ""
) -> Answer:
    silent = "silent" in server.trouble.values()
    (tmp_path / "resolv.conf").write_text(KUBERNETES)
    (tmp_path / "hosts").write_text(hosts)
    resolver = Resolver(
        [server.address],
        config=str(tmp_path / "resolv.conf"),
        hosts=str(tmp_path / "hosts"),
        timeout=0.25 if silent else 60.0,
        tries=1,
    )
    return asyncio.run(asyncio.wait_for(resolver.lookup(name, types), 30))


def reason(server: NameServer, tmp_path: Path, name: str, types: tuple[Type, ...] = ADDRESSES) -> str:
    with pytest.raises(Unresolved) as caught:
        lookup(server, tmp_path, name, types)
    return caught.value.reason


def test_both_families_are_one_answer_with_the_shortest_ttl(server: NameServer, tmp_path: Path) -> None:
    server.set("db.test", "AAAA", "2001:db8::1", ttl=30)
    server.set("db.test", "A", "10.0.0.2", "10.0.0.1", ttl=60)
    answer = lookup(server, tmp_path, "db.test.")
    assert sorted(answer.addresses[:2]) == ["10.0.0.1", "10.0.0.2"] and answer.addresses[2] == "2001:db8::1"
    assert (answer.ttl, answer.complete, answer.names_tried) == (30, True, ("db.test.",))


def test_a_short_name_is_found_by_the_search_path_of_a_pod(server: NameServer, tmp_path: Path) -> None:
    server.set("redis.cache.svc.cluster.local", "A", "10.0.0.7")
    answer = lookup(server, tmp_path, "redis.cache")
    assert answer.addresses == ("10.0.0.7",)
    assert answer.names_tried == ("redis.cache.shop.svc.cluster.local.", "redis.cache.svc.cluster.local.")


def test_a_name_outside_comes_after_the_whole_path_and_an_absolute_one_alone(
    server: NameServer, tmp_path: Path
) -> None:
    server.set("db.example.org", "A", "192.0.2.1")
    assert len(lookup(server, tmp_path, "db.example.org").names_tried) == 7
    assert lookup(server, tmp_path, "db.example.org.").names_tried == ("db.example.org.",)


def test_srv_gives_targets_by_priority_and_goes_the_search_path_too(server: NameServer, tmp_path: Path) -> None:
    name = "_redis._tcp.cache"
    server.set(f"{name}.shop.svc.cluster.local", "SRV", "10 1 6380 b.test", "0 33 6379 a.test", ttl=7)
    answer = lookup(server, tmp_path, name, ("SRV",))
    assert answer.targets == (Target("a.test", 6379, 0, 33), Target("b.test", 6380, 10, 1))
    assert answer.ttl == 7


def test_an_srv_target_of_a_dot_is_no_target(server: NameServer, tmp_path: Path) -> None:
    server.set("_x._tcp.test", "SRV", "0 0 0 .")
    assert reason(server, tmp_path, "_x._tcp.test.", ("SRV",)) == "no record"


def test_an_answer_too_large_for_a_datagram_comes_over_tcp(server: NameServer, tmp_path: Path) -> None:
    addresses = [f"10.1.{number // 250}.{number % 250}" for number in range(300)]
    server.set("headless.test", "A", *addresses)
    assert sorted(lookup(server, tmp_path, "headless.test.").addresses) == sorted(addresses)
    assert ("headless.test", "A", "tcp") in server.asked


def test_the_ttl_of_an_alias_counts_too(server: NameServer, tmp_path: Path) -> None:
    server.set("db.test", "CNAME", "db-1.test", ttl=5)
    server.set("db-1.test", "A", "10.0.0.1", ttl=600)
    answer = lookup(server, tmp_path, "db.test.", ("A",))
    assert (answer.addresses, answer.ttl) == (("10.0.0.1",), 5)


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        ("nxdomain", "no such name"), ("noerror", "no record"), ("servfail", "server failed"),
        ("refused", "server failed"), ("silent", "no answer"),
    ],
)  # fmt: skip
def test_a_failure_says_what_kind_it_is(server: NameServer, tmp_path: Path, trouble: str, expected: str) -> None:
    server.trouble["db.test"] = trouble
    assert reason(server, tmp_path, "db.test.") == expected


def test_a_name_that_no_server_can_be_asked_for_says_so(server: NameServer, tmp_path: Path) -> None:
    assert reason(server, tmp_path, f"{'x' * 64}.") == "not a name"
    assert not server.asked


def test_a_failure_says_which_names_were_asked_for(server: NameServer, tmp_path: Path) -> None:
    with pytest.raises(Unresolved) as caught:
        lookup(server, tmp_path, "redis")
    assert caught.value.names_tried[0] == "redis.shop.svc.cluster.local." and caught.value.names_tried[-1] == "redis."
    assert len(caught.value.names_tried) == 7
    assert str(caught.value).startswith("redis: no such name (asked for redis.shop.svc.cluster.local., ")


def test_a_server_that_fails_for_one_domain_of_the_path_is_asked_for_the_next(
    server: NameServer, tmp_path: Path
) -> None:
    server.trouble["db.shop.svc.cluster.local"] = "servfail"
    server.set("db.svc.cluster.local", "A", "10.0.0.1")
    assert lookup(server, tmp_path, "db").addresses == ("10.0.0.1",)
    # Nor is the name taken for one that does not exist.
    server.remove("db.svc.cluster.local")
    assert reason(server, tmp_path, "db") == "server failed"


def test_a_server_that_says_nothing_is_not_asked_for_the_whole_path(server: NameServer, tmp_path: Path) -> None:
    server.trouble[""] = "silent"
    assert reason(server, tmp_path, "db") == "no answer"
    assert {name for name, _, _ in server.asked} == {"db.shop.svc.cluster.local"}


def test_one_family_that_fails_leaves_the_other_and_says_that_something_is_missing(
    server: NameServer, tmp_path: Path
) -> None:
    server.set("db.test", "A", "10.0.0.1")
    server.fails["db.test", "AAAA"] = "servfail"
    answer = lookup(server, tmp_path, "db.test.")
    assert (answer.addresses, answer.complete) == (("10.0.0.1",), False)


def test_one_family_that_is_not_answered_does_not_hold_up_the_other(server: NameServer, tmp_path: Path) -> None:
    server.set("db.test", "A", "10.0.0.1")
    server.fails["db.test", "AAAA"] = "silent"
    answer = lookup(server, tmp_path, "db.test.")
    assert (answer.addresses, answer.complete) == (("10.0.0.1",), False)


def test_an_address_and_the_hosts_file_need_no_server(server: NameServer, tmp_path: Path) -> None:
    hosts = "10.0.0.5 db db.shop # ours\n2001:db8::5 db\n"
    assert lookup(server, tmp_path, "10.0.0.9").addresses == ("10.0.0.9",)
    assert lookup(server, tmp_path, "2001:db8::9").addresses == ("2001:db8::9",)
    assert lookup(server, tmp_path, "DB", hosts=hosts).addresses == ("10.0.0.5", "2001:db8::5")
    assert lookup(server, tmp_path, "db", ("AAAA",), hosts=hosts).addresses == ("2001:db8::5",)
    assert lookup(server, tmp_path, "localhost").addresses == ("127.0.0.1", "::1")
    assert lookup(server, tmp_path, "localhost", hosts="127.0.0.1 localhost").addresses == ("127.0.0.1",)
    assert not server.asked


def test_aiodns_is_imported_for_names_only() -> None:
    program = """
import asyncio, sys
from sidecars.core.resolve import Resolver
asyncio.run(Resolver().lookup("10.0.0.1"))
print(sorted({"aiodns", "pycares"} & sys.modules.keys()))
"""
    assert run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Search()),
        ("search a.example b.example.\n", Search(("a.example", "b.example"))),
        ("search a\nsearch b\ndomain c\n", Search(("c",))),
        ("options ndots:2 timeout:1\noptions ndots:5", Search(dots=5)),
        ("options ndots:99", Search(dots=15)),
        ("options ndots:x ndots:", Search()),
        ("options ndots:0", Search(dots=0)),
        ("# search no\n; options ndots:9\nnameserver 10.0.0.1", Search()),
        ("search", Search()),
    ],
)
def test_resolv_conf(text: str, expected: Search) -> None:
    assert parse_search(text) == expected


@pytest.mark.parametrize(
    ("search", "name", "names"),
    [
        (Search(), "db", ("db.",)),
        (Search(("a", "b")), "db.", ("db.",)),
        (Search(("a", "b")), "db", ("db.a.", "db.b.", "db.")),
        (Search(("a",), 1), "db.x", ("db.x.", "db.x.a.")),
        (Search(("a",), 2), "db.x", ("db.x.a.", "db.x.")),
        (Search(("",), 1), "db", ("db.",)),
    ],
)
def test_a_name_is_completed_as_the_system_does_it(search: Search, name: str, names: tuple[str, ...]) -> None:
    assert search.names(name) == names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1 localhost\n::1\tLocalHost ip6.\n", {"localhost": ("127.0.0.1", "::1"), "ip6": ("::1",)}),
        ("# 10.0.0.1 no\n10.0.0.2 # no\n\nnonsense db\n", {}),
        ("10.0.0.1 db\n10.0.0.1 db db\n", {"db": ("10.0.0.1",)}),
    ],
)
def test_the_hosts_file(text: str, expected: Hosts) -> None:
    assert parse_hosts(text) == expected


@given(st.text())
def test_no_text_of_a_file_is_too_strange(text: str) -> None:
    search = parse_search(text)
    assert all(name.endswith(".") for name in search.names("db.x"))
    assert all(is_address(address) for addresses in parse_hosts(text).values() for address in addresses)


@pytest.mark.parametrize("text", ["10.0.0.1", "::", "fe80::1%eth0", "2001:db8::1", "::ffff:10.0.0.1"])
def test_addresses_are_told_from_names(text: str) -> None:
    assert is_address(text)
    assert family(text) is not None


@pytest.mark.parametrize("text", ["", "db", "10.0.0", "1", "10.0.0.256", "fe80::g", "10.0.0.1%eth0", "a\0b", "0x7f.1"])
def test_names_are_told_from_addresses(text: str) -> None:
    assert not is_address(text)
