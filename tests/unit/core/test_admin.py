"""The probes' door: what it answers, and to whom."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sidecars.core.admin import refusal_of_page, refusal_of_post
from sidecars.core.door import Request
from tests.unit.core.running import Running, free_port

LOCAL = ipaddress.ip_address("127.0.0.1")
FAR = ipaddress.ip_address("10.0.0.7")
LEAVE = {"host": "127.0.0.1:9101", "x-sidecars": "1"}
WITHOUT_IPV6 = [sys.executable, os.path.join(os.path.dirname(__file__), "without_ipv6.py")]


def outside() -> str:
    """An address of this machine that is not loopback."""
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family == socket.AF_INET and not ipaddress.ip_address(each.address).is_loopback:
                return each.address
    pytest.skip("NOT PROVEN HERE: this machine has no address but loopback")


def raw(life: Running, request: bytes) -> bytes:
    """Everything the door says to these bytes until it closes."""
    with socket.create_connection(("127.0.0.1", life.port), 20) as client:
        client.sendall(request)
        answer = b""
        while data := client.recv(65536):
            answer += data
        return answer


# Probes


def test_startupz_and_readyz_wait_for_the_start_and_livez_does_not() -> None:
    with Running("--start-after", "1h") as life:
        life.wait_for("running")
        assert life.ask("/startupz") == (503, "starting\n")
        assert life.ask("/readyz") == (503, "starting\n")
        assert life.ask("/healthz") == (503, "starting\n")
        assert life.ask("/livez") == (200, "ok\n")


def test_after_the_start_every_probe_is_well() -> None:
    with Running() as life:
        life.wait_for("running")
        assert {life.ask(path) for path in ("/startupz", "/readyz", "/healthz", "/livez")} == {(200, "ok\n")}


def test_a_draining_service_is_alive_and_started_but_not_ready() -> None:
    with Running("--work", "linger") as life:
        life.wait_for("running")
        life.send(signal.SIGTERM)
        life.wait_for("draining")
        assert life.ask("/readyz") == (503, "draining: SIGTERM\n")
        assert life.ask("/startupz")[0] == life.ask("/livez")[0] == life.ask("/healthz")[0] == 200


@pytest.mark.parametrize(("ready_when", "status"), [("started", 200), ("delivering", 503)])
def test_a_failing_delivery_takes_the_pod_out_only_on_request(ready_when: str, status: int) -> None:
    with Running("--work", "fail", "--ready-when", ready_when) as life:
        life.wait_for("upload failed")
        assert life.ask("/healthz") == (503, "s3: no route to https://***@minio:9000/logs\n")
        assert life.ask("/readyz")[0] == status
        assert f"sidecar_ready {float(status == 200)}" in life.ask("/metrics")[1]


def test_a_blocked_event_loop_fails_its_liveness_probe() -> None:
    with Running("--admin-post") as life:
        life.wait_for("running")
        with socket.create_connection(("127.0.0.1", life.port)) as client:
            client.sendall(b"POST /block HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Sidecars: 1\r\nContent-Length: 3\r\n\r\n1.5")
            life.wait_for("blocking")
            with pytest.raises(TimeoutError):
                life.ask("/livez", patience=0.5)
            assert client.recv(4096).startswith(b"HTTP/1.1 200 OK")
        assert life.ask("/livez")[0] == 200


# Where it listens


def test_a_port_alone_means_every_interface_by_ipv4_and_ipv6() -> None:
    with Running("--admin", ":0") as life:
        assert {life.ask("/livez", host=host)[0] for host in ("127.0.0.1", "::1", outside())} == {200}


def test_it_serves_by_ipv4_where_the_kernel_has_no_ipv6() -> None:
    with Running("--admin", ":0", under=WITHOUT_IPV6) as life:
        assert life.wait_for("admin door open")["addresses"] == [f"0.0.0.0:{life.port}"]
        assert life.ask("/livez")[0] == 200


@pytest.mark.parametrize("address", ["[::1]:0", "localhost:0", "127.0.0.1:0"])
def test_a_given_host_is_where_it_listens(address: str) -> None:
    with Running("--admin", address) as life:
        assert life.ask("/livez", host="::1" if "::" in address else "127.0.0.1")[0] == 200
        with pytest.raises(OSError, match="refused"):
            life.ask("/livez", host=outside())


@pytest.mark.parametrize("taken", ["0.0.0.0", "127.0.0.1", "::"])
def test_a_taken_port_is_exit_2_naming_admin(taken: str, tmp_path: Path) -> None:
    family = socket.AF_INET6 if ":" in taken else socket.AF_INET
    with socket.create_server((taken, 0), family=family) as other:
        port = other.getsockname()[1]
        with Running("--admin", f":{port}", termination_log=str(tmp_path / "message")) as life:
            assert life.ended()[0] == 2
    said = f"cannot listen on --admin :{port}: Address already in use; give a free one, or off"
    assert (tmp_path / "message").read_text() == said


def test_admin_off_opens_no_door() -> None:
    with Running("--admin", "off") as life:
        life.wait_for("running")
        assert not psutil.Process(life.pid).net_connections()


# The guards


@pytest.mark.parametrize(
    ("request_", "allowed", "said"),
    [
        (Request("POST", "/quitquitquit", LEAVE, LOCAL), True, None),
        (Request("POST", "/quitquitquit", LEAVE, ipaddress.ip_address("::1")), True, None),
        (Request("POST", "/quitquitquit", {**LEAVE, "host": "localhost"}, LOCAL), True, None),
        (Request("POST", "/quitquitquit", {**LEAVE, "host": "[::1]:9101"}, LOCAL), True, None),
        (Request("POST", "/quitquitquit", LEAVE, LOCAL), False, "--admin-post"),
        (Request("POST", "/quitquitquit", LEAVE, FAR), True, "loopback"),
        (Request("POST", "/quitquitquit", {**LEAVE, "origin": "null"}, LOCAL), True, "Origin"),
        (Request("POST", "/quitquitquit", {**LEAVE, "host": "evil.example:9101"}, LOCAL), True, "Host"),
        (Request("POST", "/quitquitquit", {**LEAVE, "host": "127.0.0.1.evil.example"}, LOCAL), True, "Host"),
        (Request("POST", "/quitquitquit", {**LEAVE, "host": "localhost.evil.example"}, LOCAL), True, "Host"),
        (Request("POST", "/quitquitquit", {**LEAVE, "host": "["}, LOCAL), True, "Host"),
        (Request("POST", "/quitquitquit", {**LEAVE, "host": "evil@127.0.0.1"}, LOCAL), True, "Host"),
        (Request("POST", "/quitquitquit", {"x-sidecars": "1"}, LOCAL), True, "Host"),
        (Request("POST", "/quitquitquit", {"host": "127.0.0.1"}, LOCAL), True, "X-Sidecars: 1"),
        (Request("POST", "/quitquitquit", {**LEAVE, "x-sidecars": "0"}, LOCAL), True, "X-Sidecars: 1"),
    ],
)
def test_a_post_needs_leave_loopback_no_origin_a_plain_host_and_the_header(
    request_: Request, allowed: bool, said: str | None
) -> None:
    reason = refusal_of_post(request_, allowed)
    assert reason is None if said is None else said in (reason or "")


@pytest.mark.parametrize(
    ("peer", "host", "pages", "said"),
    [
        (LOCAL, "localhost:8080", "loopback", None),
        (LOCAL, "evil.example", "loopback", "Host"),
        (FAR, "10.0.0.1:9101", "loopback", "loopback"),
        (FAR, "pod.example:9101", "all", None),
        (LOCAL, "localhost", "off", "off"),
    ],
)
def test_the_pages_are_for_loopback_unless_all_may_see_them(
    peer: ipaddress.IPv4Address, host: str, pages: str, said: str | None
) -> None:
    reason = refusal_of_page(Request("GET", "/", {"host": host}, peer), pages)
    assert reason is None if said is None else said in (reason or "")


def test_from_outside_probes_are_answered_and_pages_and_posts_refused() -> None:
    with Running("--admin", ":0", "--admin-post") as life:
        host = outside()
        assert {life.ask(path, host=host)[0] for path in ("/livez", "/readyz", "/metrics")} == {200}
        assert {life.ask(path, host=host)[0] for path in ("/", "/status")} == {403}
        assert life.ask("/quitquitquit", "POST", {"X-Sidecars": "1"}, host=host)[0] == 403
        # By IPv4 on a socket for both, loopback looks like ::ffff:127.0.0.1.
        assert {life.ask("/status", host=near)[0] for near in ("127.0.0.1", "::1")} == {200}


def test_from_outside_pages_are_shown_with_admin_pages_all() -> None:
    with Running("--admin", ":0", "--admin-pages", "all") as life:
        assert {life.ask(path, host=outside())[0] for path in ("/", "/status")} == {200}


def test_a_post_without_leave_drains_nothing() -> None:
    with Running() as life:
        life.wait_for("running")
        status, reason = life.ask("/quitquitquit", "POST", {"X-Sidecars": "1"})
        assert (status, "--admin-post" in reason) == (403, True)
        assert life.ask("/readyz")[0] == 200


# HTTP


@pytest.fixture(scope="module")
def door() -> Iterator[Running]:
    with Running("--admin-post") as life:
        life.wait_for("running")
        yield life


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/nothing", 404, None),
        ("GET", "/quitquitquit", 405, "POST"),
        ("POST", "/metrics", 405, "GET, HEAD"),
        ("DELETE", "/", 405, "GET, HEAD"),
        ("GET", "/readyz?verbose=1", 200, None),
        ("HEAD", "/metrics", 200, None),
    ],
)
def test_paths_and_methods(door: Running, method: str, path: str, status: int, allow: str | None) -> None:
    response, body = door.fetch(path, method)
    assert (response.status, response.headers["Allow"]) == (status, allow)
    assert (method == "HEAD") == (body == "")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: b\r\n" * 5_000 + b"\r\n", 431),
        (b"POST /block HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000), 413),
    ],
)
def test_malformed_and_oversized_requests_are_refused_and_cut_off(door: Running, request_: bytes, status: int) -> None:
    answer = raw(door, request_)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in answer.lower()
    assert door.ask("/livez")[0] == 200


def test_a_connection_is_kept_and_requests_sent_at_once_are_answered_in_order(door: Running) -> None:
    one = b"GET /%s HTTP/1.1\r\nHost: a\r\n%s\r\n"
    answer = raw(door, one % (b"livez", b"") + one % (b"nothing", b"") + one % (b"livez", b"Connection: close\r\n"))
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"404", b"200"]


def test_a_client_of_http_1_0_is_answered_and_let_go(door: Running) -> None:
    assert raw(door, b"GET /livez HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\nok\n")


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(door: Running) -> None:
    with socket.create_connection(("127.0.0.1", door.port), 20) as client:
        client.sendall(
            b"POST /block HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Sidecars: 1\r\n"
            b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\n"
        )
        assert client.recv(4096).startswith(b"HTTP/1.1 100 ")
        client.sendall(b"0")
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_connections_that_do_nothing_never_keep_a_probe_out() -> None:
    with Running() as life:
        port = life.port
        life.wait_for("running")
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
        try:
            assert life.ask("/livez")[0] == 200
            assert len(psutil.Process(life.pid).net_connections()) <= 65
        finally:
            for each in idle:
                each.close()


# Metrics and status


def test_metrics_speak_both_of_prometheus_formats() -> None:
    with Running() as life:
        life.wait_for("running")
        plain, text = life.fetch("/metrics")
        assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert 'sidecar_build_info{name="lifecycle",version="0.1.0"} 1.0' in text
        assert "sidecar_ready 1.0" in text
        opened, text = life.fetch("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        assert opened.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert text.endswith("# EOF\n")


def test_status_tells_state_settings_numbers_and_the_last_errors_but_no_secret() -> None:
    with Running("--work", "fail", environ={"POD_NAME": "web-0"}) as life:
        life.wait_for("upload failed")
        response, text = life.fetch("/status")
        status = json.loads(text)
    assert response.headers["Content-Type"] == "application/json"
    assert (status["name"], status["state"], status["pod"]) == ("lifecycle", "failing", "web-0")
    assert status["reasons"] == ["s3: no route to https://***@minio:9000/logs"]
    assert status["numbers"]["read_bytes_total"] == 4096
    assert status["tables"]["files"][0]["lag_bytes"] == 12
    assert status["settings"]["work"] == "fail"
    assert status["events"][-1]["event"] == "upload failed"
    assert "hunter2" not in text


def test_a_long_table_is_cut_and_says_so() -> None:
    with Running("--files", "10000") as life:
        status = json.loads(life.fetch("/status")[1])
    assert len(status["tables"]["files"]) == 200
    assert status["more"] == {"files": 9800}


def test_the_page_runs_its_own_script_and_nothing_else() -> None:
    with Running() as life:
        response, page = life.fetch("/")
        other, _ = life.fetch("/")
    policy = response.headers["Content-Security-Policy"]
    [nonce] = set(re.findall(r"'nonce-([\w-]+)'", policy))
    assert "default-src 'none'" in policy
    assert nonce not in other.headers["Content-Security-Policy"]
    assert set(re.findall(r"<(?:script|style)[^>]*>", page)) == {
        f'<script nonce="{nonce}">',
        f'<style nonce="{nonce}">',
    }
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|https?://(?!www\.w3\.org/2000/svg)", page)


def test_a_thousand_requests_leave_nothing_behind() -> None:
    with Running("--admin", f"127.0.0.1:{free_port()}") as life:
        life.wait_for("running")
        process = psutil.Process(life.pid)

        def ask(times: int) -> None:
            for number in range(times):
                path = ("/readyz", "/metrics", "/status", "/", "/nothing")[number % 5]
                client = http.client.HTTPConnection("127.0.0.1", life.port)
                client.request("GET", path)
                client.getresponse().read()
                client.close()
            # The door closes this one itself, after all those that were closed before.
            raw(life, b"GET /livez HTTP/1.0\r\n\r\n")

        ask(200)
        held, resident = process.num_fds(), process.memory_info().rss
        ask(1000)
        assert process.num_fds() == held
        assert process.memory_info().rss < resident + 512 * 1024
