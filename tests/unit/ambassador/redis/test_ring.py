"""Keys are where twemproxy has them, by what its own program has answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.ambassador.redis.hashes import HASHES
from sidecars.ambassador.redis.ring import Node, Ring, node_name, points
from sidecars.ambassador.settings import Upstream

VECTORS = json.loads((Path(__file__).parents[3] / "samples" / "ketama.json").read_text())["configs"]

FOUR = [Node(b"127.0.0.1:%d" % port) for port in range(27100, 27104)]


def node(server: str) -> Node:
    """A server as nutcracker's YAML has it: host:port:weight [name]."""
    text, _, name = server.partition(" ")
    address, _, weight = text.rpartition(":")
    return Node(node_name(Upstream(address=address, name=name or None)), int(weight))


@pytest.mark.parametrize("config", VECTORS, ids=lambda config: config["id"])
def test_each_key_is_on_the_shard_that_twemproxy_has_it_on(config: dict[str, Any]) -> None:
    nodes = [node(server) for server in config["servers"]]
    live = [index not in config["ejected"] for index in range(len(nodes))]
    tag = config["hash_tag"].encode() if config["hash_tag"] else None
    shard = Ring(nodes, config["hash"], config["distribution"], tag, live).shard
    found = {key["hex"]: shard(bytes.fromhex(key["hex"])) for key in config["keys"]}
    assert found == {key["hex"]: key["server"] for key in config["keys"]}


@pytest.mark.parametrize(
    "upstream, name",
    [
        (Upstream(address="10.0.0.7:6379"), b"10.0.0.7:6379"),
        (Upstream(address="10.0.0.7:06379"), b"10.0.0.7:06379"),
        (Upstream(address="10.0.0.7:6379", name="shard-a"), b"shard-a"),
        (Upstream(address="cache:11211"), b"cache"),
        (Upstream(address="cache:11211", name="cache:11211"), b"cache:11211"),
        (Upstream(address="[::1]:6379"), b"::1:6379"),
        (Upstream(address="[::1]:11211"), b"::1"),
        (Upstream(address="/run/redis.sock"), b"/run/redis.sock:"),
    ],
)
def test_a_node_is_called_as_twemproxy_calls_it(upstream: Upstream, name: bytes) -> None:
    assert node_name(upstream) == name


@pytest.mark.parametrize("distribution", ["ketama", "modula", "random"])
def test_a_pool_without_a_live_server_has_no_shard(distribution: str) -> None:
    assert Ring(FOUR, "md5", distribution, None, [False] * 4).shard(b"key") == -1


def test_servers_are_taken_in_the_order_of_their_names_the_short_ones_first() -> None:
    nodes = [Node(b"b:2"), Node(b"long:1"), Node(b"a:3")]
    shard = Ring(nodes, "crc32a", "modula", None, [True] * 3).shard
    in_order = Ring([nodes[2], nodes[0], nodes[1]], "crc32a", "modula", None, [True] * 3).shard
    keys = [b"%d" % number for number in range(50)]
    assert [nodes[shard(key)] for key in keys] == [[nodes[2], nodes[0], nodes[1]][in_order(key)] for key in keys]
    assert shard(b"") == 2


def test_a_weight_that_is_very_small_has_no_points() -> None:
    assert {owner for _, owner in points([Node(b"a", 1), Node(b"b", 1000)], [0, 1])} == {1}


@given(key=st.binary(max_size=300), name=st.sampled_from(sorted(HASHES)))
def test_a_hash_has_32_bits(key: bytes, name: str) -> None:
    assert 0 <= HASHES[name](key) < 2**32


@given(
    key=st.binary(max_size=60),
    live=st.lists(st.booleans(), min_size=4, max_size=4).filter(any),
    name=st.sampled_from(sorted(HASHES)),
    distribution=st.sampled_from(["ketama", "modula", "random"]),
    tag=st.sampled_from([None, b"{}", b"$$"]),
)
def test_a_key_is_always_on_a_live_shard(
    key: bytes, live: list[bool], name: str, distribution: str, tag: bytes | None
) -> None:
    assert live[Ring(FOUR, name, distribution, tag, live).shard(key)]


@given(part=st.binary(min_size=1, max_size=20), before=st.binary(max_size=20), after=st.binary(max_size=20))
def test_keys_with_one_hash_tag_are_on_one_shard(part: bytes, before: bytes, after: bytes) -> None:
    part, before = part.replace(b"}", b"_"), before.replace(b"{", b"_")
    shard = Ring(FOUR, "murmur", "ketama", b"{}", [True] * 4).shard
    assert shard(before + b"{" + part + b"}" + after) == Ring(FOUR, "murmur", "ketama", None, [True] * 4).shard(part)
