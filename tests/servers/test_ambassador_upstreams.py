"""The page about the upstreams, and the commands that let one rest."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.servers.ambassador import Ambassador, Upstream, configured, naming, received, running


@pytest.fixture
def pair() -> Iterator[tuple[Upstream, Upstream]]:
    """Two upstreams, which name themselves to whoever connects."""
    with Upstream(naming(b"a")) as a, Upstream(naming(b"b")) as b:
        yield a, b


@pytest.fixture(params=[1, 2])
def ambassador(request: pytest.FixtureRequest, pair: tuple[Upstream, Upstream]) -> Iterator[Ambassador]:
    """An ambassador before them, with one and with two workers."""
    target = ",".join(each.address for each in pair)
    with running(f":0=tcp://{target}", "--admin-post", f"--workers={request.param}") as ambassador:
        yield ambassador


def names(ambassador: Ambassador, count: int = 8) -> set[bytes]:
    """Who answers when so many connect."""
    said = set()
    for _ in range(count):
        with ambassador.connect() as client:
            said.add(received(client, 1))
    return said


def command(ambassador: Ambassador, word: str, upstream: Upstream | str) -> tuple[int, str]:
    address = upstream if isinstance(upstream, str) else upstream.address
    return ambassador.post(f"/upstreams/{word}?listener={quote(':0')}&upstream={quote(address)}")


def states(ambassador: Ambassador) -> dict[str, str]:
    return {row["address"]: row["state"] for row in ambassador.upstreams()}


def test_the_page_tells_each_upstream_and_what_goes_to_it(ambassador, pair):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(ambassador.connect()) for _ in range(4)]
        assert [len(received(client, 1)) for client in clients] == [1] * 4
        rows = ambassador.upstreams()
        assert {row["upstream"] for row in rows} == {each.address for each in pair}
        assert {row["state"] for row in rows} == {"up"}
        assert sum(row["connections"] for row in rows) == 4
        code, text = ambassador.ask("/upstreams")
        assert code == 200
        assert '"connect_p99_seconds"' in text
        status = ambassador.status()
        assert status["numbers"]["connections"] == 4
        assert len(status["tables"]["upstreams"]) == 2
        assert len(status["tables"]["connections"]) == 4


def test_a_drained_upstream_keeps_its_connections_and_gets_no_new_ones(ambassador, pair):
    a, b = pair
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(ambassador.connect()) for _ in range(8)]
        named = {received(client, 1): client for client in clients}
        assert command(ambassador, "drain", a) == (200, "draining\n")
        assert states(ambassador) == {a.address: "draining", b.address: "up"}
        assert names(ambassador) == {b"b"}
        if b"a" in named:  # with two workers, chance may have given all to the other
            named[b"a"].sendall(b"still there")
            assert received(named[b"a"], 11) == b"still there"
        assert command(ambassador, "enable", a)[0] == 200
        assert names(ambassador, 30) == {b"a", b"b"}


def test_a_disabled_upstream_loses_its_connections_at_once(ambassador, pair):
    a, _ = pair
    assert command(ambassador, "disable", pair[1])[0] == 200
    with ambassador.connect() as client:
        assert received(client, 1) == b"a"
        assert command(ambassador, "enable", pair[1])[0] == 200
        assert command(ambassador, "disable", a) == (200, "disabled\n")
        assert closed(client)
        assert names(ambassador) == {b"b"}
        assert states(ambassador)[a.address] == "disabled"


def closed(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.fixture(scope="module")
def shared() -> Iterator[Ambassador]:
    """One that is only asked."""
    with Upstream() as upstream, running(f":0=tcp://{upstream.address}", "--admin-post") as ambassador:
        yield ambassador


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        ("/upstreams/drain", 400, "?listener="),
        ("/upstreams/drain?listener=:0", 400, "?listener="),
        ("/upstreams/drain?listener=:0&upstream=a&upstream=b", 400, "?listener="),
        ("/upstreams/drain?listener=:0&upstream=nobody:1", 404, "upstream=127.0.0.1:"),
        ("/upstreams/drain?listener=:1&upstream=nobody:1", 404, "listener=:0"),
        ("/upstreams/melt?listener=:0&upstream=a", 404, "/upstreams/melt"),
        ("/upstreams", 405, "GET"),
    ],
)
def test_a_command_that_makes_no_sense_says_what_would(shared, path, code, said):
    answer = shared.post(path)
    assert answer[0] == code
    assert said in answer[1]


def test_commands_are_guarded_as_every_post_is(shared):
    path = "/upstreams/drain?listener=:0&upstream=x"
    assert shared.ask(path, "POST")[0] == 403
    assert shared.ask(path, "POST", {"X-Sidecars": "1", "Origin": "http://localhost"})[0] == 403
    assert shared.ask(path, "POST", {"X-Sidecars": "1", "Host": "ambassador.example"})[0] == 403
    assert shared.ask(path)[0] == 405


def test_commands_are_off_and_the_page_is_as_hidden_as_the_status_page_is(tmp_path):
    with Upstream() as upstream:
        config = configured(tmp_path / "c.json", {"listen": ":0", "upstreams": [{"address": upstream.address}]})
        with running(config, "--admin-pages=off") as ambassador:
            code, reason = command(ambassador, "drain", upstream)
            assert (code, "--admin-post" in reason) == (403, True)
            code, reason = ambassador.ask("/upstreams")
            assert (code, "--admin-pages" in reason) == (403, True)


def test_an_upstream_that_fails_is_shown_with_its_reason_and_when_it_comes_back(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as refusing:
        address = f"127.0.0.1:{refusing.getsockname()[1]}"
    with Upstream() as upstream:
        listener = {
            "listen": ":0",
            "upstreams": [{"address": address, "name": "gone"}, {"address": upstream.address, "name": "there"}],
            "eject": {"failures": 1, "time": "1h", "max_time": "1h"},
        }
        with running(configured(tmp_path / "config.json", listener)) as ambassador:
            names_of = {row["upstream"]: row["state"] for row in ambassador.upstreams()}
            assert names_of == {"gone": "up", "there": "up"}
            for _ in range(2):
                ambassador.connect().close()
            ambassador.until(lambda: {row["state"] for row in ambassador.upstreams()} == {"ejected", "up"})
            row = next(row for row in ambassador.upstreams() if row["upstream"] == "gone")
            assert "refused" in row["reason"].lower()
            assert row["failures_total"] >= 1
            assert row["ejections"] == 1
            assert 0 < row["returns_in_seconds"] <= 3600
