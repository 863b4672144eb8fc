"""What a request for /logs asks."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.adapter.table import LEVELS
from sidecars.adapter.web.query import Condition, Query, read
from sidecars.adapter.web.refusal import Refusal

NOW = 1769860800.0


def asked(query: str, accept: str = "*/*") -> Query:
    return read(parse_qsl(query, keep_blank_values=True), accept, NOW)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", Query()),
        ("tail=5", Query(tail=5)),
        ("limit=5&after=abc", Query(limit=5, after="abc")),
        ("since=10m", Query(since=NOW - 600, relative=True)),
        ("since=2026-01-31", Query(since=NOW - 43200)),
        ("since=1h&until=2026-01-31", Query(since=NOW - 3600, until=NOW - 43200, relative=True)),
        ("q=Time out", Query(text="Time out")),
        ("level=error", Query(levels=frozenset(LEVELS[5:]))),
        ("level=warn,ERR", Query(levels=frozenset({"warning", "error"}))),
        ("level=info,", Query(levels=frozenset({"info"}))),
        ("format=jsonl", Query(form="ndjson")),
        ("follow=1", Query(live=True, form="ndjson")),
        ("follow=0", Query()),
        ("file=a.log", Query(file="a.log")),
    ],
)
def test_a_query_is_read(query, expected):
    assert asked(query) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("status=500", Condition("status", "=", "500")),
        ("status>=500", Condition("status", ">=", "500")),
        ("status<=500", Condition("status", "<=", "500")),
        ("duration>0.5", Condition("duration", ">", "0.5")),
        ("duration<-1", Condition("duration", "<", "-1")),
        ("method!=GET", Condition("method", "!=", "GET")),
        ("user=", Condition("user", "=", "")),
        ("line=7", Condition("line", "=", "7")),
        ("later=7", Condition("later", "=", "7")),
        ("field.tail=x", Condition("tail", "=", "x")),
        ("a.b=*x*", Condition("a.b", "=", "*x*")),
    ],
)
def test_what_is_no_parameter_is_a_condition(query, expected):
    assert asked(query).conditions == (expected,)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("tail=x", "tail is 'x', expected a number"),
        ("tail=-1", "tail is '-1'"),
        ("tail=10001", "tail is '10001'"),
        ("tail=٣", "tail is"),
        ("tail=1&tail=2", "tail is given twice"),
        ("tail=1&before=a", "tail and before contradict"),
        ("before=a&after=b", "before and after contradict"),
        ("since=soon", "since is 'soon', expected a time"),
        ("level=loud", "level is 'loud', expected one of trace"),
        ("level=", "level is ''"),
        ("format=xml", "format is 'xml', expected one of json"),
        ("follow=maybe", "follow is 'maybe'"),
        ("follow=1&until=1h", "leave out before and until"),
        ("follow=1&format=json", "format=ndjson"),
        ("status>=high", "'high' is no number"),
        ("tial=5", "did you mean tail?"),
        ("levl=error", "did you mean level?"),
        ("q=" + "x" * 501, "more than 500"),
        ("&".join(f"f{number}=1" for number in range(21)), "at most 20"),
        ("=x", "no name"),
    ],
)
def test_what_is_wrong_is_said(query, words):
    with pytest.raises(Refusal) as refused:
        asked(query)
    assert refused.value.status == 400
    assert words in refused.value.reason


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/x-ndjson", Query(form="ndjson")),
        ("text/event-stream", Query(form="ndjson", live=True, events=True)),
        ("text/html,*/*", Query()),
    ],
)
def test_the_accept_header_chooses_the_form(accept, expected):
    assert asked("", accept) == expected


def test_everything_is_asked_for_only_without_a_bound_or_a_filter():
    assert asked("file=a&format=raw").whole
    assert not any(asked(query).whole for query in ("tail=1", "limit=1", "after=x", "q=x", "level=info", "since=1h"))


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=5), st.text(max_size=30))
def test_whatever_is_asked_is_read_or_refused(parameters, accept):
    try:
        read(parameters, accept, NOW)
    except Refusal as refused:
        assert refused.status == 400
