from __future__ import annotations

import contextlib
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.process import Tailer

if TYPE_CHECKING:
    from tests.servers.s3 import S3
    from tests.servers.s3_proxy import S3Proxy
    from tests.servers.shipping import Bucket, Shipper


# Started in a shell's background, tests inherit that these are ignored, and so would the programs that they start.
for _number in (signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """An S3 server for all tests; each has a bucket of its own."""
    from tests.servers.s3 import S3  # boto3 and moto, which the other tests do not need

    with S3() as server:
        yield server


@pytest.fixture
def bucket(s3: S3) -> str:
    """A new bucket, empty."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    s3.make(name)
    return name


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The file that stdout goes to, out of the way of globs."""
    return tmp_path / "out"


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """The directory that the application writes to."""
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


@pytest.fixture
def start(out: Path) -> Iterator[Callable[..., Tailer]]:
    """Start a log-tailer; it is killed after the test if it still runs then."""
    with contextlib.ExitStack() as running:

        def start(*arguments: Any, **options: Any) -> Tailer:
            return running.enter_context(Tailer(*arguments, **{"out": out, **options}))

        yield start


@pytest.fixture
def tail(start: Callable[..., Tailer]) -> Callable[..., Tailer]:
    """Start a log-tailer, and wait until its first look is done."""
    return lambda *arguments, **options: start(*arguments, **options).watching()


@pytest.fixture
def once(start: Callable[..., Tailer]) -> Callable[..., bytes]:
    """What log-tailer --once writes."""

    def once(*arguments: Any, **options: Any) -> bytes:
        tailer = start("--once", *arguments, **options)
        code, _ = tailer.ended()
        assert code == 0, "\n".join(tailer.lines)
        return tailer.read()

    return once


@pytest.fixture
def proxy(s3: S3) -> Iterator[S3Proxy]:
    """A proxy before the server, which fails as it is told."""
    from tests.servers.s3_proxy import S3Proxy

    with S3Proxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
def stored(s3: S3, bucket: str) -> Bucket:
    """What is in the bucket."""
    from tests.servers.shipping import Bucket

    return Bucket(s3, bucket)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory that is not there yet."""
    return tmp_path / "state"


@pytest.fixture
def shipper(stored: Bucket, state: Path) -> Iterator[Callable[..., Shipper]]:
    """Start an s3-shipper with that bucket and that state directory; it is killed if it runs still after the test."""
    from tests.servers.shipping import Shipper

    where = {"SHIPPER_BUCKET": stored.name, "SHIPPER_ENDPOINT": stored.server.endpoint}
    with contextlib.ExitStack() as running:

        def shipper(*arguments: Any, environ: dict[str, str] | None = None, **options: Any) -> Shipper:
            known = {"stored": lambda: stored.objects, "state": state, "environ": {**where, **(environ or {})}}
            return running.enter_context(Shipper(*arguments, **{**known, **options}))

        yield shipper


@pytest.fixture
def ship(shipper: Callable[..., Shipper]) -> Callable[..., Shipper]:
    """Start an s3-shipper, and wait until its first look is done."""
    return lambda *arguments, **options: shipper(*arguments, **options).watching()
