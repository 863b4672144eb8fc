from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from hypothesis import given
from hypothesis import strategies as st

from sidecars.ambassador.admission import Alone, Shared
from sidecars.ambassador.http import users
from sidecars.ambassador.http.guarding import Guard
from sidecars.ambassador.http.renewing import Renewed
from sidecars.ambassador.http.request import Refusal, Request
from sidecars.ambassador.http.settings import (
    ApiKeys,
    Auth,
    Basic,
    Bearer,
    Credential,
    HeaderRule,
    HmacCredential,
    Http,
    PathRewrite,
    RateLimit,
)
from sidecars.ambassador.plan import Route
from sidecars.ambassador.settings import Listener, Upstream
from sidecars.core.units import Bytes, Secret


def guard(http: Http, admission: Any = None) -> Guard:
    return Guard(":8080", http, admission or Alone(), lambda outcome: None)


def request(
    method: str = "GET", target: bytes = b"/", headers: dict[str, str] | list[tuple[bytes, bytes]] | None = None,
    length: int | None = 0, client: str = "127.0.0.1",
) -> Request:  # fmt: skip
    pairs = headers if isinstance(headers, list) else [(k.encode(), v.encode()) for k, v in (headers or {}).items()]
    made = Request(method, target, [(b"Host", b"a"), *pairs], length)
    made.client = client
    return made


def refused(http: Http, asked: Request) -> Refusal | None:
    headers, target = list(asked.headers), asked.target
    answer = guard(http).check(asked)
    assert answer is None or isinstance(answer, Refusal)
    if answer:
        assert (asked.headers, asked.target) == (headers, target), "a refused request stays as it was"
    return answer


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


KEYS = Http(auth=Auth(api_keys=ApiKeys(keys=Secret("shop k-shop\nk-bare\n"), query="key")))
USERS = Http(
    auth=Auth(basic=Basic(users=Secret(f"ann:p:w\nbob:sha256:{hashlib.sha256(b'secret').hexdigest()}\n"), realm="r"))
)
TOKENS = Http(auth=Auth(bearer=Bearer(tokens=Secret("ci t-ci\nt-bare"))))
FORBIDDEN = Http(headers=(HeaderRule(name="X-Admin", forbidden=True),))
DEBUG = Http(headers=(HeaderRule(name="X-Debug", forbidden=True, matches="(?i)on|1"),))
TENANT = Http(headers=(HeaderRule(name="X-Tenant", matches="[a-z]{1,8}"),))
KEY = {"X-API-Key": "k-shop"}
SIGNED = Http(credential=Credential(hmac=HmacCredential(key=Secret("k"))), signed_body=Bytes(5))


@pytest.mark.parametrize(
    ("http", "asked", "status", "rule"),
    [
        (Http(), request("PUT"), 0, ""),
        (Http(), request("CONNECT"), 405, "method"),
        (Http(), request("TRACE"), 405, "method"),
        (Http(methods=("GET", "HEAD")), request("HEAD"), 0, ""),
        (Http(methods=("GET", "HEAD")), request("POST"), 405, "method"),
        (Http(max_url=Bytes(16)), request(target=b"/" + b"a" * 15), 0, ""),
        (Http(max_url=Bytes(16)), request(target=b"/?" + b"a" * 15), 414, "url_size"),
        (Http(max_body=Bytes(10)), request("POST", length=10), 0, ""),
        (Http(max_body=Bytes(10)), request("POST", length=11), 413, "body_size"),
        (Http(max_body=Bytes(10)), request("POST", length=None), 0, ""),
        (SIGNED, request("POST", length=6), 413, "body_size"),
        (SIGNED, request("POST", length=5), 0, ""),
        (Http(paths=("/v1/**",)), request(target=b"/v1/a?../x"), 0, ""),
        (Http(paths=("/v1/**",)), request(target=b"/v2/a"), 403, "path"),
        (Http(paths=("/v1/**",)), request(target=b"/v1/../admin"), 403, "path"),
        (Http(paths=("/v1/**",)), request(target=b"/v1/%2e%2e/admin"), 403, "path"),
        (Http(paths=("/v1/**",)), request(target=b"/v1/%2f../admin"), 400, "path"),
        (Http(paths=("/v1/**",)), request("OPTIONS", target=b"*"), 403, "path"),
        (Http(rewrite=(PathRewrite(prefix="/a", to="/b"),)), request(target=b"/a//b"), 400, "path"),
        (Http(), request(target=b"/a//b"), 0, ""),
        (FORBIDDEN, request(), 0, ""),
        (FORBIDDEN, request(headers={"x-admin": ""}), 403, "header"),
        (FORBIDDEN, request(headers={"X_Admin": "1"}), 403, "header"),
        (DEBUG, request(headers={"X-Debug": "off"}), 0, ""),
        (DEBUG, request(headers={"X-Debug": "ON"}), 403, "header"),
        (DEBUG, request(headers=[(b"X-Debug", b"off"), (b"X-Debug", b"1")]), 403, "header"),
        (DEBUG, request(headers={"X-Debug": "x" * 9000}), 403, "header"),
        (TENANT, request(), 400, "header"),
        (TENANT, request(headers={"x-tenant": "shop"}), 0, ""),
        (TENANT, request(headers={"x-tenant": "shop\n"}), 400, "header"),
        (TENANT, request(headers={"x-tenant": "SHOP"}), 400, "header"),
        (TENANT, request(headers={"x-tenant": "shop", "X_Tenant": "2"}), 400, "header"),
        (TENANT, request(headers={"X_Tenant": "shop"}), 400, "header"),
        (TENANT, request(headers=[(b"X-Tenant", b"shop"), (b"X-Tenant", b"2")]), 400, "header"),
        (Http(headers=(HeaderRule(name="X-A"),)), request(headers=[(b"X-A", b"\xff")]), 0, ""),
        (KEYS, request(), 401, "api_key"),
        (KEYS, request(headers={"x-api-key": "k-shop"}), 0, ""),
        (KEYS, request(headers={"x-api-key": "k-sho"}), 401, "api_key"),
        (KEYS, request(headers={"x-api-key": ""}), 401, "api_key"),
        (KEYS, request(headers=[(b"X-API-Key", b"k-shop"), (b"x-api-key", b"k-shop")]), 401, "api_key"),
        (KEYS, request(target=b"/?key=k-bare"), 0, ""),
        (KEYS, request(target=b"/?a=1&k%65y=k%2Dbare"), 0, ""),
        (KEYS, request(target=b"/?key=k-bare&key=x"), 401, "api_key"),
        (KEYS, request(target=b"/?key=k-bare", headers={"X-API-Key": "wrong"}), 401, "api_key"),
        (USERS, request(), 401, "basic"),
        (USERS, request(headers=basic("ann", "p:w")), 0, ""),
        (USERS, request(headers=basic("bob", "secret")), 0, ""),
        (USERS, request(headers=basic("bob", "Secret")), 401, "basic"),
        (USERS, request(headers=basic("eve", "p:w")), 401, "basic"),
        (USERS, request(headers=basic("ann", "")), 401, "basic"),
        (USERS, request(headers={"Authorization": "Basic !!!"}), 401, "basic"),
        (USERS, request(headers={"Authorization": "Basic"}), 401, "basic"),
        (USERS, request(headers={"Authorization": "Basic " + base64.b64encode(b"ann").decode()}), 401, "basic"),
        (USERS, request(headers={"Authorization": "Bearer t"}), 401, "basic"),
        (TOKENS, request(), 401, "bearer"),
        (TOKENS, request(headers={"Authorization": "bearer  t-ci "}), 0, ""),
        (TOKENS, request(headers={"Authorization": "Bearer t-CI"}), 401, "bearer"),
        (TOKENS, request(headers=[(b"Authorization", b"Bearer t-ci")] * 2), 401, "bearer"),
    ],
)  # fmt: skip
def test_a_rule_refuses_what_it_is_there_for(http: Http, asked: Request, status: int, rule: str) -> None:
    answer = refused(http, asked)
    assert (answer.status if answer else 0, answer.rule if answer else "") == (status, rule)
    if answer:
        names = [name for name, _ in answer.headers]
        assert (b"WWW-Authenticate" in names) == (status == 401)
        assert (b"Allow" in names) == (status == 405)
        assert answer.text.isascii()
        assert len(answer.text) < 120
        assert not {"k-shop", "k-sho", "p:w", "t-ci"} & {answer.text, answer.detail}


def test_what_let_a_client_in_is_not_passed_on_and_the_rest_is() -> None:
    asked = request(target=b"/a?x=1&key=k-bare&y=%2F", headers={"Authorization": "Bearer theirs"})
    assert guard(KEYS).check(asked) is None
    assert asked.target == b"/a?x=1&y=%2F"
    assert asked.get(b"authorization") == [b"Bearer theirs"]
    assert asked.user == "key-2"
    asked = request(target=b"/a?key=k-bare", headers=KEY)
    assert guard(KEYS).check(asked) is None
    assert (asked.target, asked.headers, asked.user) == (b"/a", [(b"Host", b"a")], "shop")
    asked = request(headers=basic("ann", "p:w"))
    assert guard(USERS).check(asked) is None
    assert (asked.headers, asked.user) == ([(b"Host", b"a")], "ann")


def test_one_of_several_ways_is_enough_and_a_refusal_names_them_all() -> None:
    auth = Auth(
        api_keys=ApiKeys(keys=Secret("k")), basic=Basic(users=Secret("a:b")), bearer=Bearer(tokens=Secret("ci t"))
    )
    both = Http(auth=auth)
    assert refused(both, request(headers={"Authorization": "Bearer t"})) is None
    assert refused(both, request(headers={"Authorization": "Bearer t", "X-API-Key": "wrong"})) is None
    answer = refused(both, request())
    assert answer
    assert [value.split()[0] for name, value in answer.headers] == [b"ApiKey", b"Basic", b"Bearer"]
    assert "X-API-Key" in answer.text and "password" in answer.text


def test_the_path_is_passed_on_in_its_normal_form() -> None:
    asked = request(target=b"/v1/x/../%61?q=../%61")
    assert guard(Http(paths=("/v1/**",))).check(asked) is None
    assert asked.target == b"/v1/a?q=../%61"
    asked = request(target=b"/v1/x/../%61")
    assert guard(Http()).check(asked) is None
    assert asked.target == b"/v1/x/../%61"


def test_nothing_goes_above_the_path_that_an_upstream_has() -> None:
    listener = Listener(listen=":1", upstreams=(Upstream(address="a:1", path="/v1"),), http=Http())
    one = guard(Http())
    one.update(Route(listener))
    answer = one.check(request(target=b"/../admin"))
    assert isinstance(answer, Refusal)
    assert (answer.status, answer.rule) == (400, "path")
    asked = request(target=b"/a/../b")
    assert one.check(asked) is None
    assert asked.target == b"/b"


def test_a_rate_limit_counts_each_key_by_itself() -> None:
    one = guard(Http(rate_limit=RateLimit(rate=0.01, burst=2)))
    assert [one.check(request(client="10.0.0.1")) for _ in range(2)] == [None, None]
    answer = one.check(request(client="10.0.0.1"))
    assert isinstance(answer, Refusal)
    assert (answer.status, answer.rule) == (429, "rate_limit")
    ((name, seconds),) = answer.headers
    assert name == b"Retry-After"
    assert 1 <= int(seconds) <= 100
    assert one.check(request(client="10.0.0.2")) is None


@pytest.mark.parametrize(
    ("key", "first", "other"),
    [
        ("header:X-Tenant", request(headers={"x-tenant": "a"}), request(headers={"X-Tenant": "b"})),
        ("user", request(headers=KEY), request(headers={"X-API-Key": "k-bare"})),
    ],
)
def test_a_rate_limit_may_be_by_header_or_user(key: str, first: Request, other: Request) -> None:
    auth = KEYS.auth if key == "user" else None
    one = guard(Http(rate_limit=RateLimit(rate=0.01, burst=1, key=key), auth=auth))
    again = Request("GET", b"/", list(first.headers), 0)
    assert one.check(first) is None
    assert getattr(one.check(again), "status", 0) == 429
    assert one.check(other) is None


def test_who_guesses_keys_is_slowed_down_but_strangers_do_not_use_up_what_is_for_those_let_in() -> None:
    guessing = guard(Http(auth=KEYS.auth, rate_limit=RateLimit(rate=0.01, burst=2)))
    answers = [guessing.check(request(headers={"X-API-Key": f"guess-{n}"})) for n in range(3)]
    assert [getattr(each, "status", 0) for each in answers] == [401, 401, 429]
    shared = guard(Http(auth=KEYS.auth, rate_limit=RateLimit(rate=0.01, burst=1, key="listener")))
    assert [getattr(shared.check(request()), "status", 0) for _ in range(3)] == [401] * 3
    assert shared.check(request(headers=KEY)) is None


def test_many_keys_take_no_more_memory_and_processes_share_the_limit() -> None:
    memory = Shared.memory(2)
    one, two = (Shared(memory, 2, index) for index in range(2))
    http = Http(rate_limit=RateLimit(rate=0.01, burst=2, key="header:X-T"))
    first, second = guard(http, one), guard(http, two)
    assert first.check(request(headers={"X-T": "a"})) is None
    assert second.check(request(headers={"X-T": "a"})) is None
    assert getattr(first.check(request(headers={"X-T": "a"})), "status", 0) == 429
    assert one._rows == {}
    os.close(memory)


@given(st.lists(st.integers(1, 2**64 - 1), max_size=50))
def test_a_key_is_never_refused_its_first_request(names: list[int]) -> None:
    alone = Alone()
    for name in dict.fromkeys(names):
        assert alone.may_ask(name, 1.0, 1) == 0.0


def test_a_secret_is_taken_up_when_its_file_is_swapped_and_a_broken_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("old\n")
    renewed = Renewed(Secret(file=str(file)), users.keys, {}, look=0.0)

    def names(text: str) -> list[str]:
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").rename(file)
        return list(renewed.get().values())

    assert names("a x") == ["a"]
    assert names("b x\nc y") == ["b", "c"]
    with structlog.testing.capture_logs() as logs:
        assert names("what is this") == ["b", "c"]
        assert names("what is this") == ["b", "c"]
        assert [(each["event"], each["error"]) for each in logs] == [
            ("secret not taken", "line 1 has more than two words; write KEY, or NAME KEY")
        ]
    file.unlink()
    assert list(renewed.get().values()) == ["b", "c"]


@pytest.mark.parametrize(
    ("read", "text", "said"),
    [
        (users.keys, "a\nb c d", "line 2 has more than two words"),
        (users.keys, "\n \n", "has no key"),
        (users.tokens, "", "has no token"),
        (users.passwords, "ann", "line 1 is not USER:PASSWORD"),
        (users.passwords, "ann:", "line 1 is not"),
        (users.passwords, ":x", "line 1 is not"),
        (users.passwords, "ann:sha256:12", "line 1 has sha256: without 64"),
        (users.passwords, "", "has no user"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(read: Any, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read(text)
