"""Which upstream a connection goes to."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.ambassador.balance import choose, seed


class Member:
    def __init__(self, key: str, weight: int = 1, active: int = 0) -> None:
        self.key, self.weight, self.active = key, weight, active
        self.turn = 0.0
        self.seed = seed(key)


def members(**weights: int) -> list[Member]:
    return [Member(key, weight) for key, weight in weights.items()]


@pytest.mark.parametrize(
    ("weights", "order"),
    [
        ({"a": 1}, "aaa"),
        ({"a": 1, "b": 1}, "abab"),
        ({"a": 5, "b": 1, "c": 1}, "aabacaaaabacaa"),
        ({"a": 2, "b": 1}, "abaaba"),
        ({"a": 0, "b": 1}, "bbb"),
        ({"a": 0, "b": 0}, "abab"),
    ],
)
def test_round_robin_takes_turns_by_weight_evenly_mixed(weights, order):
    all_of_them = members(**weights)
    assert "".join(choose("round-robin", all_of_them, "").key for _ in order) == order


def test_round_robin_is_fair_when_one_goes_and_comes_back():
    a, b, c = members(a=1, b=1, c=1)
    for _ in range(100):
        choose("round-robin", [a, b], "")
    counts = Counter(choose("round-robin", [a, b, c], "").key for _ in range(30))
    assert counts == {"a": 10, "b": 10, "c": 10}


@pytest.mark.parametrize(
    ("loads", "chosen"),
    [
        ([(1, 3), (1, 1), (1, 2)], "b"),
        ([(4, 4), (1, 1)], "a"),
        ([(4, 8), (1, 0)], "b"),
    ],
)
def test_least_connections_counts_by_weight(loads, chosen):
    all_of_them = [Member("abc"[number], *load) for number, load in enumerate(loads)]
    assert choose("least-connections", all_of_them, "").key == chosen


def test_least_connections_takes_turns_among_equals():
    all_of_them = members(a=1, b=1, c=1)
    assert {choose("least-connections", all_of_them, "").key for _ in range(3)} == {"a", "b", "c"}


@given(st.text(), st.lists(st.text(min_size=1), min_size=2, max_size=8, unique=True))
def test_a_source_stays_where_it_is_unless_that_one_goes(source, keys):
    all_of_them = [Member(key) for key in keys]
    chosen = choose("source-hash", all_of_them, source)
    for member in all_of_them:
        if member is not chosen and len(all_of_them) > 2:
            assert choose("source-hash", [each for each in all_of_them if each is not member], source) is chosen


def test_sources_are_spread_by_weight():
    all_of_them = members(a=3, b=1)
    counts = Counter(choose("source-hash", all_of_them, f"10.0.{n // 250}.{n % 250}").key for n in range(4000))
    assert 2800 < counts["a"] < 3200


def test_a_source_goes_to_the_same_one_in_every_process_and_version():
    all_of_them = members(**{"db-0:5432": 1, "db-1:5432": 1, "db-2:5432": 1})
    sources = [f"10.0.0.{number}" for number in range(12)]
    assert "".join(choose("source-hash", all_of_them, source).key[3] for source in sources) == "220010202202"


def test_random_two_avoids_the_busy_one():
    a, b = Member("a", active=100), Member("b", active=0)
    counts = Counter(choose("random-two", [a, b], "").key for _ in range(400))
    assert counts["b"] > counts["a"]
