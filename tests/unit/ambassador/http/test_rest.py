"""The REST view's pure parts: what requests ask for, and what replies become."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.ambassador.http import rest
from sidecars.ambassador.http.settings import (
    BearerCredential,
    Credential,
    HeaderChanges,
    Http,
    PathRewrite,
)
from sidecars.ambassador.settings import ClientTls, Listener, Redis, ServerTls, Upstream
from sidecars.core.units import Secret


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", 409),
        (b"-ERR Connection timed out\r\n", 504),
        (b"-ERR Host is down\r\n", 503),
        (b"-ERR Connection refused\r\n", 503),
        (b"-LOADING Redis is loading the dataset in memory\r\n", 503),
        (b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", 503),
        (b"-READONLY You can't write against a read only replica.\r\n", 503),
        (b"-ERR the shard refuses the login: WRONGPASS\r\n", 502),
        (b"-NOPERM this user has no permissions\r\n", 502),
        (b"-\r\n", 502),
        (b"*0\r\n", 502),
        (b"", 502),
    ],
)
def test_what_a_shard_cannot_do_has_its_status(reply: bytes, status: int) -> None:
    answer = rest.failed(reply)
    assert answer.status == status
    assert ((b"Retry-After", b"1") in answer.headers) == (status == 503)
    assert reply.strip()[5:] not in answer.body or len(reply) < 8  # its words are not for clients


@given(st.binary())
def test_any_reply_becomes_an_error(reply: bytes) -> None:
    assert rest.failed(reply).status in (409, 502, 503, 504)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"redis": Redis(client_password=Secret("secret"))}, "give http.auth"),
        ({"http": Http(credential=Credential(bearer=BearerCredential(token=Secret("x"))))}, "has http.credential"),
        ({"http": Http(rewrite=(PathRewrite(prefix="/a", to="/b"),))}, "has http.rewrite"),
        ({"http": Http(request=HeaderChanges(remove=("X-A",)))}, "has http.request"),
        ({"http": Http(host="client")}, "has http.host"),
        ({"upstreams": (Upstream(address="a:6379", path="/v1"),)}, "a shard has none"),
    ],
)
def test_what_has_no_meaning_for_keys_is_refused(changes: dict[str, Any], said: str) -> None:
    fit = {"listen": ":8081", "upstreams": (Upstream(address="a:6379"),), "redis": Redis(), "http": Http()}
    Listener(**fit)
    with pytest.raises(ValueError, match=said):
        Listener(**{**fit, **changes})


def test_only_clients_are_told_that_http_is_spoken() -> None:
    tls = {"tls": ServerTls(cert="/tls/tls.pem")}
    upstream = Upstream(address="a:6379", tls=ClientTls())
    one = Listener(listen=":8081", upstreams=(upstream,), redis=Redis(), http=Http(), **tls)
    assert one.tls and one.tls.alpn == ("http/1.1",)
    assert one.upstreams == (upstream,)
