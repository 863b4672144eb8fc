"""pod-init fetch against real servers that do well and badly: exit codes, what is published, and what is never."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import resource
import signal
import socket
import socketserver
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.servers.file_server import Answer, Asked, Cut, FileServer, Plain, Reply, Stall
from tests.servers.test_init_wait import Init
from tests.unit.core.running import free_port

SIZE = 1_000_000
DATA = random.Random(7).randbytes(SIZE)
QUICK = {"INIT_RETRY_INTERVAL": "10ms", "INIT_PIECE": "100KiB", "INIT_RETRIES": "3"}


class Fetch(Init):
    """pod-init fetch with these arguments."""

    defaults = QUICK


Start = Callable[..., Fetch]


@pytest.fixture
def fetch(tmp_path: Path) -> Iterator[Start]:
    """Start a pod-init fetch; it is killed after the test if it runs still."""
    running: list[Fetch] = []

    def fetch(*arguments: Any, **options: Any) -> Fetch:
        folder = tmp_path / f"run-{len(running)}"
        folder.mkdir()
        running.append(Fetch("fetch", *arguments, folder=folder, **options).__enter__())
        return running[-1]

    yield fetch
    for each in running:
        each.__exit__()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer() as server:
        server.files["/m/model.bin"] = DATA
        yield server


@pytest.fixture
def url(server: FileServer) -> str:
    return f"{server.url}/m/model.bin"


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "to" / "model.bin"


def digest(data: bytes = DATA) -> str:
    return hashlib.sha256(data).hexdigest()


def once(first: Answer, times: int = 1) -> Callable[[Asked], Answer]:
    """Answer badly so often, then well."""
    left = [times]

    def answer(_: Asked) -> Answer:
        left[0] -= 1
        return first if left[0] >= 0 else None

    return answer


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()} if folder.exists() else set()


# A file


@pytest.mark.parametrize("jobs", ["1", "4"])
def test_a_file_comes_whole_with_its_mode_and_leaves_no_part(fetch: Start, url: str, dest: Path, jobs: str) -> None:
    fetched = fetch(url, dest, "--jobs", jobs, "--mode", "0640").succeeded().said("fetched")[0]
    assert dest.read_bytes() == DATA
    assert stat.S_IMODE(dest.stat().st_mode) == 0o640
    assert fetched["bytes"] == SIZE
    assert names(dest.parent) == {"model.bin", ".model.bin.pod-init.json"}


def test_ranges_are_asked_for_at_once_and_over_kept_connections(
    fetch: Start, server: FileServer, url: str, dest: Path
) -> None:
    fetch(url, dest).succeeded()
    assert len({each.range for each in server.requests}) == len(server.requests) == 10
    assert len({each.peer for each in server.requests}) <= 4
    assert server.sent == SIZE


def test_a_second_run_fetches_nothing(fetch: Start, server: FileServer, url: str, dest: Path) -> None:
    for validators in ("both", "modified"):
        server.validators = validators
        fetch(url, dest).succeeded()
        sent = server.sent
        assert fetch(url, dest).succeeded().said("unchanged")
        assert server.sent == sent
        os.unlink(dest)


def test_a_changed_file_is_fetched_again_and_so_is_one_that_was_changed_here(
    fetch: Start, server: FileServer, url: str, dest: Path
) -> None:
    fetch(url, dest).succeeded()
    server.files["/m/model.bin"] = DATA[:-1] + b"!"
    assert fetch(url, dest).succeeded().said("fetched")
    assert dest.read_bytes() == DATA[:-1] + b"!"
    dest.write_bytes(b"broken")
    fetch(url, dest).succeeded()
    assert dest.read_bytes() == DATA[:-1] + b"!"


def test_into_a_directory_a_file_has_the_name_of_its_url(fetch: Start, server: FileServer, tmp_path: Path) -> None:
    server.files["/a%20b"] = b"x"
    fetch(f"{server.url}/a%20b?v=1", f"{tmp_path}/new/").succeeded()
    assert (tmp_path / "new" / "a b").read_bytes() == b"x"
    for path in ("", "..%2fx", "%2e%2e"):
        server.files[f"/{path}"] = b"x"
        assert "name DEST whole" in fetch(f"{server.url}/{path}", f"{tmp_path}/new/").failed(1)
    assert names(tmp_path / "new") == {"a b", ".a b.pod-init.json"}


@pytest.mark.parametrize("how", ["length", "chunks"])
def test_a_server_without_ranges_does_as_well(fetch: Start, server: FileServer, url: str, dest: Path, how: str) -> None:
    server.answer = lambda _: Plain(how)
    fetch(url, dest).succeeded()
    assert dest.read_bytes() == DATA
    assert len(server.requests) == 1


def test_an_answer_that_only_ends_needs_a_digest(fetch: Start, server: FileServer, url: str, dest: Path) -> None:
    server.answer = lambda _: Plain("end")
    assert "without a length" in fetch(url, dest).failed(1)
    fetch(f"{url}?sha256={digest()}", dest).succeeded()
    assert dest.read_bytes() == DATA


def test_what_nothing_tells_apart_is_fetched_by_one_request(
    fetch: Start, server: FileServer, url: str, dest: Path
) -> None:
    for server.validators in ("", "weak"):
        server.requests.clear()
        fetch(url, dest).succeeded()
        assert server.requests[-1].range == ""
        assert dest.read_bytes() == DATA
        os.unlink(dest)


def test_an_empty_file_is_one(fetch: Start, server: FileServer, dest: Path) -> None:
    server.files["/empty"] = b""
    fetch(f"{server.url}/empty", dest).succeeded()
    assert dest.read_bytes() == b""
    assert fetch(f"{server.url}/empty", dest).succeeded().said("unchanged")


def test_a_local_file_is_copied_and_known_again(fetch: Start, dest: Path, tmp_path: Path) -> None:
    source = tmp_path / "source file"
    source.write_bytes(DATA)
    uri = f"{source.as_uri()}?sha256={digest()}"
    fetch(uri, dest).succeeded()
    assert dest.read_bytes() == DATA
    assert fetch(uri, dest).succeeded().said("unchanged")
    source.write_bytes(b"other")
    assert f"has the SHA-256 {digest(b'other')}" in fetch(source.as_uri(), dest, "--sha256", "0" * 64).failed(1)
    assert fetch(source.as_uri(), dest).succeeded().said("fetched")
    assert dest.read_bytes() == b"other"
    assert "pod-init copy" in fetch(tmp_path.as_uri(), dest).failed(1)


# What is checked


def test_a_digest_in_the_url_is_checked_and_not_sent(fetch: Start, server: FileServer, url: str, dest: Path) -> None:
    fetch(f"{url}?v=1&sha256={digest().upper()}&w=2", dest).succeeded()
    assert {each.query for each in server.requests} == {"v=1&w=2"}
    assert dest.read_bytes() == DATA


def test_a_wrong_digest_publishes_nothing_and_says_both(fetch: Start, url: str, dest: Path) -> None:
    reason = fetch(url, dest, "--sha256", "0" * 64).failed(1)
    assert digest() in reason
    assert "0" * 64 in reason
    assert names(dest.parent) == set()


def test_a_file_that_has_the_digest_already_is_not_asked_for(
    fetch: Start, server: FileServer, url: str, dest: Path
) -> None:
    dest.parent.mkdir()
    dest.write_bytes(DATA)
    assert fetch(f"{url}?sha256={digest()}", dest).succeeded().said("unchanged")
    assert server.requests == []


def test_a_list_of_digests_is_heeded(fetch: Start, server: FileServer, url: str, dest: Path) -> None:
    server.files["/SHA256SUMS"] = f"{'0' * 64}  other.bin\n{digest()} *model.bin\n".encode()
    fetch(url, dest, "--sha256-url", f"{server.url}/SHA256SUMS").succeeded()
    server.files["/SHA256SUMS"] = f"{'1' * 64}  ./model.bin\n".encode()
    assert "1" * 64 in fetch(url, dest, "--sha256-url", f"{server.url}/SHA256SUMS").failed(1)
    server.files["/SHA256SUMS"] = f"{'1' * 64}  x\n{'2' * 64}  y\n".encode()
    assert "has no SHA-256 for 'model.bin'" in fetch(url, dest, "--sha256-url", f"{server.url}/SHA256SUMS").failed(1)


@pytest.mark.parametrize("how", ["length", "chunks", "ranges"])
def test_a_file_may_be_no_larger_than_allowed(fetch: Start, server: FileServer, url: str, dest: Path, how: str) -> None:
    server.answer = lambda _: None if how == "ranges" else Plain(how)
    assert "larger than --max-size 500,000 bytes" in fetch(url, dest, "--max-size", "500k").failed(1)
    assert names(dest.parent) == set()


# Servers that do badly


@pytest.mark.parametrize(
    ("answer", "jobs"), [(Cut(30_000), "1"), (Cut(30_000, reset=True), "4"), (Reply(503), "4"), (Cut(0), "4")]
)
def test_what_breaks_is_tried_again_and_goes_on_where_it_was(
    fetch: Start, server: FileServer, url: str, dest: Path, answer: Answer, jobs: str
) -> None:
    server.answer = once(answer, 3)
    fetched = fetch(url, dest, "--jobs", jobs).succeeded()
    assert dest.read_bytes() == DATA
    assert len(fetched.said("fetching again")) == 3
    assert server.sent <= SIZE + 1  # nothing is fetched twice


def test_a_server_that_sends_nothing_more_is_left(fetch: Start, server: FileServer, url: str, dest: Path) -> None:
    server.answer = once(Stall(1000))
    fetch(url, dest, "--read-timeout", "300ms").succeeded()
    assert dest.read_bytes() == DATA


def test_a_server_without_ranges_that_breaks_is_asked_from_the_beginning(
    fetch: Start, server: FileServer, url: str, dest: Path
) -> None:
    server.validators = ""
    server.answer = once(Cut(30_000), 2)
    fetch(url, dest).succeeded()
    assert dest.read_bytes() == DATA


def test_without_progress_it_ends_and_says_how_often_it_tried(
    fetch: Start, server: FileServer, url: str, dest: Path
) -> None:
    server.answer = lambda _: Reply(503, b"<b>busy</b>\r\n\x1b[31mtry later")
    reason = fetch(url, dest).failed(1)
    assert "answers 503 Service Unavailable: '<b>busy</b> [31mtry later'; tried 4 times" in reason
    assert len(server.requests) == 4


def test_a_server_may_say_when_to_come_again(fetch: Start, server: FileServer, url: str, dest: Path) -> None:
    server.answer = once(Reply(429, headers={"Retry-After": "1"}))
    assert fetch(url, dest).succeeded().said("fetching again")[0]["pause"] == 1


def test_a_file_that_changes_midway_is_fetched_from_its_beginning(
    fetch: Start, server: FileServer, url: str, dest: Path
) -> None:
    other = DATA[::-1]

    def answer(asked: Asked) -> Answer:
        if len(server.requests) == 5:
            server.files["/m/model.bin"] = other
        return None

    server.answer = answer
    fetched = fetch(url, dest, "--jobs", "2").succeeded()
    assert fetched.said("the source has changed while it was fetched")
    assert dest.read_bytes() == other


def test_a_file_that_changes_all_the_time_is_never_published(
    fetch: Start, server: FileServer, url: str, dest: Path
) -> None:
    def answer(asked: Asked) -> Answer:
        server.files["/m/model.bin"] = random.Random(len(server.requests)).randbytes(SIZE)
        return None

    server.answer = answer
    assert "changes while it is fetched" in fetch(url, dest).failed(1)
    assert not dest.exists()


def test_nobody_there_is_said(fetch: Start, dest: Path) -> None:
    reason = fetch(f"http://127.0.0.1:{free_port()}/x", dest, "--retries", "1").failed(1)
    assert "Connection refused; is it up?; tried 2 times" in reason
    assert "cannot look up the name" in fetch("http://no-such-name.invalid/x", dest, "--retries", "0").failed(1)


def test_the_time_can_be_limited(fetch: Start, server: FileServer, url: str, dest: Path) -> None:
    server.answer = lambda _: Stall(1000)
    assert "not done within 0.3 s" in fetch(url, dest, "--timeout", "300ms").failed(124)
    assert not dest.exists()


def test_when_the_time_is_up_the_last_failure_is_told(fetch: Start, dest: Path) -> None:
    words = ("--timeout", "1s", "--retries", "100", "--retry-interval", "50ms")
    reason = fetch(f"http://127.0.0.1:{free_port()}/x", dest, *words).failed(124)
    assert "not done within 1 s; the last failure: " in reason
    assert "Connection refused" in reason


# Redirects and credentials


def test_redirects_are_followed_but_not_for_ever(fetch: Start, server: FileServer, url: str, dest: Path) -> None:
    server.answer = lambda asked: Reply(302, headers={"Location": "model.bin"}) if asked.path == "/m/old" else None
    fetch(f"{server.url}/m/old", dest).succeeded()
    assert dest.read_bytes() == DATA
    server.answer = lambda _: Reply(302, headers={"Location": "/again"})
    assert "redirects more than 10 times" in fetch(url, dest).failed(1)


def secret(tmp_path: Path, text: str) -> str:
    path = tmp_path / "secret"
    path.write_text(f"{text}\n")
    return str(path)


def test_a_user_with_a_password_gets_in(fetch: Start, server: FileServer, url: str, dest: Path, tmp_path: Path) -> None:
    server.login = "bot:hunter2"
    assert "--password-file" in fetch(url, dest).failed(1)
    fetch(url, dest, "--user", "bot", "--password-file", secret(tmp_path, "hunter2")).succeeded()
    os.unlink(dest)
    whole = url.replace("://", "://bot:hunter2@")
    fetched = fetch(environ={**QUICK, "INIT_PATHS": f"{whole} {dest}"}).succeeded()
    assert dest.read_bytes() == DATA
    assert "hunter2" not in "".join(fetched.lines) + (dest.parent / ".model.bin.pod-init.json").read_text()


def test_a_password_on_the_command_line_is_refused(fetch: Start, dest: Path) -> None:
    fetched = fetch("http://bot:hunter2@127.0.0.1/x", dest)
    assert fetched.ended()[0] == 2
    assert "holds a password in a URL" in fetched.left()
    assert "hunter2" not in fetched.left()


@pytest.mark.parametrize("flags", [("--token-file",), ("--header-file",), ("--user", "bot", "--password-file")])
def test_credentials_do_not_follow_to_another_port(
    fetch: Start, server: FileServer, dest: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    file = secret(tmp_path, "X-Secret: s3cret" if "--header-file" in flags else "s3cret")
    with FileServer() as other:
        other.files["/b"] = DATA
        server.answer = lambda _: Reply(307, headers={"Location": f"{other.url}/b"})
        fetch(f"{server.url}/a", dest, *flags, file).succeeded()
        told = [{"authorization", "x-secret"} & each.headers.keys() for each in other.requests]
    assert not any(told)
    assert all({"authorization", "x-secret"} & each.headers.keys() for each in server.requests)
    assert dest.read_bytes() == DATA


def test_a_signature_in_the_query_is_shown_nowhere(fetch: Start, url: str, dest: Path) -> None:
    fetched = fetch(f"{url}?X-Amz-Signature=s3cret", dest).succeeded()
    assert "s3cret" not in "".join(fetched.lines) + (dest.parent / ".model.bin.pod-init.json").read_text()
    assert "s3cret" not in fetch(f"{url}x?X-Amz-Signature=s3cret", dest).failed(1)


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[FileServer]:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with FileServer(context) as server:
        server.files["/m/model.bin"] = DATA
        yield server


def test_tls_needs_a_certificate_that_is_trusted(
    fetch: Start, secure: FileServer, dest: Path, tmp_path: Path, authority: trustme.CA
) -> None:
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    url = f"{secure.url}/m/model.bin"
    assert "has a certificate that is not trusted: " in fetch(url, dest).failed(1)
    assert "not trusted" in fetch(url.replace("127.0.0.1", "localhost"), dest, "--ca", ca).failed(1)
    fetch(url, dest, "--ca", ca).succeeded()
    assert dest.read_bytes() == DATA
    assert "/nowhere" in fetch(url, dest, "--ca", "/nowhere").failed(1)
    with FileServer() as plain:
        plain.files["/m/model.bin"] = DATA
        assert "broke" in fetch(plain.url.replace("http:", "https:") + "/m/model.bin", dest, "--retries", "0").failed(1)


def test_a_redirect_away_from_tls_is_not_followed(
    fetch: Start, secure: FileServer, server: FileServer, dest: Path, tmp_path: Path, authority: trustme.CA
) -> None:
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    secure.answer = lambda _: Reply(302, headers={"Location": f"{server.url}/m/model.bin"})
    assert "without TLS" in fetch(f"{secure.url}/m/model.bin", dest, "--ca", ca).failed(1)
    assert server.requests == []


def test_a_proxy_is_asked_for_a_tunnel_to_a_server_with_tls(
    fetch: Start, secure: FileServer, dest: Path, tmp_path: Path, authority: trustme.CA
) -> None:
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    with tunnel() as (proxy, asked):
        environ = {**QUICK, "https_proxy": proxy, "no_proxy": ""}
        fetch(f"{secure.url}/m/model.bin", dest, "--ca", ca, "--jobs", "1", environ=environ).succeeded()
    assert dest.read_bytes() == DATA
    assert [each.rpartition(" ")[0] for each in asked] == [f"CONNECT 127.0.0.1:{secure.port}"]


@contextlib.contextmanager
def tunnel() -> Iterator[tuple[str, list[str]]]:
    """A proxy that makes tunnels; where it is, and the first lines of what it was asked."""
    asked: list[str] = []

    class Tunnel(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked.append(self.rfile.readline().decode().strip())
            while self.rfile.readline().strip():
                pass
            host, _, port = asked[-1].split()[1].rpartition(":")
            with socket.create_connection((host, int(port)), 20) as there:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=pump, args=(there, self.connection))
                back.start()
                pump(self.connection, there)
                back.join()

    def pump(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Tunnel) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()
        thread.join()


def test_a_proxy_is_asked_in_the_place_of_the_server(fetch: Start, server: FileServer, dest: Path) -> None:
    server.files["/x"] = DATA
    environ = {**QUICK, "http_proxy": server.url, "no_proxy": ""}
    fetch("http://files.invalid/x", dest, environ=environ).succeeded()
    assert dest.read_bytes() == DATA


# Interrupted


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_what_is_killed_goes_on_where_it_was(
    fetch: Start, server: FileServer, url: str, dest: Path, how: signal.Signals
) -> None:
    half = SIZE // 2
    server.answer = lambda asked: Stall(0) if int(asked.range[6:].split("-")[0] or 0) >= half else None
    part = dest.parent / ".model.bin.pod-init.part.json"
    killed = fetch(url, dest, "--jobs", "2")

    def noted() -> int:
        try:
            return sum(done for _, _, done in json.loads(part.read_text())["pieces"])
        except FileNotFoundError:
            return 0

    killed.until(lambda: noted() >= half - 100 * 1024)
    killed.send(how)
    assert killed.wait() == (-9 if how == signal.SIGKILL else 143)
    assert not dest.exists()
    server.answer, before = lambda _: None, server.sent
    going = fetch(url, dest).succeeded()
    assert going.said("going on")
    assert server.sent - before <= SIZE - half + 100 * 1024
    assert dest.read_bytes() == DATA
    assert names(dest.parent) == {"model.bin", ".model.bin.pod-init.json"}


def test_what_has_changed_since_it_was_killed_is_not_gone_on_with(
    fetch: Start, server: FileServer, url: str, dest: Path
) -> None:
    server.answer = lambda asked: None if asked.range.startswith("bytes=0-") else Stall(0)
    killed = fetch(url, dest, "--jobs", "2")
    killed.until((dest.parent / ".model.bin.pod-init.part.json").exists)
    killed.send(signal.SIGKILL)
    killed.wait()
    server.answer = lambda _: None
    server.files["/m/model.bin"] = DATA[::-1]
    fetch(url, dest).succeeded()
    assert dest.read_bytes() == DATA[::-1]


@pytest.mark.parametrize("jobs", ["1", "4"])
def test_a_full_disk_is_said_and_leaves_no_half_file(fetch: Start, url: str, dest: Path, jobs: str) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    reason = fetch(url, dest, "--jobs", jobs, preexec_fn=limit).failed(1)
    assert f"cannot fetch to {dest}: File too large" in reason
    assert not dest.exists()
    fetch(url, dest).succeeded()
    assert dest.read_bytes() == DATA


def test_two_at_once_fetch_once(fetch: Start, server: FileServer, url: str, dest: Path) -> None:
    first, second = fetch(url, dest), fetch(url, dest)
    first.succeeded()
    second.succeeded()
    assert dest.read_bytes() == DATA
    assert server.sent == SIZE


# Archives


def packed(**files: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as opened:
        for name, data in files.items():
            info = tarfile.TarInfo(f"v1/{name.replace('__', '/')}")
            info.size, info.mtime = len(data), 1_700_000_000
            opened.addfile(info, io.BytesIO(data))
    return made.getvalue()


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".pod-init.json"
    }


@pytest.mark.parametrize("there", [False, True])
def test_an_archive_is_unpacked_once_and_replaced_by_the_next_version(
    fetch: Start, server: FileServer, tmp_path: Path, there: bool
) -> None:
    dest, url = tmp_path / "site", f"{server.url}/a"
    if there:
        dest.mkdir()
        (dest / "mine").write_bytes(b"mine")
    mine = {"mine": b"mine"} if there else {}
    server.files["/a"] = packed(index=b"1", old__file=b"2")
    flags = ("--extract", "--strip-components", "1")
    assert fetch(url, dest, *flags).succeeded().said("fetched")[0]["files"] == 2
    assert tree(dest) == {"index": b"1", "old/file": b"2", **mine}
    sent = server.sent
    assert fetch(url, dest, *flags).succeeded().said("unchanged")
    assert server.sent == sent
    server.files["/a"] = packed(index=b"3", new__file=b"4")
    fetch(url, dest, *flags).succeeded()
    assert tree(dest) == {"index": b"3", "new/file": b"4", **mine}
    assert not (dest / "old").exists()
    fetch(url, dest, *flags, "--mirror").succeeded()
    assert names(tmp_path) & {".site.pod-init"} == set()
    assert names(dest) == {"index", "new", ".pod-init.json", *mine}
    fetch(url, dest, *flags, "--mirror", "--exclude", "index").succeeded()
    assert "mine" not in names(dest)


def test_a_hostile_archive_is_refused_and_leaves_nothing(fetch: Start, server: FileServer, tmp_path: Path) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as opened:
        opened.writestr("good", b"1")
        opened.writestr("../../evil", b"2")
    server.files["/a"] = made.getvalue()
    dest = tmp_path / "below" / "dest"
    reason = fetch(f"{server.url}/a", dest, "--extract").failed(1)
    assert "'../../evil' leads out of the directory; --unsafe skip leaves such members out" in reason
    assert names(dest.parent) == set()
    fetch(f"{server.url}/a", dest, "--extract", "--unsafe", "skip").succeeded()
    assert tree(dest) == {"good": b"1"}


def test_an_archive_with_another_digest_is_not_even_opened(fetch: Start, server: FileServer, tmp_path: Path) -> None:
    server.files["/a"] = b"\x1f\x8b" + DATA
    reason = fetch(f"{server.url}/a", tmp_path / "dest", "--extract", "--sha256", "0" * 64).failed(1)
    assert f"has the SHA-256 {digest(server.files['/a'])}" in reason
    assert "dest" not in names(tmp_path)
    assert ".dest.pod-init" not in names(tmp_path)


def test_a_local_archive_is_unpacked_from_where_it_lies(fetch: Start, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(packed(a=b"1"))
    uri = f"{source.as_uri()}?sha256={digest(source.read_bytes())}"
    fetch(uri, tmp_path / "dest", "--extract").succeeded()
    assert tree(tmp_path / "dest") == {"v1/a": b"1"}
    assert fetch(uri, tmp_path / "dest", "--extract").succeeded().said("unchanged")


@pytest.mark.parametrize(("there", "seed"), [(False, 1), (True, 2), (True, 3)])
def test_an_archive_is_all_there_or_not_at_all_whenever_it_is_killed(
    fetch: Start, server: FileServer, tmp_path: Path, there: bool, seed: int
) -> None:
    chance = random.Random(seed)
    dest, url = tmp_path / "dest", f"{server.url}/a"
    files = {f"d{n % 7}__f{n}": chance.randbytes(2000) for n in range(300)}
    server.files["/a"] = packed(**files)
    wanted = {f"v1/{name.replace('__', '/')}": data for name, data in files.items()}
    if there:
        dest.mkdir()
    for step in range(3):
        running = fetch(url, dest, "--extract")
        running.until(
            [
                lambda: (tmp_path / ".dest.pod-init").exists() or (dest / ".pod-init").exists(),
                lambda: bool(server.requests),
                lambda: any((tmp_path / ".dest.pod-init").rglob("f*")) or any(dest.rglob("f*")),
            ][chance.randrange(3)]
            if step < 2
            else lambda: True
        )
        running.send(signal.SIGKILL)
        running.wait()
        if (dest / ".pod-init.json").exists():
            assert tree(dest) == wanted
        elif not there:
            assert not dest.exists()
    fetch(url, dest, "--extract").succeeded()
    assert tree(dest) == wanted
    assert names(dest) == {"v1", ".pod-init.json"}
    assert ".dest.pod-init" not in names(tmp_path)
