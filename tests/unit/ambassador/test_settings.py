"""Where listeners come from, what must be so of all of them, and what a config file may say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import trustme

from sidecars.ambassador.settings import (
    PREFIX,
    PROG,
    Check,
    ClientTls,
    Eject,
    Listener,
    RedisCheck,
    ServerTls,
    Settings,
    TcpCheck,
    Upstream,
)
from sidecars.ambassador.sources import find
from sidecars.core import reference
from sidecars.core.errors import WrongSettings
from sidecars.core.settings import load, shown
from sidecars.core.units import Address, Seconds

POOL = "alpha:\n  listen: 127.0.0.1:22121\n  redis: true\n  servers:\n   - 127.0.0.1:6379:1\n"


def loaded(*arguments: str, **variables: str) -> Settings:
    return load(Settings, prog=PROG, prefix=PREFIX, argv=arguments, environ=variables)


def ids(settings: Settings) -> list[str]:
    return [each.id for each in settings.every_listener()]


def test_nothing_given_is_an_error_that_shows_an_example() -> None:
    with pytest.raises(WrongSettings, match=re.escape("as ambassador ':6379=redis://a:6379,b:6379' :5432=tcp://db")):
        loaded()


def test_the_words_of_the_variable_are_separated_by_spaces_and_newlines_or_json() -> None:
    words = [":1=tcp://a:1,b:1", "[::1]:2=redis://a:1,b:1"]
    for text in (" ".join(words), "\n".join(words) + "\n", json.dumps(words), "[ " + json.dumps(words)[1:]):
        settings = loaded(AMBASSADOR_ROUTES=text)
        assert ids(settings) == [":1", "[::1]:2"]
        assert [len(each.upstreams) for each in settings.every_listener()] == [2, 2]


def test_arguments_win_over_the_variable() -> None:
    assert ids(loaded(":1=tcp://a:1", AMBASSADOR_ROUTES=":2=tcp://a:1")) == [":1"]


def test_a_password_in_a_url_is_refused_on_the_command_line_and_read_from_the_variable() -> None:
    word = ":1=redis://:hunter2@a"
    with pytest.raises(WrongSettings, match="set AMBASSADOR_ROUTES instead") as caught:
        loaded(word)
    assert "hunter2" not in str(caught.value)
    settings = loaded(AMBASSADOR_ROUTES=word)
    (listener,) = settings.every_listener()
    assert listener.redis is not None
    assert listener.redis.password is not None
    assert listener.redis.password.reveal() == "hunter2"
    assert "hunter2" not in json.dumps(shown(settings))


CONFIG = """
listeners:
- listen: ":6380"
  redis: {hash: fnv1a_64, distribution: ketama, hash_tag: "{}", password_file: PASSWORD}
  upstreams: [{address: "a:6379", weight: 1}, {address: "b:6379", weight: 2, name: beta}]
  check: {redis: {}, interval: 1s}
- listen: ":5432"
  upstreams: [{address: "db:5432", tls: {ca: CA}, proxy_protocol: v2}]
  check: {tcp: {}, interval: 5s}
  eject: {failures: 0}
  max_age: 1h
  allow: [127.0.0.0/8, "::1"]
- listen: unix:///run/app.sock
  mode: 0600
  upstreams: [{address: "unix:///run/db.sock"}, {address: "srv://_pg._tcp.db"}]
  tls: {cert: CERT, client_ca: CA, names: [app]}
"""


def test_a_config_file_has_all_that_a_listener_can_be_told(tmp_path: Path) -> None:
    password, config = tmp_path / "password", tmp_path / "ambassador.yaml"
    ca, cert = tmp_path / "ca.crt", tmp_path / "tls.pem"
    password.write_text("hunter2")
    trustme.CA().cert_pem.write_to_path(str(ca))
    trustme.CA().issue_cert("app").private_key_and_cert_chain_pem.write_to_path(str(cert))
    config.write_text(CONFIG.replace("PASSWORD", str(password)).replace("CERT", str(cert)).replace("CA", str(ca)))
    settings = loaded("--config", str(config))
    redis, tcp, unix = settings.every_listener()
    assert redis.redis is not None
    assert redis.redis.hash_tag == "{}"
    assert redis.redis.password is not None
    assert redis.redis.password.reveal() == "hunter2"
    assert redis.check == Check(redis=RedisCheck(), interval=Seconds(1))
    assert [(each.address, each.weight, each.name) for each in redis.upstreams] == [
        ("a:6379", 1, None),
        ("b:6379", 2, "beta"),
    ]
    assert tcp == Listener(
        listen=":5432",
        upstreams=(Upstream(address="db:5432", tls=ClientTls(ca=str(ca)), proxy_protocol="v2"),),
        check=Check(tcp=TcpCheck(), interval=Seconds(5)),
        eject=Eject(failures=0),
        max_age=Seconds(3600),
        allow=("127.0.0.0/8", "::1"),
    )
    assert (unix.listen, unix.mode) == ("/run/app.sock", "0600")
    assert [each.address for each in unix.upstreams] == ["/run/db.sock", "srv://_pg._tcp.db"]
    assert unix.tls == ServerTls(cert=str(cert), client_ca=str(ca), names=("app",))
    assert settings.files == (str(config),)


def test_what_is_read_twice_is_the_same_with_its_secrets(tmp_path: Path) -> None:
    password, other = tmp_path / "password", tmp_path / "other"
    password.write_text("hunter2")
    other.write_text("hunter2")

    def read(secret: str) -> tuple[Listener, ...]:
        return loaded(AMBASSADOR_ROUTES=f":1=redis://{secret}").every_listener()

    for one, another in ((f"a?password-file={password}", f"a?password-file={other}"), (":x@a", ":y@a")):
        assert read(one) == read(one)
        assert read(one) != read(another)
    before = read(f"a?password-file={password}")
    password.write_text("hunter3")
    assert read(f"a?password-file={password}") == before


def listeners(tmp_path: Path, *listeners: dict[str, Any], **settings: Any) -> Settings:
    config = tmp_path / "ambassador.json"
    config.write_text(json.dumps({"listeners": listeners, **settings}))
    return loaded("--config", str(config))


A: dict[str, Any] = {"address": "a:1"}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"upstreams": [A]}, "listeners[0].listen in {file} is not set: give it"),
    ({"listen": ":1"}, "listeners[0].upstreams in {file} is not set: give it"),
    ({"listen": ":1", "upstreams": []}, "listeners[0] in {file} has no upstreams; give one or more"),
    ({"listen": ":1", "upstreams": [{"address": "a"}]}, "upstreams[0] in {file} has address 'a', expected HOST:PORT"),
    ({"listen": ":1", "upstreams": [{**A, "weight": 0}]}, "upstreams[0] in {file} has weight 0, expected 1 to"),
    ({"listen": ":1", "upstreams": [{**A, "name": ""}]}, "upstreams[0] in {file} has an empty name; give one"),
    ({"listen": ":1", "upstreams": [A], "chek": {}}, "listeners[0].chek in {file} is unknown; did you mean check?"),
    ({"listen": ":1", "upstreams": [A], "check": {}}, "check in {file} does not say how to ask; give one of tcp: {"),
    ({"listen": ":1", "upstreams": [A], "check": {"tcp": {}, "http": {}}}, "has tcp and http; keep one"),
    ({"listen": ":1", "upstreams": [A], "redis": {"hash": "x"}}, "redis.hash in {file} is 'x', expected one_at_a_time"),
    (
        {"listen": ":1", "upstreams": [A], "redis": {"password": "p"}},
        "holds a secret in plain text; give password_file",
    ),
    ({"listen": ":1", "upstreams": [{"address": "srv://a"}], "redis": {}}, "a shard is one server; list the shards"),
    ({"listen": ":1", "upstreams": [A], "tls": {"cert": "/none"}}, "/none cannot be read"),
    ({"listen": ":1", "upstreams": [A], "tls": {"cert": ""}}, "has an empty cert; give the path"),
    ({"listen": ":1", "upstreams": [{**A, "path": "/v1"}]}, "has an upstream with a path, but no http; give http: {}"),
    ({"listen": ":1", "upstreams": [{**A, "path": "v1"}], "http": {}}, "has path 'v1', expected one as /v1"),
    ({"listen": ":1", "upstreams": [{**A, "path": "/v1/"}], "http": {}}, "has path '/v1/', expected one as /v1"),
    ({"listen": ":1", "upstreams": [{**A, "path": "/v1"}], "http": {}, "redis": {}}, "a shard has none; leave it out"),
    ({"listen": ":1", "upstreams": [{**A, "tls": {"alpn": ["h 2"]}}]}, "has alpn 'h 2', expected the name of a"),
    ({"listen": ":1", "upstreams": [{**A, "tls": {"alpn": ["h2"]}}], "http": {}}, "HTTP mode speaks http/1.1; leave"),
    ({"listen": ":1", "upstreams": [A], "http": {}, "retries": 3}, "is for connections; in HTTP mode give http.retry."),
    ({"listen": ":1", "upstreams": [A], "http": {}, "max_age": "1h"}, "has max_age, which is for connections; in HTTP"),
    ({"listen": ":1", "upstreams": [A], "http": {"retry": {"tires": 1}}}, "http.retry.tires in {file} is unknown; did"),
    (
        {"listen": ":1", "upstreams": [A], "http": {"headers": [{"matches": "x"}]}},
        "headers[0].name in {file} is not set",
    ),
    (
        {"listen": ":1", "upstreams": [A], "http": {"auth": {"bearer": {"tokens": "t"}}}},
        "http.auth.bearer.tokens in {file} holds a secret in plain text; give tokens_file",
    ),
]


@pytest.mark.parametrize(("listener", "text"), WRONG)
def test_a_wrong_listener_is_named_by_its_place(tmp_path: Path, listener: dict[str, Any], text: str) -> None:
    expected = text.replace("{file}", str(tmp_path / "ambassador.json"))
    with pytest.raises(WrongSettings, match=re.escape(expected)):
        listeners(tmp_path, listener)


CLASHES = [
    ((":1", ":1"), True),
    ((":1", ":2"), False),
    ((":1", "127.0.0.1:1"), True),
    ((":1", "[::1]:1"), True),
    (("127.0.0.1:1", "[::1]:1"), False),
    (("127.0.0.1:1", "127.0.0.2:1"), False),
    (("localhost:1", "[::1]:1"), False),
    (("0.0.0.0:1", ":1"), True),
    (("0.0.0.0:1", "[::1]:1"), False),
    (("[::]:1", "127.0.0.1:1"), True),
    (("*:1", "192.0.2.1:1"), True),
    ((":0", "127.0.0.1:0"), False),
    ((":0", ":0"), True),
    (("/run/a.sock", "unix:///run/a.sock"), True),
    ((":9105", "/run/a.sock"), True),
    (("127.0.0.1:9105", "/run/a.sock"), True),
    (("*:6380", "/run/a.sock"), False),
]


@pytest.mark.parametrize(("two", "clash"), CLASHES)
def test_no_two_listen_at_one_place_nor_at_that_of_the_door(two: tuple[str, str], clash: bool) -> None:
    words = [f"{listen}=tcp://a:1" for listen in two]
    if clash:
        with pytest.raises(WrongSettings, match=r"want the same (port|path); choose another for one"):
            loaded(*words)
    else:
        assert len(ids(loaded(*words))) == 2


OTHERS = [
    (("--workers", "0"), "--workers is 0, expected 1 to 256"),
    (("--stats", "here"), "--stats is 'here', expected HOST:PORT, :PORT or off"),
    (("--access-log", ""), "--access-log is empty; give stdout"),
    (("--nutcracker-config", "/x"), "LISTEN=UPSTREAMS and --nutcracker-config are both given; keep one of them"),
]


@pytest.mark.parametrize(("flags", "text"), OTHERS)
def test_a_wrong_setting_is_named_by_its_flag(flags: tuple[str, str], text: str) -> None:
    with pytest.raises(WrongSettings, match=re.escape(text)):
        loaded(":1=tcp://a:1", *flags)


def test_words_and_listeners_of_a_file_are_not_mixed(tmp_path: Path) -> None:
    config = tmp_path / "ambassador.json"
    config.write_text(json.dumps({"listeners": [{"listen": ":1", "upstreams": [A]}]}))
    with pytest.raises(WrongSettings, match="LISTEN=UPSTREAMS and listeners in --config are both given"):
        loaded("--config", str(config), ":2=tcp://a:1")


def test_a_file_of_twemproxys_says_the_listeners_and_where_its_counters_are(tmp_path: Path) -> None:
    config = tmp_path / "nutcracker.yml"
    config.write_text(POOL)
    settings = loaded("--nutcracker-config", str(config))
    assert settings.pools == {"127.0.0.1:22121": "alpha"}
    assert settings.files == (str(config),)
    assert settings.stats_address == "0.0.0.0:22222"
    assert loaded("--nutcracker-config", str(config), "--stats", "off").stats_address is None
    assert loaded(":1=tcp://a:1").stats_address is None
    assert loaded(":1=tcp://a:1", "--stats", ":2").stats_address == Address(":2")


def test_a_file_mounted_where_the_image_has_it_wins_over_the_variables_which_is_said(tmp_path: Path) -> None:
    mounted = tmp_path / "nutcracker.conf"
    mounted.write_text(POOL)
    found = find(loaded(REDIS_SERVERS="a:1:1"), str(mounted))
    assert [each.id for each in found.listeners] == ["127.0.0.1:22121"]
    assert found.files == (str(mounted),)
    assert found.notices[0].startswith(f"{mounted} is mounted and says the listeners; REDIS_SERVERS and the variables")
    beside = find(loaded(":1=tcp://a:1"), str(mounted))
    assert [each.id for each in beside.listeners] == [":1"]


SCHEMA: list[tuple[dict[str, Any], bool]] = [
    ({"listeners": [{"listen": ":1", "upstreams": [{"address": "a:1"}]}]}, True),
    ({"listeners": [{"listen": ":1", "upstreams": [{"address": "a:1"}], "redis": {"hash": "md5"}}]}, True),
    ({"listeners": [{"listen": ":1", "upstreams": [{"address": "a:1"}], "redis": {"hash": "md6"}}]}, False),
    ({"listeners": [{"listen": ":1", "upstreams": ["a:1"]}]}, False),
    ({"listeners": [{"listen": ":1"}]}, False),
    ({"listeners": [{"listen": ":1", "upstreams": [{"address": "a:1", "path": "/v1"}], "http": {}}]}, True),
    ({"listeners": [{"listen": ":1", "upstreams": [{"address": "a:1"}], "http": {"timeout": "5s"}}]}, True),
    ({"listeners": [{"listen": ":1", "upstreams": [{"address": "a:1"}], "http": {"auth": {"none": {}}}}]}, False),
    ({"redis_servers": "a:1:1"}, False),
    ({"timeout": "2000"}, False),
    ({"nutcracker_config": "/etc/nutcracker.yml", "workers": 2}, True),
]


@pytest.mark.parametrize(("config", "valid"), SCHEMA)
def test_the_schema_takes_what_the_file_may_hold(config: dict[str, Any], valid: bool) -> None:
    assert jsonschema.Draft202012Validator(reference.schema(Settings, PROG)).is_valid(config) is valid
