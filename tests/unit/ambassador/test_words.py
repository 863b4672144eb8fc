"""LISTEN=UPSTREAMS comes to the listener that was meant, or to an error that says what to write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import fields

from sidecars.ambassador.http.settings import HeaderChanges, Http, RateLimit, Retry
from sidecars.ambassador.settings import (
    Check,
    ClientTls,
    Eject,
    HttpCheck,
    Redis,
    RedisCheck,
    ServerTls,
    TcpCheck,
    Upstream,
)
from sidecars.ambassador.words import read_route
from sidecars.core.errors import WrongSettings
from sidecars.core.units import Bytes, Seconds


def given_in(word: str) -> dict[str, Any]:
    """What a word says of its listener, without the defaults; upstreams that have an address alone by it."""
    listener = read_route(word)
    said = {field.name: getattr(listener, field.name) for field in fields(listener)}
    defaults = {field.name: field.default for field in fields(listener) if not field.required}
    upstreams = [each.address if each == Upstream(address=each.address) else each for each in listener.upstreams]
    return {
        "upstreams": upstreams,
        **{name: value for name, value in said.items() if name != "upstreams" and value != defaults.get(name, ...)},
    }


REDIS = Redis()
WORDS: list[tuple[str, dict[str, Any]]] = [
    (":6379=redis://a:6379,b:6379", {"listen": ":6379", "upstreams": ["a:6379", "b:6379"], "redis": REDIS}),
    (":1=redis://a,b:7000", {"listen": ":1", "upstreams": ["a:6379", "b:7000"], "redis": REDIS}),
    (":1=redis://a:1,redis://b:2", {"listen": ":1", "upstreams": ["a:1", "b:2"], "redis": REDIS}),
    (
        "0.0.0.0:1=redis://a:1:2 alpha,[::1]:1:3",
        {
            "listen": "0.0.0.0:1",
            "upstreams": [Upstream(address="a:1", weight=2, name="alpha"), Upstream(address="[::1]:1", weight=3)],
            "redis": REDIS,
        },
    ),
    (
        ":1=redis://a:1:2%20alpha",
        {"listen": ":1", "upstreams": [Upstream(address="a:1", weight=2, name="alpha")], "redis": REDIS},
    ),
    ("[::1]:1=redis://a/2", {"listen": "[::1]:1", "upstreams": ["a:6379"], "redis": Redis(database=2)}),
    (
        ":1=redis:///run/a.sock,/run/b.sock:2",
        {"listen": ":1", "upstreams": ["/run/a.sock", Upstream(address="/run/b.sock", weight=2)], "redis": REDIS},
    ),
    (":1=redis://a?hash_tag={}", {"listen": ":1", "upstreams": ["a:6379"], "redis": Redis(hash_tag="{}")}),
    (
        ":1=redis://a?hash=md5&distribution=modula&timeout=off&connections=2&preconnect&on-failure=fail",
        {
            "listen": ":1",
            "upstreams": ["a:6379"],
            "redis": Redis(
                hash="md5", distribution="modula", timeout=None, connections=2, preconnect=True, on_failure="fail"
            ),
        },
    ),
    (":1=redis://a?timeout=5s", {"listen": ":1", "upstreams": ["a:6379"], "redis": Redis(timeout=Seconds(5))}),
    (
        ":1=rediss://a",
        {"listen": ":1", "upstreams": [Upstream(address="a:6379", tls=ClientTls())], "redis": REDIS},
    ),
    (":1=tcp://db:5432", {"listen": ":1", "upstreams": ["db:5432"]}),
    ("*:1=tcp://db:5432", {"listen": "*:1", "upstreams": ["db:5432"]}),
    (":1=tcp://db:5432?tls=on", {"listen": ":1", "upstreams": [Upstream(address="db:5432", tls=ClientTls())]}),
    (":1=tcp://db:5432?tls", {"listen": ":1", "upstreams": [Upstream(address="db:5432", tls=ClientTls())]}),
    (":1=tcp://db:5432?tls=off", {"listen": ":1", "upstreams": ["db:5432"]}),
    (
        ":1=tls://db:5432?ca=/tls/ca+1.crt&names=db,spiffe://x/y&server-name=off",
        {
            "listen": ":1",
            "upstreams": [
                Upstream(
                    address="db:5432",
                    tls=ClientTls(ca="/tls/ca+1.crt", names=("db", "spiffe://x/y"), server_name="off"),
                )
            ],
        },
    ),
    (":1=srv://_pg._tcp.db", {"listen": ":1", "upstreams": ["srv://_pg._tcp.db"]}),
    (
        "unix:///run/x.sock=unix:///run/y.sock?mode=0600",
        {"listen": "/run/x.sock", "upstreams": ["/run/y.sock"], "mode": "0600"},
    ),
    ("/run/x.sock=tcp:///run/y.sock", {"listen": "/run/x.sock", "upstreams": ["/run/y.sock"]}),
    (
        ":1=tcp://a:1?balance=least-connections&idle_timeout=off&max-age=1h&allow=10.0.0.0/8&allow=::1,192.0.2.1",
        {
            "listen": ":1",
            "upstreams": ["a:1"],
            "balance": "least-connections",
            "idle_timeout": None,
            "max_age": Seconds(3600),
            "allow": ("10.0.0.0/8", "::1", "192.0.2.1"),
        },
    ),
    (
        ":1=tcp://a:1?proxy-protocol=v2&accept-proxy=yes",
        {"listen": ":1", "upstreams": [Upstream(address="a:1", proxy_protocol="v2")], "accept_proxy": True},
    ),
    (
        ":1=tcp://a:1?check=tcp&check-send=PING&check-expect=PONG&check-timeout=1s&interval=1s",
        {
            "listen": ":1",
            "upstreams": ["a:1"],
            "check": Check(tcp=TcpCheck(send="PING", expect="PONG"), timeout=Seconds(1), interval=Seconds(1)),
        },
    ),
    (
        ":1=tcp://a:1?check=http&check-path=/up&check-status=200,204",
        {"listen": ":1", "upstreams": ["a:1"], "check": Check(http=HttpCheck(path="/up", status=(200, 204)))},
    ),
    (":1=tcp://a:1?check=off", {"listen": ":1", "upstreams": ["a:1"]}),
    (
        ":1=redis://a?check-fall=2",
        {"listen": ":1", "upstreams": ["a:6379"], "redis": REDIS, "check": Check(redis=RedisCheck(), fall=2)},
    ),
    (
        ":1=tcp://a:1?eject-failures=0&listen-cert=/tls/tls.crt",
        {"listen": ":1", "upstreams": ["a:1"], "eject": Eject(failures=0), "tls": ServerTls(cert="/tls/tls.crt")},
    ),
]


HTTP_TLS = ClientTls(alpn=("http/1.1",))
WORDS += [
    (":1=http://a", {"listen": ":1", "upstreams": ["a:80"], "http": Http()}),
    (
        ":1=http://a:8080:2 x,[::1]/v1/ y,http://b/v1/@me",
        {
            "listen": ":1",
            "upstreams": [
                Upstream(address="a:8080", weight=2, name="x"), Upstream(address="[::1]:80", name="y", path="/v1"),
                Upstream(address="b:80", path="/v1/@me"),
            ],
            "http": Http(),
        },
    ),
    (":1=http:///run/a.sock", {"listen": ":1", "upstreams": ["/run/a.sock"], "http": Http()}),
    (
        ":1=https://api.example/v%201",
        {
            "listen": ":1",
            "upstreams": [Upstream(address="api.example:443", path="/v%201", tls=HTTP_TLS)],
            "http": Http(),
        },
    ),
    (
        ":1=http://a?timeout=5s&methods=GET,POST&host=client&forwarded=&request-id=off&max-body=1MiB&retry-tries=3"
        "&retry-statuses=503&rate-limit-rate=5&rate-limit-key=listener&request-remove=Cookie,X-*&check=http&check-host=b",
        {
            "listen": ":1",
            "upstreams": ["a:80"],
            "check": Check(http=HttpCheck(host="b")),
            "http": Http(
                timeout=Seconds(5), methods=("GET", "POST"), host="client", forwarded=(), request_id=None,
                max_body=Bytes(1 << 20), retry=Retry(tries=3, statuses=(503,)),
                rate_limit=RateLimit(rate=5, key="listener"), request=HeaderChanges(remove=("Cookie", "X-*")),
            ),
        },
    ),
    (
        ":1=http+rediss://a,b/1?timeout=1s&http-timeout=9s&keep-alive=5s&hash=md5",
        {
            "listen": ":1",
            "upstreams": [Upstream(address="a:6379", tls=ClientTls()), Upstream(address="b:6379", tls=ClientTls())],
            "redis": Redis(timeout=Seconds(1), hash="md5", database=1),
            "http": Http(timeout=Seconds(9), keep_alive=Seconds(5)),
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(("word", "said"), WORDS)
def test_a_word_says_its_listener(word: str, said: dict[str, Any]) -> None:
    assert given_in(word) == said


WRONG = [
    ("nonsense", "write :6379=redis://a:6379,b:6379"),
    (":1=", "write :6379="),
    ("=tcp://a:1", "write :6379="),
    (":1=db:5432", "write :1=tcp://db:5432 or :1=redis://db:5432"),
    (":1=http:/api.example/v1", "what is spoken; write :1=http://api.example/v1"),
    (":1=rdis://a", "unknown; did you mean redis://?"),
    (":1=zzz://a", "unknown; known are http+redis://, http+rediss://, http://"),
    ("1=tcp://a:1", "expected :PORT for loopback, IP:PORT, *:PORT for every interface, or the path of a unix socket; "),
    ("db:1=tcp://a:1", "expected an IP address of this machine"),
    (":65536=tcp://a:1", "has listen ':65536'"),
    (f"/{'x' * 108}=tcp://a:1", "a path of at most 107 bytes"),
    (":1=tcp://", "has an empty upstream; is a variable empty"),
    (":1=tcp://a", "the upstream 'a' without a port; write a:PORT"),
    (":1=tcp://a:1,", "an empty upstream; is a variable empty"),
    (":1=tcp://a:0", "has address 'a:0', expected HOST:PORT"),
    (":1=tcp://a..b:1", "has address 'a..b:1', expected HOST:PORT"),
    (":1=tcp://::1:80", "an IPv6 address stands in brackets"),
    (":1=tcp://[::g]:80", "has address '[::g]:80', expected HOST:PORT"),
    (":1=tcp://a:1:0", "has weight 0, expected 1 to 1000000; leave it out"),
    (":1=tcp://a:1:x", "?weight is 'x', expected a whole number"),
    (":1=tcp://a:1,a:1", "has the upstream 'a:1' twice; leave one out"),
    (":1=tcp://a:1,redis://b", "mixes tcp:// with 'redis://b'; give each its own LISTEN"),
    (":1=redis://srv://a", "mixes redis:// with"),
    (":1=redis://a?hash=md6", "?hash is 'md6', expected one_at_a_time, md5"),
    (":1=redis://a?hash_tag=abc", "has hash_tag 'abc', expected two characters"),
    (":1=redis://a?balance=random-two", "leave balance out"),
    (":1=redis://a?proxy_protocol=v1", "clients share the connections to shards"),
    (":1=redis://a?connections=0", "has connections 0, expected 1 or more"),
    (":1=redis://bot@a", "has user without password; give password_file"),
    (":1=tcp://a:1?hash=md5", "?hash is unknown; it is for redis://"),
    (":1=tcp://a:1?timeout=5", "?timeout is unknown; say which: connect-timeout, idle-timeout"),
    (":1=tcp://a:1?conect-timeout=5", "?conect-timeout is unknown; did you mean connect-timeout?"),
    (":1=tcp://a:1?connect-timeout=soon", "?connect_timeout is 'soon', expected seconds"),
    (":1=tcp://a:1?connect-timeout=0", "has connect_timeout 0s, expected more than 0"),
    (":1=tcp://a:1?idle-timeout=0", "has idle_timeout 0s, expected more than 0, or off"),
    (":1=tcp://a:1?retries=-1", "has retries -1, expected 0 or more"),
    (":1=tcp://a:1?retries=1&retries=2", "has the option retries twice; keep one"),
    (":1=tcp://a:1?rate=0", "has rate 0.0, expected more than 0, or off"),
    (":1=tcp://a:1?mode=0999", "has mode '0999', expected octal digits"),
    (":1=tcp://a:1?allow=10.0.0.1/8", "has allow '10.0.0.1/8', which is no network"),
    (":1=tcp://a:1?eject-max-share=101", "has max_share 101, expected percent"),
    (":1=tcp://a:1?eject-time=60&eject-max-time=5", "has max_time 5s, which is less than time, 1m"),
    (":1=tcp://a:1?check=grpc", "?check is 'grpc', expected tcp, http, redis or off"),
    (":1=tcp://a:1?check=tcp&check-path=/", "?path is unknown"),
    (":1=tcp://a:1?check=http&check-path=up", "has path 'up', expected one that begins with /"),
    (":1=tcp://a:1?check=http&check-status=99", "has status 99, expected 100 to 599"),
    (":1=tcp://a:1?check-interval=0", "has interval 0s, expected 0.1 or more"),
    (":1=tls://a:1?cert-key=/k", "has cert_key without cert"),
    (":1=tls://a:1?verify=off&ca=/c", "has verify off"),
    (":1=tcp://a:1?listen-cert=/c&listen-names=a", "has names without client_ca"),
]


@pytest.mark.parametrize(("word", "text"), WRONG)
def test_a_wrong_word_says_what_is_wrong_and_what_to_write(word: str, text: str) -> None:
    with pytest.raises(WrongSettings, match=re.escape(text)) as caught:
        read_route(word)
    assert "; " in str(caught.value) or "expected" in str(caught.value)


WRONG += [
    (":1=http://a?tiemout=5", "?tiemout is unknown; did you mean timeout?"),
    (":1=tcp://a:1?max-body=5", "?max-body is unknown; it is for http:// and https://"),
    (":1=http://a?hash=md5", "?hash is unknown; it is for redis://"),
    (":1=http://a?auth-api-keys=k", "?auth-api-keys holds a secret in plain text; give auth-api-keys-file"),
    (":1=http://a?auth-basic-users-file=/none", "?auth-basic-users_file is '/none', which cannot be read"),
    (":1=http://a?retry-tries=x", "?retry-tries is 'x', expected a whole number"),
    (":1=http://u@a", "has a user or a password alone; write USER:PASSWORD@"),
    (":1=http://a?path=/v1", "?path is unknown"),
    (":1=http://a:x", "has a port that is no number; write HOST:PORT"),
    (":1=https://a,http://b", "mixes https:// with 'http://b'"),
]

SECRETS = [
    ":1=http://bot:hun/ter2@a",
    ":1=http://bot:hunter2@a?timeout=x",
    ":1=https://bot:hunter2@a:x",
    ":1=http://bot:hunter2@a?credential-api-key-file=/etc/hostname",
    ":1=http://a?credential-api-key=hunter2",
    ":1=redis://bot:hunter2@a?password_file=/x",
    ":1=redis://bot:hunter2@a?password=hunter2",
    ":1=redis://a?client-password=hunter2",
    ":1=rdis://bot:hunter2@a",
    ":1=redis://bot:hunter2@a,",
    ":1=redis://bot:hunter2@a?hash=md6",
    ":1=redis://bot:hun/ter2@a?hash=md6",
]


@pytest.mark.parametrize("word", SECRETS)
def test_no_error_says_a_secret(word: str) -> None:
    with pytest.raises(WrongSettings) as caught:
        read_route(word)
    assert "ter2" not in str(caught.value)


def test_a_user_and_a_password_may_stand_in_the_url_and_are_shown_nowhere() -> None:
    listener = read_route(":1=rediss://bot:p%40ss@cache")
    assert listener.redis is not None
    assert listener.redis.user == "bot"
    assert listener.redis.password is not None
    assert listener.redis.password.reveal() == "p@ss"
    assert "p@ss" not in repr(listener)


def test_a_user_and_a_password_of_an_http_upstream_are_sent_to_it_and_shown_nowhere() -> None:
    listener = read_route(":1=https://bot:p%40ss@api.example/v1")
    assert listener.http and listener.http.credential and listener.http.credential.basic
    assert listener.http.credential.basic.user == "bot"
    assert listener.http.credential.basic.password.reveal() == "p@ss"
    assert [each.address for each in listener.upstreams] == ["api.example:443"]
    assert "p@ss" not in repr(listener)


def test_secrets_of_http_come_from_files_one_of_each_part(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("s3cret")
    words = ["auth-api-keys", "auth-basic-users", "auth-bearer-tokens", "auth-jwt-secret", "credential-hmac-key"]
    options = "&".join(f"{word}-file={tmp_path}/s" for word in words)
    http = read_route(f":1=http://a?{options}&auth-api-keys-query=key&credential-hmac-key-id=us").http
    assert http and http.auth and http.credential and http.credential.hmac
    assert http.auth.api_keys and http.auth.basic and http.auth.bearer and http.auth.jwt and http.auth.jwt.secret
    secrets = (
        http.auth.api_keys.keys, http.auth.basic.users, http.auth.bearer.tokens, http.auth.jwt.secret,
        http.credential.hmac.key,
    )  # fmt: skip
    assert [each.reveal() for each in secrets] == ["s3cret"] * 5
    assert (http.auth.api_keys.query, http.credential.hmac.key_id) == ("key", "us")


hosts = st.one_of(
    st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z]{1,5}){0,3}\Z"),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda ip: f"[{ip}]"),
)
servers = st.lists(
    st.tuples(hosts, st.integers(1, 65535), st.integers(1, 1000)), min_size=1, max_size=5, unique_by=lambda one: one[:2]
)


@settings(max_examples=50)
@given(servers, st.sampled_from(["tcp", "redis", "http"]))
def test_servers_are_read_as_they_are_written(written: list[tuple[str, int, int]], scheme: str) -> None:
    text = ",".join(f"{host}:{port}:{weight}" for host, port, weight in written)
    listener = read_route(f":1={scheme}://{text}")
    assert [(each.address, each.weight) for each in listener.upstreams] == [
        (f"{host}:{port}", weight) for host, port, weight in written
    ]


@settings(max_examples=40)
@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_is_a_listener_or_an_error_that_can_be_read(head: str, query: str) -> None:
    for word in (
        head,
        f":1=tcp://{head}",
        f":1=redis://a?{query}",
        f":1=http://{head}?{query}",
        f":1=tcp://a:1?{head}={query}",
    ):
        try:
            assert read_route(word).upstreams
        except WrongSettings as error:
            assert str(error)
