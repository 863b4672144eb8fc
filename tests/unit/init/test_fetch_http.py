"""What servers say over HTTP when they lie, redirect or refuse: each in words, and nothing half is taken for whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecars.core.errors import SidecarError
from sidecars.init.part import Part
from sidecars.init.sources import Bounds, Patience
from sidecars.init.sources.http import HttpFile
from sidecars.init.sources.session import Credentials, Origin, url
from tests.servers.file_server import FileServer, Plain, Reply

DATA = bytes(range(256)) * 40


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer() as server:
        server.files["/m/model.bin"] = DATA
        yield server


@pytest.fixture
def fetched(server: FileServer, tmp_path: Path) -> Callable[..., bytes]:
    """Fetch in-process, without a second attempt; what came."""

    def fetched(path: str = "/m/model.bin", jobs: int = 3) -> bytes:
        bounds, patience = Bounds(jobs, 1024, None), Patience(0, 0.01, 5.0, 5.0)
        source = HttpFile(url(f"{server.url}{path}"), Credentials(), patience, bounds, checked=False)
        with Part(str(tmp_path / "part"), patience=1.0) as part:
            version = source.look(None)
            assert version is not None
            size = version.size or 1
            part.start(version, *(bounds.first, bounds.rest(size)) if jobs > 1 else (size, size))
            source.fill(part)
            part.finish()
            return (tmp_path / "part").read_bytes()

    return fetched


@pytest.mark.parametrize("jobs", [1, 3])
def test_it_comes_whole(fetched: Callable[..., bytes], server: FileServer, jobs: int) -> None:
    assert fetched(jobs=jobs) == DATA
    server.answer = lambda _: Plain("chunks")
    assert fetched(jobs=jobs) == DATA


LIES = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n0123456789", "sends more bytes than it says"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n0123456789", "sends more bytes than it says"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n01234", "45 bytes too early"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "which is none"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n", "which is none"),
    (b"HTTP/1.1 200 OK\r\n\r\nhalf", "answers without a length"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n", "broke"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "broke"),
    (b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\n01234", "not asked for"),
    (b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-1/10\r\nContent-Length: 2\r\n\r\n01", "not asked for"),
    (b"HTTP/1.1 206 Partial\r\nContent-Range: lines 0-1\r\nContent-Length: 5\r\n\r\n01234", "which is none"),
    (b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-4/5\r\nETag: \"a\"\r\nContent-Length: 3\r\n\r\n012", "too early"),
    (b"HTTP/1.1 204 No Content\r\n\r\n", "which is no file"),
    (b"HTTP/1.1 304 Not Modified\r\n\r\n", "which is no file"),
    (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000, "broke"),
    (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000, "broke"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "broke"),
    (b"", "broke"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "words"), LIES)
def test_an_answer_that_lies_is_an_error_that_says_how(
    fetched: Callable[..., bytes], server: FileServer, raw: bytes, words: str
) -> None:
    server.answer = lambda _: Reply(raw=raw or b" ")
    with pytest.raises(SidecarError, match=words):
        fetched()


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("file:///etc/passwd", "to another scheme, file"), ("ftp://a/b", "to another scheme, ftp"),
        ("http://:80/", "to what is no URL"), ("gopher:x", "to another scheme"), ("http://a b/", "to what is no URL"),
        ("http://a:99999/", "to what is no URL"),
        ("/again", "more than 10 times"), ("http://[::1/", "to what is no URL"),
    ],
)  # fmt: skip
def test_redirects_to_elsewhere_are_not_followed(
    fetched: Callable[..., bytes], server: FileServer, location: str, words: str
) -> None:
    server.answer = lambda _: Reply(301, headers={"Location": location})
    with pytest.raises(SidecarError, match=words):
        fetched()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "no such file"),
        (403, "credentials"),
        (401, "--token-file"),
        (400, "is the URL right"),
        (501, "answers 501"),
    ],
)
def test_what_will_not_get_better_is_said_with_what_the_server_says(
    fetched: Callable[..., bytes], server: FileServer, status: int, words: str
) -> None:
    server.answer = lambda _: Reply(status, b"because\r\n\x1b[1m" + b"x" * 100_000)
    with pytest.raises(SidecarError, match=words) as refused:
        fetched()
    assert f"answers {status} " in str(refused.value)
    assert "because [1mxxx" in str(refused.value)
    assert len(str(refused.value)) < 600
    assert "tried" not in str(refused.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("text", "origin", "target"),
    [
        ("http://h", Origin("http", "h", 80), "/"),
        ("https://h:8443/a b?x=é#f", Origin("https", "h", 8443), "/a%20b?x=%C3%A9"),
        ("HTTPS://H/%2f", Origin("https", "h", 443), "/%2f"),
        ("http://[::1]:8080/x", Origin("http", "::1", 8080), "/x"),
        ("http://bücher.example/", Origin("http", "xn--bcher-kva.example", 80), "/"),
    ],
)
def test_a_url_is_read(text: str, origin: Origin, target: str) -> None:
    read = url(text)
    assert (read.origin, read.target) == (origin, target)


@pytest.mark.parametrize("text", ["ftp://h/", "http://", "http:///x", "http://h:0x50/", "http://a\r\nb/", "//h/x", ""])
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        url(text)


def test_a_host_that_cannot_be_is_said(tmp_path: Path) -> None:
    patience = Patience(0, 0.01, 5.0, 5.0)
    for host in ("a" * 70 + ".example", "a..b"):
        source = HttpFile(url(f"http://{host}/x"), Credentials(), patience, Bounds(1, 1024, None), checked=False)
        with pytest.raises(SidecarError, match=r"cannot be asked|look up"):
            source.look(None)
