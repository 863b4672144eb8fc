"""Pushes as git hosts announce them, over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecars.core.door import Limits
from sidecars.core.units import Secret
from sidecars.syncer.events import Events
from sidecars.syncer.metrics import Metrics
from sidecars.syncer.push import Pushes
from sidecars.syncer.serving import CannotListen
from sidecars.syncer.settings import Settings
from sidecars.syncer.units import Duration

NEW = "b" * 40
BODY = json.dumps({"ref": "refs/heads/main", "after": NEW, "repository": {"default_branch": "main"}}).encode()
MIB = 1024 * 1024


def signed(body: bytes, secret: str = "s3cret") -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-GitHub-Event": "push", "X-Hub-Signature-256": f"sha256={digest}", "Content-Type": "application/json"}


class Listening:
    """The door for pushes on a loop in a thread, and what it has triggered."""

    def __init__(self, names: tuple[str, ...] = ("app",), **given: object) -> None:
        self.triggered: list[tuple[str, str | None]] = []
        self.news = threading.Condition()
        self.metrics = Metrics(names)
        every: dict[str, object] = {
            "hook_secret": Secret("s3cret"),
            "hook_debounce": Duration(0),
            "ref": "main",
            **given,
        }
        settings = Settings(hook_bind="127.0.0.1:0", **every)  # type: ignore[arg-type]
        self.pushes = Pushes(dict.fromkeys(names, settings), self.trigger, self.metrics, Events(0))
        self.loop = asyncio.new_event_loop()
        [address] = self.loop.run_until_complete(self.pushes.open())
        self.port = int(address.rpartition(":")[2])
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def trigger(self, name: str, hash: str | None) -> None:
        with self.news:
            self.triggered.append((name, hash))
            self.news.notify_all()

    def wait_for(self, count: int) -> None:
        with self.news:
            assert self.news.wait_for(lambda: len(self.triggered) >= count, 10)

    def post(self, body: bytes, headers: dict[str, str], path: str = "/hook", method: str = "POST") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def counted(self) -> dict[str, str]:
        lines = [line for line in self.metrics.text().decode().splitlines() if line.startswith("git_syncer_pushes")]
        return {line.split('result="')[1].split('"')[0]: line.split()[-1] for line in lines}

    def client(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 10)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.pushes.close)
        self.loop.call_soon_threadsafe(self.loop.call_soon, self.loop.stop)
        self.thread.join(10)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


@pytest.fixture
def listen() -> Iterator[Callable[..., Listening]]:
    every: list[Listening] = []

    def listen(*names: str, **given: object) -> Listening:
        every.append(Listening(names or ("app",), **given))
        return every[-1]

    yield listen
    for each in every:
        each.close()


@pytest.mark.parametrize(
    "headers",
    [
        signed(BODY),
        {"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": "s3cret"},
        {"X-Gitea-Event": "push", "X-Gitea-Signature": hmac.new(b"s3cret", BODY, hashlib.sha256).hexdigest()},
        {"X-Forgejo-Event": "push", "X-Forgejo-Signature": hmac.new(b"s3cret", BODY, hashlib.sha256).hexdigest()},
        {"X-Event-Key": "repo:push", "X-Hub-Signature": signed(BODY)["X-Hub-Signature-256"]},
        {"Authorization": "Bearer s3cret"},
    ],
    ids=["github", "gitlab", "gitea", "forgejo", "bitbucket", "bearer"],
)
def test_a_push_triggers_a_sync(listen: Callable[..., Listening], headers: dict[str, str]) -> None:
    listening = listen()
    assert listening.post(BODY, headers) == (200, "syncing\n")
    assert listening.triggered == [("app", NEW)]
    assert listening.counted() == {"triggered": "1"}


@pytest.mark.parametrize(
    "headers",
    [{}, signed(BODY, "wrong"), signed(BODY + b" "), {"X-Gitlab-Token": "s3cre"}, {"Authorization": "s3cret"}],
)
def test_who_does_not_know_the_secret_is_refused(listen: Callable[..., Listening], headers: dict[str, str]) -> None:
    listening = listen()
    assert listening.post(BODY, headers)[0] == 401
    assert listening.triggered == []
    assert listening.counted() == {"refused": "1"}


def test_without_a_proof_in_its_head_a_request_is_refused_before_its_body(listen: Callable[..., Listening]) -> None:
    with listen().client() as client:
        client.sendall(b"POST /hook HTTP/1.1\r\nHost: a\r\nContent-Length: 26000000\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_other_refs_and_events_are_ignored_and_a_ping_is_answered(listen: Callable[..., Listening]) -> None:
    listening = listen(ref="release")
    assert listening.post(BODY, signed(BODY)) == (202, "ignored: it is not about release\n")
    assert listening.post(BODY, {**signed(BODY), "X-GitHub-Event": "issues"})[0] == 202
    system = json.dumps({"event_name": "user_create"}).encode()
    assert listening.post(system, {"X-Gitlab-Event": "System Hook", "X-Gitlab-Token": "s3cret"})[0] == 202
    assert listening.post(b"{}", {**signed(b"{}"), "X-GitHub-Event": "ping"}) == (200, "pong\n")
    assert listening.triggered == []
    assert listening.counted() == {"ignored": "3", "ping": "1"}


def test_other_paths_and_methods_are_refused(listen: Callable[..., Listening]) -> None:
    listening = listen()
    for method in ("GET", "PUT", "DELETE"):
        assert listening.post(b"", signed(b""), method=method)[0] == 405
    assert listening.post(BODY, signed(BODY), "/other")[0] == 404
    assert listening.post(BODY, signed(BODY), "/hook/other")[0] == 404
    assert listening.triggered == []


def test_each_of_several_repositories_has_a_path(listen: Callable[..., Listening]) -> None:
    listening = listen("site", "dags")
    assert listening.post(BODY, signed(BODY), "/hook/dags?x=1")[0] == 200
    assert listening.post(BODY, signed(BODY), "/hook/site/")[0] == 200
    assert listening.post(BODY, signed(BODY), "/hook")[0] == 404
    assert listening.triggered == [("dags", NEW), ("site", NEW)]
    assert b'git_syncer_pushes_total{repository="dags",result="triggered"} 1' in listening.metrics.text()


def test_a_payload_that_is_none_is_400(listen: Callable[..., Listening]) -> None:
    listening = listen()
    assert listening.post(b"{", signed(b"{"))[0] == 400
    assert listening.counted() == {"invalid": "1"}


def test_a_secret_is_read_anew_when_its_file_changes(listen: Callable[..., Listening], tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("old\n")
    listening = listen(hook_secret=Secret(file=str(file)))
    assert listening.post(BODY, signed(BODY, "old"))[0] == 200
    (tmp_path / "new").write_text("new\n")
    os.replace(tmp_path / "new", file)
    assert listening.post(BODY, signed(BODY, "old"))[0] == 401
    assert listening.post(BODY, signed(BODY, "new"))[0] == 200


def test_without_a_secret_that_can_be_read_nothing_is_believed(
    listen: Callable[..., Listening], tmp_path: Path
) -> None:
    listening = listen(hook_secret=Secret(file=str(tmp_path / "absent")))
    assert listening.post(BODY, signed(BODY, "")) == (503, "the secret cannot be read\n")
    (tmp_path / "empty").write_text("\n")
    listening = listen(hook_secret=Secret(file=str(tmp_path / "empty")))
    assert listening.post(BODY, signed(BODY, ""))[0] == 401
    assert listening.post(BODY, {"X-Gitlab-Token": ""})[0] == 401


def long(length: int) -> bytes:
    """A payload of this many bytes, most of them a commit's message that nobody reads."""
    frame = json.dumps({"commits": [{"message": ""}], "ref": "refs/heads/main", "after": NEW}).encode()
    return frame.replace(b'""', b'"' + b"m" * (length - len(frame)) + b'"')


def test_a_body_of_25_mib_is_taken_and_a_longer_one_refused(listen: Callable[..., Listening]) -> None:
    listening = listen()
    body = long(25 * MIB)
    assert listening.post(body, signed(body)) == (200, "syncing\n")
    assert listening.triggered == [("app", NEW)]
    with listening.client() as client:  # A length that is said is enough.
        client.sendall(b"POST /hook HTTP/1.1\r\nHost: a\r\nX-Gitlab-Token: x\r\nContent-Length: 26214401\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")
    with listening.client() as client:  # One that is not said is found out.
        client.sendall(b"POST /hook HTTP/1.1\r\nHost: a\r\nX-Gitlab-Token: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + bytes(MIB) + b"\r\n"
        for _ in range(26):
            client.sendall(chunk)
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")
    assert listening.counted() == {"triggered": "1", "too_large": "2"}


def test_senders_that_do_not_finish_hold_nothing_up(listen: Callable[..., Listening]) -> None:
    listening = listen()
    head = b"POST /hook HTTP/1.1\r\nHost: a\r\nX-Gitlab-Token: x\r\nContent-Length: 1000\r\n\r\n"
    slow = [listening.client() for _ in range(70)]  # more than may be connected
    for client in slow:
        client.sendall(head + b"{")
    assert listening.post(BODY, signed(BODY))[0] == 200
    for client in slow:
        client.close()


def test_a_sender_that_drips_is_told_so_in_the_end(listen: Callable[..., Listening]) -> None:
    listening = listen()
    listening.pushes._door.limits = Limits(patience=0.2)
    with listening.client() as client:
        client.sendall(b"POST /hook HTTP/1.1\r\nHost: a\r\nX-Gitlab-Token: x\r\nContent-Length: 1000\r\n\r\n{")
        assert client.recv(4096).startswith(b"HTTP/1.1 408 ")
    assert listening.counted() == {"invalid": "1"}


def test_many_large_bodies_at_once_are_bounded(listen: Callable[..., Listening]) -> None:
    listening = listen()
    head = b"POST /hook HTTP/1.1\r\nHost: a\r\nX-Gitlab-Token: x\r\nContent-Length: %d\r\n\r\n" % (25 * MIB)
    with listening.client() as first, listening.client() as second:
        first.sendall(head + bytes(24 * MIB))
        second.sendall(head + bytes(24 * MIB))
        second.settimeout(10)
        first.settimeout(0.01)
        assert second.recv(4096).startswith(b"HTTP/1.1 503 ") or first.recv(4096).startswith(b"HTTP/1.1 503 ")
    assert listening.post(BODY, signed(BODY))[0] == 200


def test_the_first_push_triggers_at_once_and_those_after_it_once_more(listen: Callable[..., Listening]) -> None:
    listening = listen(hook_debounce=Duration(0.3))
    bodies = [BODY.replace(b"b" * 40, each * 40) for each in (b"1", b"2", b"3")]
    head = "POST /hook HTTP/1.1\r\nHost: a\r\nX-Gitlab-Token: s3cret\r\nContent-Length: {}\r\n\r\n"
    with listening.client() as client:
        client.sendall(b"".join(head.format(len(body)).encode() + body for body in bodies))
        listening.wait_for(1)
        first = time.monotonic()
        listening.wait_for(2)
    assert time.monotonic() - first >= 0.25
    assert listening.triggered == [("app", "1" * 40), ("app", "3" * 40)]


def test_an_address_that_cannot_be_had_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(hook_bind=f"127.0.0.1:{taken.getsockname()[1]}")
        pushes = Pushes({"app": settings}, lambda _, __: None, Metrics(), Events(0))
        with pytest.raises(CannotListen, match=r"cannot listen on --hook-bind 127.0.0.1:.* Address already in use"):
            asyncio.run(pushes.open())
