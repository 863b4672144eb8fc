from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.ambassador.ejection import Ejection, may_leave
from sidecars.ambassador.settings import Eject
from sidecars.core.units import Seconds

LIMITS = Eject(failures=3, time=Seconds(5), max_time=Seconds(60))


def least(a: float, _: float) -> float:
    return a


def most(_: float, b: float) -> float:
    return b


def test_so_many_failures_one_after_another_are_enough() -> None:
    ejection = Ejection(LIMITS, least)
    assert [ejection.failed(), ejection.failed()] == [False, False]
    ejection.worked()
    assert [ejection.failed() for _ in range(3)] == [False, False, True]


def test_with_failures_0_nothing_is_ever_left_out() -> None:
    ejection = Ejection(Eject(failures=0), least)
    assert not any(ejection.failed() for _ in range(1000))


def test_one_that_is_out_counts_no_failures() -> None:
    ejection = Ejection(Eject(failures=1), least)
    ejection.leave(0)
    assert not ejection.failed()
    ejection.come_back(5)
    assert ejection.failed()


def test_the_time_doubles_up_to_the_most() -> None:
    ejection = Ejection(LIMITS, least)
    now, times = 0.0, []
    for _ in range(6):
        times.append(ejection.leave(now))
        now += times[-1]
        ejection.come_back(now)
    assert times == [5, 10, 20, 40, 60, 60]
    assert ejection.ejections == 6


def test_a_probe_that_fails_prolongs_the_same_ejection() -> None:
    ejection = Ejection(LIMITS, least)
    assert [ejection.leave(0), ejection.leave(5), ejection.leave(15)] == [5, 10, 20]
    assert (ejection.ejections, ejection.out) == (1, True)


def test_a_good_time_takes_doublings_back() -> None:
    ejection = Ejection(LIMITS, least)
    for now in (0, 5, 15):
        ejection.leave(now)
    ejection.come_back(35)
    assert ejection.leave(35 + 59) == 40
    ejection.come_back(100)
    assert ejection.leave(100 + 2 * 60) == 20
    ejection.come_back(300)
    assert ejection.leave(300 + 3600) == 5


def test_jitter_makes_it_longer_and_never_longer_than_the_most() -> None:
    ejection = Ejection(LIMITS, most)
    assert [round(ejection.leave(0), 6) for _ in range(5)] == [6, 12, 24, 48, 48]


@given(
    time=st.floats(0.001, 1e4), factor=st.floats(1, 1e3), times=st.integers(1, 2000), jitter=st.floats(0, 1)
)  # fmt: skip
def test_no_time_is_out_of_bounds(time: float, factor: float, times: int, jitter: float) -> None:
    limits = Eject(time=Seconds(time), max_time=Seconds(time * factor))
    ejection = Ejection(limits, lambda a, b: a + (b - a) * jitter)
    spans = [ejection.leave(0) for _ in range(times)]
    assert all(0.79 * time <= span <= limits.max_time for span in spans)


def test_a_reload_changes_the_limits_of_what_is_known() -> None:
    ejection = Ejection(LIMITS, least)
    ejection.failed()
    ejection.limit(Eject(failures=2))
    assert ejection.failed()


@pytest.mark.parametrize(
    ("out", "total", "share", "expected"),
    [
        (0, 1, 50, True), (0, 3, 0, True), (1, 2, 50, False), (1, 3, 50, False), (1, 4, 50, True), (2, 4, 50, False),
        (3, 4, 100, True), (1, 2, 100, True),
    ],
)  # fmt: skip
def test_a_share_may_leave_and_one_always(out: int, total: int, share: int, expected: bool) -> None:
    assert may_leave(out, total, Eject(max_share=share)) is expected
