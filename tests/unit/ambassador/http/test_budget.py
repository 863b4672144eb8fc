"""How many tries there may be beside the first, over time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecars.ambassador.http.budget import Budget


def test_there_is_a_floor_and_a_share():
    budget = Budget(20, 0.5)
    assert [budget.take(100.0) for _ in range(6)] == [True] * 5 + [False]
    for number in range(50):
        budget.request(100.0 + number / 10)
    assert budget.left(105.0) == 10
    assert [budget.take(105.0) for _ in range(11)] == [True] * 10 + [False]


def test_what_was_ten_seconds_ago_is_forgotten():
    budget = Budget(10, 0)
    for _ in range(100):
        budget.request(50.5)
    assert all(budget.take(51.0) for _ in range(10))
    assert not budget.take(59.9)
    for _ in range(100):
        budget.request(60.0)
    assert budget.left(60.0) == 0  # those of second 50 are gone, the tries of second 51 are not
    assert budget.left(61.0) == 10
    assert budget.left(1000.0) == 0


def test_other_limits_hold_at_once():
    budget = Budget(0, 0)
    assert not budget.take(1.0)
    budget.limit(0, 1)
    assert budget.left(1.0) == 10


@given(
    st.integers(0, 100),
    st.floats(0, 5),
    st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=80),
)
def test_it_is_never_spent_beyond_its_window(percent, floor, steps):
    budget, now = Budget(percent, floor), 10.0
    requests: list[int] = []
    taken: list[int] = []
    for passed, is_request in steps:
        now += passed
        if is_request:
            budget.request(now)
            requests.append(int(now))
        elif budget.take(now):
            taken.append(int(now))
            since = int(now) - 10
            recent = sum(when > since for when in requests)
            assert sum(when > since for when in taken) <= floor * 10 + recent * percent / 100 + 1e-6
