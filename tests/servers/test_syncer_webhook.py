"""The webhook, against a real HTTP server that does as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme

from sidecars.syncer.events import Events
from sidecars.syncer.hooks import hooks
from sidecars.syncer.metrics import Metrics
from sidecars.syncer.settings import Settings
from sidecars.syncer.webhook import Call, CallFailed, call, proxy_of

HASH = "a" * 40
Answer = Callable[["Asked"], None]


class Asked(BaseHTTPRequestHandler):
    """One request; the server keeps what was asked, and answers as it is told."""

    protocol_version = "HTTP/1.1"
    server: Receiver

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.was = (self.command, self.path)  # the connection may go on to another request
        self.server.asked.append(self)
        self.server.answer(self)

    def say(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Receiver(ThreadingHTTPServer):
    """What the webhook calls."""

    daemon_threads = True

    def __init__(self, answer: Answer, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.answer = answer
        self.asked: list[Asked] = []
        self.ended = threading.Event()
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, *_: object) -> None:
        pass


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    every: list[Receiver] = []

    def receive(answer: Answer, context: ssl.SSLContext | None = None) -> Receiver:
        every.append(Receiver(answer, context))
        return every[-1]

    yield receive
    for each in every:
        each.ended.set()
        each.shutdown()
        each.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def called(url: str, *, method: str = "POST", wanted: int = 200, within: float = 10, ca: str | None = None) -> int:
    return asyncio.run(call(Call(method, url, {"Gitsync-Hash": HASH}, within, ca), wanted))


def test_the_hook_calls_the_url_with_the_hash_and_an_empty_body(receive: Callable[..., Receiver]) -> None:
    receiver = receive(lambda asked: asked.say(200))
    metrics = Metrics()
    settings = Settings(webhook_url=f"{receiver.url}/reload?x=1", webhook_method="PUT")
    [webhook] = hooks(settings, dict, metrics.of(), Events(0)).present()
    webhook.send(HASH, "/nonexistent")
    assert asyncio.run(webhook.once())
    [asked] = receiver.asked
    assert (asked.command, asked.path, asked.body) == ("PUT", "/reload?x=1", b"")
    assert asked.headers["Gitsync-Hash"] == HASH
    assert asked.headers["Content-Length"] == "0"
    assert asked.headers["Content-Type"] is None
    assert asked.headers["User-Agent"].startswith("git-syncer/")
    assert b'git_sync_hook_run_count_total{name="webhook",status="success"} 1' in metrics.text()


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH", "NOTIFY"])
def test_any_method_may_be_used(receive: Callable[..., Receiver], method: str) -> None:
    receiver = receive(lambda asked: asked.say(200, b"body"))
    assert called(receiver.url, method=method) == 200
    assert receiver.asked[0].command == method


@pytest.mark.parametrize(
    ("status", "wanted", "good"),
    [(200, 200, True), (201, 200, False), (204, 204, True), (500, 0, True), (404, -1, True), (500, 500, True),
     (401, 200, False), (304, 200, False)],
)  # fmt: skip
def test_the_status_has_to_be_the_one_wanted_unless_any_will_do(
    receive: Callable[..., Receiver], status: int, wanted: int, good: bool
) -> None:
    receiver = receive(lambda asked: asked.say(status))
    if good:
        assert called(receiver.url, wanted=wanted) == status
    else:
        with pytest.raises(CallFailed, match=f"received response code {status} expected {wanted}"):
            called(receiver.url, wanted=wanted)


@pytest.mark.parametrize(("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")])
def test_redirects_are_followed_as_go_does(receive: Callable[..., Receiver], status: int, method: str) -> None:
    other = receive(lambda asked: asked.say(200))
    receiver = receive(lambda asked: asked.say(status, b"moved", {"Location": f"{other.url}/there"}))
    assert called(receiver.url.replace("//", "//user:pass@")) == 200
    [asked] = other.asked
    assert (asked.command, asked.path) == (method, "/there")
    assert asked.headers["Gitsync-Hash"] == HASH
    assert asked.headers["Authorization"] is None
    assert receiver.asked[0].headers["Authorization"] == "Basic dXNlcjpwYXNz"


def test_a_redirect_leads_to_no_file(receive: Callable[..., Receiver]) -> None:
    receiver = receive(lambda asked: asked.say(302, b"", {"Location": "file:///etc/passwd"}))
    with pytest.raises(CallFailed):
        called(receiver.url)


def drip(asked: Asked) -> None:
    asked.send_response(200)
    asked.end_headers()
    with contextlib.suppress(OSError):
        while not asked.server.ended.wait(0.02):
            asked.wfile.write(b"x")


def drip_head(asked: Asked) -> None:
    with contextlib.suppress(OSError):
        while not asked.server.ended.wait(0.02):
            asked.wfile.write(b"H")


def silence(asked: Asked) -> None:
    asked.server.ended.wait(30)


@pytest.mark.parametrize("answer", [drip, drip_head, silence])
def test_the_timeout_holds_whatever_the_other_end_does_and_no_thread_is_left(
    receive: Callable[..., Receiver], answer: Answer
) -> None:
    receiver = receive(answer)
    with pytest.raises(CallFailed, match=r"no whole answer from http://127\.0\.0\.1:\d+ within 0.3 s"):
        called(f"{receiver.url}/token", within=0.3, wanted=0)
    deadline = time.monotonic() + 10
    while any(thread.name == "webhook" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_server_that_takes_no_connection_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as waiting:
        for _ in range(3):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        with pytest.raises(CallFailed):
            called(f"http://127.0.0.1:{full.getsockname()[1]}/", within=0.3)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/s3cret", "file:///etc/passwd", "ftp://x/", "nonsense", "http://", "http://h:x/"]
)
@pytest.mark.parametrize("wanted", [200, 0])
def test_no_answer_is_a_failure_whatever_is_wanted_and_nothing_secret_is_told(url: str, wanted: int) -> None:
    with pytest.raises(CallFailed) as failed:
        called(url, wanted=wanted)
    assert "s3cret" not in str(failed.value)


def test_a_custom_authority_is_trusted_and_another_is_not(receive: Callable[..., Receiver], tmp_path: Any) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    file = str(tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(file)
    receiver = receive(lambda asked: asked.say(200), context)
    assert called(receiver.url, ca=file) == 200
    with pytest.raises(CallFailed, match="CERTIFICATE_VERIFY_FAILED"):
        called(receiver.url)
    with pytest.raises(CallFailed, match="No such file"):
        called(receiver.url, ca=f"{file}.absent")


def test_the_proxy_of_the_environment_is_asked(
    receive: Callable[..., Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = receive(lambda asked: asked.say(200))
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    assert called("http://hooks.invalid/x") == 200
    assert proxy.asked[0].path == "http://hooks.invalid/x"
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with pytest.raises(CallFailed):
        called("https://hooks.invalid/x")
    assert proxy.asked[1].was == ("CONNECT", "hooks.invalid:443")


@pytest.mark.parametrize(
    ("url", "exceptions", "expected"),
    [
        ("http://a.example/", "", "http://proxy:1"),
        ("https://a.example/", "", "http://secure:2"),
        ("http://a.example/", "a.example", None),
        ("http://a.example/", "example", None),
        ("http://a.example/", ".example", None),
        ("http://example/", ".example", "http://proxy:1"),
        ("http://a.example/", "*.example", None),
        ("http://a.example/", "xample", "http://proxy:1"),
        ("http://a.example/", "other, A.Example ", None),
        ("http://a.example:81/", "a.example:80", "http://proxy:1"),
        ("http://a.example:80/", "a.example:80", None),
        ("http://a.example/", "*", None),
        ("http://10.1.2.3/", "10.0.0.0/8", None),
        ("http://11.1.2.3/", "10.0.0.0/8", "http://proxy:1"),
        ("http://10.1.2.3/", "10.1.2.3", None),
        ("http://localhost:3/", "", None),
        ("http://127.0.0.1:3/", "", None),
        ("http://[::1]:3/", "", None),
    ],
)
def test_the_proxy_is_chosen_as_go_chooses_it(url: str, exceptions: str, expected: str | None) -> None:
    environ = {"HTTP_PROXY": "http://proxy:1", "https_proxy": "secure:2", "NO_PROXY": exceptions}
    assert proxy_of(urlsplit(url), environ) == expected


def test_a_call_that_is_cancelled_leaves_nothing(receive: Callable[..., Receiver]) -> None:
    receiver = receive(silence)

    async def cancelled() -> None:
        task = asyncio.create_task(call(Call("POST", receiver.url, {}, 600), 200))
        while not receiver.asked:
            await asyncio.sleep(0.005)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(cancelled())
    receiver.ended.set()
    deadline = time.monotonic() + 10
    while (
        any(thread.name == "webhook" for thread in threading.enumerate()) or len(os.listdir("/proc/self/fd")) > before
    ):
        assert time.monotonic() < deadline
        time.sleep(0.005)
