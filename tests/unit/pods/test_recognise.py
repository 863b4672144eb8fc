"""What the recognisers say of what people write, and that our programs take what they put in its place."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.pods.recognise import recognise
from sidecars.pods.recognise.accepted import complaint
from sidecars.pods.verdict import Container, Verdict
from tests.unit.pods.loops import CASES, ENV, MOUNTS, Case, init

ROWS = range(1, 39)
# What the recognisers know a text's unknown parts by; nobody is to see it.
MARKS = set(map(chr, range(0xFDD0, 0xFDF0)))


def said(verdict: Verdict | None) -> str:
    """A verdict as the table writes it."""
    if verdict is None:
        return ""
    if verdict.kind != "exact":
        return f"{verdict.kind} {verdict.pattern}"
    commands = [" ".join((each.image, *each.args)) for each in verdict.replacements]
    return f"{verdict.pattern}: {' | '.join(commands)}"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_people_write_is_understood(case: Case) -> None:
    assert said(recognise(case.container)) == case.expected


def test_our_programs_take_what_is_put_in_place() -> None:
    for container in (case.container for case in CASES if ": " in case.expected):
        verdict = recognise(container)
        assert verdict is not None
        for each in verdict.replacements:
            assert not complaint(each, container.env, expands=container.expands)


def test_every_row_of_the_catalogue_has_a_case() -> None:
    seen = {verdict.pattern for case in CASES if (verdict := recognise(case.container))}
    assert seen == set(ROWS)


def test_no_two_cases_have_one_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def test_a_verdict_is_whole() -> None:
    for verdict in filter(None, (recognise(case.container) for case in CASES)):
        assert bool(verdict.replacements) is (verdict.kind == "exact")
        for text in (verdict.found, verdict.wrong, verdict.instead):
            assert text
            assert "\n" not in text
        words = [word for each in verdict.replacements for word in each.args]
        assert not MARKS & set("".join((verdict.found, verdict.wrong, verdict.instead, *words)))


def test_variables_that_only_the_script_needed_are_dropped() -> None:
    script = 'until mysqladmin ping -h "$DB_HOST" -p"$PASSWORD"; do sleep 1; done'
    verdict = recognise(init(script, "mysql:8"))
    assert verdict is not None
    assert verdict.replacements[0].drop_env == ("PASSWORD",)


def test_variables_that_are_still_read_are_kept() -> None:
    verdict = recognise(init('echo "$KEY" > /data/key', "busybox"))
    assert verdict is not None
    assert verdict.replacements[0].drop_env == ()


def test_what_is_only_read_may_be_mounted_so() -> None:
    case = next(case for case in CASES if case.name == "tail of two")
    verdict = recognise(case.container)
    assert verdict is not None
    assert verdict.replacements[0].read_only == ("/logs",)
    assert verdict.replacements[0].sidecar


def test_an_init_container_is_no_sidecar() -> None:
    verdict = recognise(init("mkdir -p /data/a"))
    assert verdict is not None
    assert not verdict.replacements[0].sidecar


# Pieces of scripts, put together at random, get further into the recognisers than letters do.
PIECES = st.sampled_from((
    "until", "while", "for", "i", "in", "do", "done", "if", "then", "else", "fi", "&&", "||", ";", "|", "&", "(",
    ")", "{", "}", "!", "[", "]", "[[", "]]", "$(", ")", "`", '"', "'", "$X", "${X:-y}", "$((i+1))", "{{", "}}",
    ">", ">>", "<", "<<", "<<EOF", "2>&1", ">/dev/null", "nc", "-z", "db", "5432", "nslookup", "curl", "-sf",
    "http://a", "wget", "-O-", "sleep", "5", "true", "false", "echo", "cat", "/logs/a", "tail", "-F", "-f", "-n",
    "cp", "-r", "/data", "/shared/*", "mkdir", "-p", "git", "clone", "pull", "aws", "s3", "sync", "s3://a/b", "sed",
    "-i", "envsubst", "base64", "-d", "kubectl", "wait", "--for=condition=complete", "job/a", "break", "exit", "0",
    "1", "trap", "seq", "timeout", "60", "sh", "-c", "exec", "socat", "TCP-LISTEN:1,fork", "TCP:a:1", "\n", "\\",
    "#", "~", "*", "?", "$1", "f()", "EOF", "redis-cli", "ping", "grep", "PONG", "test", "/x", "pg_isready",
    "mysqladmin", "chown", "1:1", "chmod", "777", "unzip", "tar", "xz", "set", "-e", "rm", "-rf", "lost+found",
))  # fmt: skip
SCRIPTS = st.one_of(
    st.text(max_size=80),
    st.lists(PIECES, max_size=25).map(" ".join),
    st.sampled_from([case.container.command[-1] for case in CASES if case.container.command]).flatmap(
        lambda text: st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).map(
            lambda ends: text[: ends[0]] + text[ends[1] :]
        )
    ),
)


@settings(deadline=None)
@given(script=SCRIPTS, starts=st.booleans(), only=st.booleans(), expands=st.booleans())
def test_no_script_makes_it_fail(script: str, starts: bool, only: bool, expands: bool) -> None:
    container = Container(
        image="busybox", command=("sh", "-c", script), init=starts, only=only, expands=expands, env=ENV, mounts=MOUNTS
    )
    recognise(container)


@settings(deadline=None)
@given(words=st.lists(st.one_of(PIECES, st.text(max_size=10)), max_size=8))
def test_no_arguments_make_it_fail(words: list[str]) -> None:
    recognise(Container(image="busybox", command=tuple(words), args=tuple(words), env=ENV, mounts=MOUNTS))


@pytest.mark.parametrize(
    "script",
    [
        "(" * 5000,
        "$(" * 5000,
        "{ " * 3000,
        "if true; then " * 2000,
        "a" * 100_000,
        '"${' * 3000,
        "\0",
        "\ud800",
        "\ue000x",
    ],
    ids=lambda text: ascii(text[:6]),
)
def test_what_no_script_is_does_not_make_it_fail(script: str) -> None:
    assert recognise(init(script)) is None
