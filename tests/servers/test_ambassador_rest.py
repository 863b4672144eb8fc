"""Keys by HTTP: the REST view over two real Redis servers, met by raw requests."""

from __future__ import annotations

import itertools
import json
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.servers.ambassador import Ambassador, configured, running
from tests.servers.ambassador_http import Client, client, request
from tests.servers.redis_server import RedisServer, needs_redis

pytestmark = needs_redis


def listener(*shards: RedisServer, listen: str = "127.0.0.1:0", mode: Any = (), **http: Any) -> dict[str, Any]:
    upstreams = [{"address": shard.path, "name": f"shard-{index}"} for index, shard in enumerate(shards)]
    return {"listen": listen, "upstreams": upstreams, "redis": dict(mode), "http": http}


class Shards:
    """Two servers, and an ambassador with a view of them as it comes, and one with rules."""

    plain = "127.0.0.1:0"
    ruled = "127.0.0.2:0"

    def __init__(self, servers: tuple[RedisServer, RedisServer], ambassador: Ambassador) -> None:
        self.servers = servers
        self.ambassador = ambassador

    def holding(self, key: bytes) -> list[bytes]:
        """What the servers have for a key."""
        found = []
        for server in self.servers:
            with redis.Redis(unix_socket_path=server.path) as asked:
                found.append(asked.get(key))
        return [value for value in found if value is not None]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shards]:
    folder = tmp_path_factory.mktemp("rest")
    keys = folder / "keys"
    keys.write_text("cart letmein\n")
    rules = {
        "auth": {"api_keys": {"keys_file": str(keys)}},
        "methods": ["GET", "HEAD", "PUT"],
        "paths": ["/keys/cart/**", "/openapi.json"],
        "max_body": "2MiB",
    }
    with RedisServer() as one, RedisServer() as two:
        flag = configured(folder / "config.json", listener(one, two), listener(one, two, listen=Shards.ruled, **rules))
        with running(flag) as ambassador:
            yield Shards((one, two), ambassador)


@pytest.fixture
def view(shards: Shards) -> Iterator[Client]:
    with client(shards.ambassador.connect(Shards.plain)) as one:
        yield one


@pytest.fixture
def ruled(shards: Shards) -> Iterator[Client]:
    with client(shards.ambassador.connect(Shards.ruled)) as one:
        yield one


# ------------------------------------------------------------------------------------------------ keys and values


def test_a_value_is_kept_given_and_removed(view: Client) -> None:
    assert view.ask("/keys/tea", "PUT", b"green").status == 204
    got = view.ask("/keys/tea")
    assert (got.status, got.body, got.get(b"x-ttl")) == (200, b"green", None)
    assert got.get(b"content-type") == b"application/octet-stream"
    assert got.get(b"x-content-type-options") == b"nosniff"
    looked = view.ask("/keys/tea", "HEAD")
    assert (looked.status, looked.get(b"content-length"), looked.body) == (200, b"5", b"")
    assert view.ask("/keys/tea", "DELETE").status == 204
    assert [view.ask("/keys/tea", method).status for method in ("GET", "HEAD", "DELETE")] == [404, 404, 404]


def test_keys_are_on_both_shards_as_a_redis_client_finds_them(shards: Shards, view: Client) -> None:
    for number in range(40):
        view.send(request(f"/keys/{number}:both", "PUT", b"%d" % number))
    assert [view.read().status for _ in range(40)] == [204] * 40
    there = [set(server.client().keys("*:both")) for server in shards.servers]
    assert all(there) and not there[0] & there[1]
    assert there[0] | there[1] == {f"{number}:both" for number in range(40)}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.binary(min_size=1, max_size=40), value=st.binary(max_size=200))
def test_any_bytes_are_keys_and_values(shards: Shards, view: Client, key: bytes, value: bytes) -> None:
    path = f"/keys/{quote_from_bytes(key, safe='')}"
    assert view.ask(path, "PUT", value).status == 204
    assert shards.holding(key) == [value]
    assert view.ask(path).body == value
    assert view.ask(path, "DELETE").status == 204
    assert shards.holding(key) == []


def test_a_slash_may_stand_in_a_key_as_it_is(shards: Shards, view: Client) -> None:
    assert view.ask("/keys/users/7/name", "PUT", b"ada").status == 204
    assert shards.holding(b"users/7/name") == [b"ada"]
    assert view.ask("/keys/users%2f7%2Fname").body == b"ada"


def test_a_value_of_a_megabyte_comes_back_whole(view: Client) -> None:
    value = bytes(range(256)) * 4096
    assert view.ask("/keys/large", "PUT", value).status == 204
    assert view.ask("/keys/large").body == value
    assert view.ask("/keys/large", "PUT", b"small").status == 204


# -------------------------------------------------------------------------------------------- how long, and if at all


@pytest.mark.parametrize(
    ("target", "headers"),
    [("/keys/short?ttl=60", {}), ("/keys/short", {"x_ttl": "60"}), ("/keys/short?ttl=59.9995", {})],
)
def test_a_value_with_a_time_to_live_tells_how_much_is_left(view: Client, target: str, headers: dict[str, str]) -> None:
    assert view.ask(target, "PUT", b"x", **headers).status == 204
    left = view.ask("/keys/short").get(b"x-ttl")
    assert left is not None and re.fullmatch(rb"\d+\.\d{3}", left) and 0 < float(left) <= 60
    assert view.ask("/keys/short", "PUT", b"x").status == 204
    assert view.ask("/keys/short").get(b"x-ttl") is None


def test_a_value_is_gone_when_its_time_is_over(shards: Shards, view: Client) -> None:
    assert view.ask("/keys/gone?ttl=0.001", "PUT", b"x").status == 204
    shards.ambassador.until(lambda: view.ask("/keys/gone").status == 404)


@pytest.mark.parametrize(
    ("target", "headers", "said"),
    [
        ("/keys/a?ttl=soon", {}, b"the ttl is 'soon', expected seconds"),
        ("/keys/a?ttl=0", {}, b"the ttl is '0'"),
        ("/keys/a?ttl=-1", {}, b"the ttl is '-1'"),
        ("/keys/a?ttl=1e3", {}, b"the ttl is '1e3'"),
        ("/keys/a?ttl=99999999999", {}, b"up to 10000000000"),
        ("/keys/a?ttl=1&ttl=2", {}, b"is given twice"),
        ("/keys/a?ttl=1", {"x_ttl": "1"}, b"is given twice"),
        ("/keys/a?tll=1", {}, b"there is no parameter 'tll'"),
        ("/keys/a", {"if_match": '"tag"'}, b"can only be *"),
        ("/keys/a", {"if_match": "*", "if_none_match": "*"}, b"go not together"),
        ("/keys/%zz", {}, b"a % that is no escape"),
        ("/keys/a%4", {}, b"a % that is no escape"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_kept(
    view: Client, target: str, headers: dict[str, str], said: bytes
) -> None:
    got = view.ask(target, "PUT", b"x", **headers)
    assert (got.status, said in got.body) == (400, True), got
    assert view.ask("/keys/a").status == 404


def test_a_key_is_only_made_or_only_changed_when_that_is_asked_for(view: Client) -> None:
    assert view.ask("/keys/lock", "PUT", b"0", if_match="*").status == 412
    assert view.ask("/keys/lock?ttl=60", "PUT", b"1", if_none_match="*").status == 201
    assert view.ask("/keys/lock", "PUT", b"2", if_none_match="*").status == 412
    assert view.ask("/keys/lock").body == b"1"
    assert view.ask("/keys/lock", "PUT", b"3", if_match="*").status == 204
    assert view.ask("/keys/lock", "DELETE").status == 204


# ---------------------------------------------------------------------------------------------------- what is refused


def test_other_methods_and_paths_are_told_what_there_is(view: Client) -> None:
    got = view.ask("/keys/a", "POST", b"x")
    assert (got.status, got.get(b"allow")) == (405, b"GET, HEAD, PUT, DELETE")
    got = view.ask("/openapi.json", "DELETE")
    assert (got.status, got.get(b"allow")) == (405, b"GET, HEAD")
    assert [view.ask(path).status for path in ("/", "/keys", "/keys/", "/key/a")] == [404] * 4


def test_a_body_over_the_limit_is_refused_and_nothing_is_kept(shards: Shards, view: Client) -> None:
    got = view.ask("/keys/toolarge", "PUT", content_length=str(1024 * 1024 + 1))
    assert got.status == 413
    assert shards.holding(b"toolarge") == []


def test_a_value_that_others_have_made_too_long_is_not_given(shards: Shards, view: Client) -> None:
    with client(shards.ambassador.connect(Shards.ruled)) as ruled:
        kept = ruled.ask("/keys/cart/long", "PUT", b"x" * (1024 * 1024 + 1), x_api_key="letmein")
    assert kept.status == 204
    got = view.ask("/keys/cart/long")
    assert got.status == 502 and b"the limit is http.max_body" in got.body
    assert view.ask("/keys/cart/long", "DELETE").status == 204


def test_what_is_no_string_is_a_conflict(shards: Shards, view: Client) -> None:
    for server in shards.servers:
        server.client().rpush("list", "x")
    assert view.ask("/keys/list").status == 409
    assert view.ask("/keys/list", "PUT", b"now a string").status == 204


def test_rules_stand_before_the_keys(shards: Shards, ruled: Client) -> None:
    key = {"x_api_key": "letmein"}
    assert ruled.ask("/keys/cart/a", "PUT", b"x").status == 401
    assert shards.holding(b"cart/a") == []
    assert ruled.ask("/keys/cart/a", "PUT", b"x", **key).status == 204
    assert ruled.ask("/keys/cart/a", "DELETE", **key).status == 405
    assert ruled.ask("/keys/other", **key).status == 403
    assert ruled.ask("/keys/cart/../other", **key).status == 403
    assert ruled.ask("/keys/cart/a", **key).body == b"x"
    for rule, count in {"api_key": 1, "method": 1, "path": 2}.items():
        assert shards.ambassador.sum("http_refused_total", listener=Shards.ruled, rule=rule) == count


# ----------------------------------------------------------------------------------------------- what it says it is


@pytest.mark.parametrize("name", ["plain", "ruled"])
def test_the_document_is_openapi(shards: Shards, name: str) -> None:
    with client(shards.ambassador.connect(getattr(Shards, name))) as one:
        got = one.ask("/openapi.json", x_api_key="letmein")
    document = json.loads(got.body)
    OpenAPIV31SpecValidator(document).validate()
    assert got.get(b"content-type") == b"application/json"
    assert set(document["paths"]["/keys/{key}"]) == {"parameters", "get", "head", "put", "delete"}
    schemes = document["components"].get("securitySchemes", {})
    assert [each["name"] for each in schemes.values()] == (["X-API-Key"] if name == "ruled" else [])


def test_requests_and_commands_are_counted(shards: Shards, view: Client) -> None:
    view.ask("/keys/counted", "PUT", b"x")
    view.ask("/keys/counted")
    ambassador = shards.ambassador
    assert ambassador.sum("redis_command_seconds_count", listener=Shards.plain, command="set") >= 1
    assert ambassador.sum("redis_command_seconds_count", listener=Shards.plain, command="pttl") >= 1
    assert ambassador.sum("http_requests_total", listener=Shards.plain, **{"class": "2xx"}) >= 2
    assert ambassador.sum("received_bytes_total", listener=Shards.plain) > 0


# ---------------------------------------------------------------------------------------------- a shard that is down


def test_keys_of_a_dead_shard_are_503_until_it_is_back_and_those_of_the_other_are_served(tmp_path: Path) -> None:
    with RedisServer() as one, RedisServer() as two:
        made = listener(one, two, mode={"on_failure": "fail"}) | {"eject": {"time": "0.2s", "max_time": "0.5s"}}
        with running(configured(tmp_path / "config.json", made)) as ambassador, client(ambassador.connect()) as view:
            keys = [f"/keys/{number}" for number in range(20)]
            assert {view.ask(key, "PUT", key.encode()).status for key in keys} == {204}
            lost = {f"/keys/{name}" for name in two.client().keys("*")}
            assert lost and len(lost) < len(keys)
            two.kill()
            for key in keys * 2:
                got = view.ask(key)
                assert got.status == (503 if key in lost else 200), got
                assert got.get(b"retry-after") == (b"1" if key in lost else None)
            two.restart()
            ambassador.until(lambda: {view.ask(key).status for key in lost} == {404})
            assert {view.ask(key, "PUT", b"again").status for key in keys} == {204}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_answer_is_somebody_elses_while_shards_are_killed(tmp_path: Path, workers: str) -> None:
    with RedisServer() as one, RedisServer() as two:
        made = listener(one, two, mode={"on_failure": "fail"}) | {"eject": {"time": "0.1s", "max_time": "0.2s"}}
        flag = configured(tmp_path / "config.json", made)
        with running(flag, f"--workers={workers}") as ambassador:
            done = threading.Event()

            def failing() -> float:
                return ambassador.sum("http_requests_total", **{"class": "5xx"})

            def calling(number: int) -> tuple[set[int], set[bytes]]:
                statuses, wrong = set(), set()
                with client(ambassador.connect()) as view:
                    for turn in itertools.count():
                        key, value = f"/keys/{number}-{turn % 20}", b"%d:%d" % (number, turn) * (1 + turn % 7 * 500)
                        kept = view.ask(key, "PUT", value)
                        got = view.ask(key)
                        statuses |= {kept.status, got.status}
                        if kept.status == 204 and got.status == 200 and got.body != value:
                            wrong.add(got.body[:40])
                        if done.is_set():
                            return statuses, wrong

            with ThreadPoolExecutor(8) as pool:
                callers = [pool.submit(calling, number) for number in range(8)]
                try:
                    for server in (one, two, one):
                        before = failing()
                        server.kill()
                        ambassador.until(lambda before=before: failing() > before)
                        server.restart()
                finally:
                    done.set()
            results = [caller.result() for caller in callers]
            assert set().union(*(wrong for _, wrong in results)) == set()
            assert set().union(*(statuses for statuses, _ in results)) <= {200, 204, 404, 503, 504}
            ambassador.until(lambda: ambassador.sum("redis_upstream_queue") == 0)


def test_a_shard_that_says_nothing_is_504_and_its_client_goes_on(tmp_path: Path) -> None:
    with RedisServer() as one:
        made = listener(one, mode={"timeout": "1s"}) | {"eject": {"failures": 0}}
        with running(configured(tmp_path / "config.json", made)) as ambassador, client(ambassador.connect()) as view:
            ambassador.until(lambda: view.ask("/keys/a", "PUT", b"x").status == 204)
            one.process.send_signal(signal.SIGSTOP)
            assert view.ask("/keys/a", "PUT", b"y").status == 504
            one.process.send_signal(signal.SIGCONT)
            ambassador.until(lambda: view.ask("/keys/a").status == 200)


def test_a_client_that_goes_away_leaves_nothing_behind(shards: Shards) -> None:
    for _ in range(20):
        with client(shards.ambassador.connect(Shards.plain)) as one:
            one.send(request("/keys/away", "PUT", b"x") + request("/keys/away") * 3)
    ambassador = shards.ambassador
    ambassador.until(lambda: ambassador.sum("http_in_flight", listener=Shards.plain) == 0)
    ambassador.until(lambda: ambassador.sum("redis_upstream_queue", listener=Shards.plain) == 0)
    with client(ambassador.connect(Shards.plain)) as one:
        assert one.ask("/keys/away").body == b"x"


def test_a_listener_of_redis_becomes_one_of_keys_by_http_and_its_clients_stay(tmp_path: Path) -> None:
    with RedisServer() as one:
        path = tmp_path / "config.json"
        made = {key: value for key, value in listener(one).items() if key != "http"}
        with running(configured(path, made)) as ambassador, ambassador.connect() as before:
            before.sendall(b"SET tea green\r\n")
            assert before.recv(100) == b"+OK\r\n"
            configured(path, {**made, "http": {"max_body": "5"}})
            ambassador.process.send_signal(signal.SIGHUP)
            ambassador.wait_for("settings reloaded", 30)
            with client(ambassador.connect()) as view:
                assert view.ask("/keys/tea").body == b"green"
                before.sendall(b"GET tea\r\n")
                assert before.recv(100) == b"$5\r\ngreen\r\n"
                configured(path, {**made, "http": {"max_body": "4"}})
                ambassador.process.send_signal(signal.SIGHUP)
                ambassador.until(lambda: view.ask("/keys/tea", "PUT", b"black").status == 413)
                ambassador.process.send_signal(signal.SIGTERM)
                assert view.ended
            before.close()
            assert ambassador.process.wait(30) == 0


def test_it_is_one_word_of_the_command_line() -> None:
    with (
        RedisServer() as one,
        running(f":0=http+redis://{one.path}?http-max-body=10") as ambassador,
        client(ambassador.connect()) as view,
    ):
        assert view.ask("/keys/a", "PUT", b"0123456789").status == 204
        assert view.ask("/keys/a", "PUT", b"0123456789a").status == 413
