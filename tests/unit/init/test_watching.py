from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.init.checks import Result, State
from sidecars.init.reporting import history, never, sentence, timed_out
from sidecars.init.target import Target, parse
from sidecars.init.watching import Pace, Watch, pause, turned


class Script:
    """A check that finds these states in turn, and the last of them for ever."""

    def __init__(self, *states: State, again: float | None = None) -> None:
        self.states = list(states)
        self.again = again

    async def __call__(self, target: Target, patience: float) -> Result:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return Result(state, f"{state}; advice", self.again)


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.states: list[str] = []

    def found(self, watch: Watch) -> None:
        assert watch.last is not None
        self.states.append(watch.last.state)


QUICK = Pace(interval=0.001, longest=0.001)


def watched(*states: State, text: str = "tcp://db:1", pace: Pace = QUICK, seconds: float = 20) -> tuple[Watch, Heard]:
    """A watch after it has ended."""
    heard = Heard()
    watch = Watch(parse(text), Script(*states), pace, heard)

    async def run() -> None:
        await asyncio.wait_for(watch.run(asyncio.get_running_loop().time() + seconds), seconds)

    asyncio.run(run())
    return watch, heard


def test_it_looks_until_the_target_is_met() -> None:
    watch, heard = watched("no-name", "refused", "refused", "ok")
    assert (watch.met, watch.lost, watch.attempts) == (True, False, 4)
    assert heard.states == ["no-name", "refused", "refused", "ok"]


def test_what_can_never_be_ends_it_at_once() -> None:
    watch, _ = watched("refused", "impossible", "ok")
    assert (watch.met, watch.lost, watch.attempts) == (False, True, 2)


def test_consecutive_wants_looks_in_a_row() -> None:
    pace = Pace(interval=0.001, longest=0.001, consecutive=3)
    watch, heard = watched("ok", "ok", "refused", "ok", "ok", "ok", pace=pace)
    assert watch.met
    assert heard.states == ["ok", "ok", "refused", "ok", "ok", "ok"]


@pytest.mark.parametrize(
    "state", ["no-name", "no-endpoints", "refused", "filtered", "reset", "tls", "auth", "not-ready"]
)
def test_not_is_met_by_what_is_not_so(state: State) -> None:
    watch, _ = watched("ok", state, text="not:tcp://db:1")
    assert (watch.met, watch.attempts) == (True, 2)


def test_not_is_not_met_by_a_look_that_failed() -> None:
    watch, _ = watched("error", "error", "refused", text="not:tcp://db:1")
    assert (watch.met, watch.attempts) == (True, 3)
    assert turned(Result("impossible", "denied")).state == "impossible"


def test_a_name_that_does_not_exist_for_too_long_never_will_where_that_is_asked_for() -> None:
    pace = Pace(interval=0.001, longest=0.001, nxdomain=0.05)
    watch, _ = watched("no-name", pace=pace)
    assert watch.lost
    assert watch.last is not None
    assert watch.last.text == "no-name and has not for 0.05 s; advice"


def test_the_clock_of_a_missing_name_begins_anew_when_it_was_there() -> None:
    pace = Pace(interval=0.001, longest=0.001, nxdomain=3600)
    watch, _ = watched("no-name", "refused", "no-name", "error", "no-name", "ok", pace=pace)
    assert watch.met


@settings(deadline=None)
@given(st.integers(0, 5000), st.floats(0.01, 10), st.floats(0, 100))
def test_pauses_grow_to_their_longest_and_never_vanish(failures: int, interval: float, more: float) -> None:
    pace = Pace(interval=interval, longest=interval + more)
    least, most = pause(pace, failures, min), pause(pace, failures, max)
    assert 0 < least < most <= pace.longest
    assert most >= pause(pace, failures - 1, max)


def test_pauses_double() -> None:
    pace = Pace(interval=0.25, longest=5)
    assert [pause(pace, failures, max) for failures in range(1, 8)] == [0.25, 0.5, 1, 2, 4, 5, 5]


def known(*states: State, text: str = "tcp://db:1", words: str = "is so; advice") -> Watch:
    """A watch with these states behind it."""
    watch = Watch(parse(text), Script("ok"), QUICK, Heard())
    watch.states.update(states)
    watch.attempts = len(states)
    watch.last = Result(states[-1], words) if states else None
    watch.took, watch.met = 3.04, states[-1:] == ("ok",)
    watch.elapsed = lambda: 3.04  # type: ignore[method-assign]
    return watch


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (("refused",), "tcp://db:1: is so, 1 attempt in 3.0 s; advice"),
        (("refused", "refused"), "tcp://db:1: is so, 2 attempts in 3.0 s; advice"),
        (
            ("no-name", "refused", "refused"),
            "tcp://db:1: is so, 3 attempts in 3.0 s (2 refused, 1 no-name); advice",
        ),
        ((), "tcp://db:1: no answer yet after 3.0 s"),
    ],
)
def test_the_sentence_says_why_how_often_and_for_how_long(states: Sequence[State], expected: str) -> None:
    assert history(known(*states)) == expected


def test_the_end_names_what_is_missing_and_not_what_is_there() -> None:
    text = timed_out([known("ok", text="a:1"), known("refused", text="b:1"), known("tls", text="c:1")], 3, 300)
    assert text.startswith("timed out after 5m, 1 of 3 met: b:1: is so, 1 attempt in 3.0 s; advice; c:1: ")
    assert "a:1" not in text
    assert ", 1 of 3 met and 2 needed: " in timed_out([known("ok"), known("tls"), known("tls")], 2, 300)


def test_only_what_can_never_be_is_said_to_be_so() -> None:
    assert never([known("refused", text="a:1"), known("impossible", text="b:1")]).startswith("b:1: ")


@settings(deadline=None)
@given(st.lists(st.text(max_size=2000), min_size=1, max_size=40))
def test_however_many_targets_the_reason_fits_into_a_termination_message(texts: list[str]) -> None:
    watches = [known("refused", words=text) for text in texts]
    text = sentence("timed out: ", watches)
    assert len(text) < 1100
    assert text.count("tcp://db:1: ") == len(watches) or text.endswith("more") or len(watches) == 1
