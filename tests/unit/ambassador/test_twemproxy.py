"""REDIS_SERVERS and the variables beside it mean what they mean to the image malexer/twemproxy."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecars.ambassador.redis.ring import node_name
from sidecars.ambassador.settings import PREFIX, PROG, Eject, Listener, Redis, Settings, Upstream
from sidecars.ambassador.twemproxy import read_server, read_servers
from sidecars.core.errors import WrongSettings
from sidecars.core.settings import load
from sidecars.core.units import Seconds

A, B = Upstream(address="a:6379"), Upstream(address="b:6379")


def loaded(*arguments: str, **variables: str) -> Settings:
    return load(Settings, prog=PROG, prefix=PREFIX, argv=arguments, environ=variables)


def only(**variables: str) -> Listener:
    (listener,) = loaded(**variables).every_listener()
    return listener


def test_redis_servers_alone_is_the_pool_of_the_image() -> None:
    assert only(REDIS_SERVERS="a:6379:1,b:6379:1") == Listener(
        listen="*:6380",
        upstreams=(A, B),
        redis=Redis(timeout=Seconds(2), connections=40, preconnect=True, on_failure="reroute"),
        eject=Eject(failures=1, time=Seconds(5), max_time=Seconds(5), max_share=100),
        connect_timeout=Seconds(2),
        idle_timeout=None,
        max_pending=None,
    )


def test_each_variable_says_what_it_says_there() -> None:
    listener = only(
        REDIS_SERVERS="a:6379:3",
        LISTEN_PORT="7000",
        AUTO_EJECT_HOSTS="false",
        TIMEOUT="0",
        SERVER_RETRY_TIMEOUT="100",
        SERVER_FAILURE_LIMIT="0",
        SERVER_CONNECTIONS="2",
        PRECONNECT="no",
        HASH="murmur",
        DISTRIBUTION="modula",
    )
    assert listener.listen == "*:7000"
    assert listener.upstreams == (replace(A, weight=3),)
    assert listener.redis == Redis(
        hash="murmur", distribution="modula", timeout=None, connections=2, preconnect=False, on_failure="fail"
    )
    assert listener.eject == Eject(failures=0, time=Seconds(0.1), max_time=Seconds(0.1), max_share=100)


SERVERS: list[tuple[str, tuple[Upstream, ...], bool]] = [
    ("a:6379:1,b:6379:1", (A, B), False),
    ("a:6379:1, b:6379:1", (A, B), False),
    ("a:6379:1 b:6379:1", (A, B), True),
    ("a:6379:1\n  b:6379:1\n", (A, B), True),
    ("a:6379:1,,b:6379:1,", (A, B), False),
    ("a:6379,b:6379", (A, B), False),
    ("a:6379:1 alpha,b:6379:2 beta", (replace(A, name="alpha"), replace(B, weight=2, name="beta")), False),
    ("a:6379:1 alpha b:6379:1", (replace(A, name="alpha"), B), True),
    ("::1:6379:1", (Upstream(address="[::1]:6379"),), False),
    ("[::1]:6379:2", (Upstream(address="[::1]:6379", weight=2),), False),
    ("::1:6379", (Upstream(address="[::1]:6379"),), False),
    ("/run/a.sock:2,/run/b.sock", (Upstream(address="/run/a.sock", weight=2), Upstream(address="/run/b.sock")), False),
]


@pytest.mark.parametrize(("text", "upstreams", "spaced"), SERVERS)
def test_servers_are_separated_by_commas_and_by_spaces(
    text: str, upstreams: tuple[Upstream, ...], spaced: bool
) -> None:
    assert read_servers(text) == (upstreams, spaced)


def test_spaces_are_warned_of() -> None:
    assert "twemproxy would have taken what follows" in loaded(REDIS_SERVERS="a:1:1 b:1:1").provenance.warnings[0]
    assert loaded(REDIS_SERVERS="a:1:1,b:1:1").provenance.warnings == ()


# Names on the ring, as the counters of nutcracker 0.5.0 have them.
NAMES = [
    ("127.0.0.1:7391:1", b"127.0.0.1:7391"),
    ("::1:7000:1", b"::1:7000"),
    ("/tmp/nc/a.sock:1", b"/tmp/nc/a.sock:"),
    ("127.0.0.1:11211:1", b"127.0.0.1"),
    ("127.0.0.1:7392:1 named", b"named"),
    ("a:07000:1", b"a:07000"),
]


@pytest.mark.parametrize(("text", "name"), NAMES)
def test_a_server_has_the_name_on_the_ring_that_twemproxy_gives_it(text: str, name: bytes) -> None:
    assert node_name(read_server(text)) == name


WRONG = [
    ({"REDIS_SERVERS": " , "}, "REDIS_SERVERS holds no server; write HOST:PORT:WEIGHT"),
    ({"REDIS_SERVERS": "a"}, "REDIS_SERVERS has 'a': expected HOST:PORT:WEIGHT"),
    ({"REDIS_SERVERS": "a:1:1,b:x:1"}, "REDIS_SERVERS has 'b:x:1': expected"),
    ({"REDIS_SERVERS": "a:70000:1"}, "REDIS_SERVERS has 'a:70000:1': expected"),
    ({"REDIS_SERVERS": "a:1:0"}, "REDIS_SERVERS has 'a:1:0': its weight is 0"),
    ({"REDIS_SERVERS": "a:1:1,a:1:2"}, "REDIS_SERVERS has the upstream 'a:1' twice"),
    ({"REDIS_SERVERS": ":1:1"}, "REDIS_SERVERS has ':1:1': expected"),
    ({"LISTEN_PORT": "tcp://10.96.0.1:80"}, "LISTEN_PORT is 'tcp://10.96.0.1:80', expected a port"),
    ({"LISTEN_PORT": "0"}, "LISTEN_PORT is '0', expected a port"),
    ({"AUTO_EJECT_HOSTS": "maybe"}, "AUTO_EJECT_HOSTS is 'maybe', expected true or false"),
    ({"TIMEOUT": "2s"}, "TIMEOUT is '2s', expected milliseconds"),
    ({"SERVER_RETRY_TIMEOUT": "-1"}, "SERVER_RETRY_TIMEOUT is '-1', expected milliseconds"),
    ({"SERVER_FAILURE_LIMIT": "x"}, "SERVER_FAILURE_LIMIT is 'x', expected a whole number"),
    ({"SERVER_CONNECTIONS": "0"}, "SERVER_CONNECTIONS is '0', expected a whole number from 1 on"),
    ({"PRECONNECT": "2"}, "PRECONNECT is '2', expected true or false"),
    ({"HASH": "mdd5"}, "HASH is 'mdd5', which is unknown; did you mean md5?"),
    ({"DISTRIBUTION": "ring"}, "DISTRIBUTION is 'ring', which is unknown; known are ketama, modula, random"),
]


@pytest.mark.parametrize(("variables", "text"), WRONG)
def test_a_wrong_variable_is_named(variables: dict[str, str], text: str) -> None:
    with pytest.raises(WrongSettings, match=re.escape(text)):
        only(**{"REDIS_SERVERS": "a:1:1", **variables})


def test_the_other_variables_are_read_with_redis_servers_only() -> None:
    variables = {"TIMEOUT": "soon", "HASH": "mine", "LISTEN_PORT": "tcp://10.96.0.1:80", "PRECONNECT": "?"}
    settings = loaded(":1=tcp://a:1", **variables)
    assert [each.listen for each in settings.every_listener()] == [":1"]
    assert settings.provenance.warnings == ()


def test_redis_servers_counts_for_nothing_beside_arguments_which_is_said() -> None:
    settings = loaded(":1=tcp://a:1", REDIS_SERVERS="b:1:1", TIMEOUT="soon")
    assert [each.listen for each in settings.every_listener()] == [":1"]
    assert settings.provenance.warnings == ("REDIS_SERVERS counts for nothing beside LISTEN=UPSTREAMS; leave it out",)


@settings(max_examples=50)
@given(st.text(alphabet="ab:1,[]/ \n0é", max_size=30))
def test_any_text_is_servers_or_an_error(text: str) -> None:
    try:
        upstreams, _ = read_servers(text)
    except WrongSettings as error:
        assert str(error)
    else:
        assert upstreams
