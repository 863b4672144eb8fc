"""The limits of one process, and of several together."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.ambassador.admission import Admission, Alone, Shared, paced


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = Shared.memory(3)
    yield descriptor
    os.close(descriptor)


@pytest.fixture(params=["alone", "shared"])
def admission(request: pytest.FixtureRequest, memory: int) -> Admission:
    return Alone() if request.param == "alone" else Shared(memory, 3, 1)


def test_no_more_are_let_in_than_the_limit_until_one_ends(admission):
    assert [admission.take(":1", 3) for _ in range(5)] == [True, True, True, False, False]
    admission.give(":1")
    assert [admission.take(":1", 3) for _ in range(2)] == [True, False]


def test_routes_do_not_take_each_others_places(admission):
    assert admission.take(":1", 1)
    assert admission.take(":2", 1)
    assert not admission.take(":1", 1)
    admission.give(":2")
    assert not admission.take(":1", 1)
    assert admission.take(":2", 1)


def test_who_was_let_in_without_a_limit_counts_once_there_is_one(admission):
    assert all(admission.take(":1", None) for _ in range(10))
    assert not admission.take(":1", 10)
    admission.give(":1")
    assert admission.take(":1", 10)


def test_a_burst_begins_at_once_and_the_next_one_waits(admission):
    assert [admission.may_begin(":1", 0.01, 3) for _ in range(3)] == [0, 0, 0]
    assert 99 < admission.may_begin(":1", 0.01, 3) <= 100
    assert admission.may_begin(":2", 0.01, 1) == 0


def test_processes_share_the_places(memory):
    one, other = Shared(memory, 3, 0), Shared(memory, 3, 1)
    assert [one.take(":1", 4), other.take(":1", 4), one.take(":1", 4), other.take(":1", 4)] == [True] * 4
    assert not one.take(":1", 4)
    assert not other.take(":1", 4)
    other.give(":1")
    assert one.take(":1", 4)


def test_what_a_dead_process_had_is_given_back_and_nothing_else(memory):
    parent, dead, other = (Shared(memory, 3, index) for index in range(3))
    assert all(each.take(":1", 4) for each in (dead, dead, dead, other))
    parent.forget(1)
    assert [other.take(":1", 4) for _ in range(4)] == [True, True, True, False]


def test_processes_share_the_rate(memory):
    one, other = Shared(memory, 3, 0), Shared(memory, 3, 1)
    begun = [each.may_begin(":1", 0.001, 4) for each in (one, other) * 3]
    assert [wait == 0 for wait in begun] == [True] * 4 + [False] * 2


# Takes and gives back as fast as it can; in `inside` each process says how many it has, never more than it truly has.
HAMMER = """
import mmap, sys, time
from sidecars.ambassador.admission import Shared
memory, told, index = map(int, sys.argv[1:])
own, told = Shared(memory, 3, index), memoryview(mmap.mmap(told, 24)).cast("i")
inside, started = told[:3], told[3:]
started[index] = 1
while sum(started) < 3:
    time.sleep(0)
for _ in range(20000):
    if own.take("race", 2):
        inside[index] += 1
        assert sum(inside) <= 2, list(inside)
    elif inside[index]:
        inside[index] -= 1
        own.give("race")
while inside[index]:
    inside[index] -= 1
    own.give("race")
"""


def test_a_race_of_processes_lets_none_too_many_in_and_leaves_no_place_taken(memory):
    told = os.memfd_create("told")
    os.ftruncate(told, 24)
    commands = [[sys.executable, "-c", HAMMER, str(memory), str(told), str(index)] for index in range(3)]
    racing = [subprocess.Popen(each, pass_fds=[memory, told]) for each in commands]
    assert [each.wait(30) for each in racing] == [0, 0, 0]
    os.close(told)
    assert [Shared(memory, 3, 0).take("race", 2) for _ in range(3)] == [True, True, False]


@given(
    rate=st.floats(0.1, 1000),
    burst=st.integers(1, 50),
    pauses=st.lists(st.floats(0, 2), min_size=1, max_size=200),
)
def test_in_any_span_no_more_begin_than_the_burst_and_the_rate_allow(rate, burst, pauses):
    due, now, begun = 0.0, 1000.0, []
    for pause in pauses:
        now += pause
        due, wait = paced(due, now, rate, burst)
        assert wait >= 0
        if not wait:
            begun.append(now)
    for first in range(len(begun)):
        for last in range(first, len(begun)):
            assert last - first + 1 <= burst + (begun[last] - begun[first]) * rate + 1e-6


@given(rate=st.floats(0.1, 1000), burst=st.integers(1, 50))
def test_who_waits_as_long_as_said_begins(rate, burst):
    due, now = 0.0, time.monotonic()
    for _ in range(burst + 5):
        due, wait = paced(due, now, rate, burst)
        if wait:
            now += wait
            due, wait = paced(due, now, rate, burst)
            assert wait == 0
