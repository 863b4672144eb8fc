"""The outputs of log-adapter against real receivers on loopback, well-behaved and not: nothing lost, order kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trustme
from prometheus_client import REGISTRY

from sidecars.adapter import deliver
from sidecars.adapter.encode import encoder
from sidecars.adapter.encode.shaping import Shaping
from sidecars.adapter.intake import Intake
from sidecars.adapter.portion import Portion
from sidecars.adapter.settings import PREFIX, PROG, Settings
from sidecars.adapter.table import Objects
from sidecars.core.follow.follower import Follower, follow
from sidecars.core.follow.lane import Options, Source
from sidecars.core.health import Health
from sidecars.core.settings import load
from tests.servers import forward_receiver
from tests.servers.adapter_receivers import (
    PATIENCE,
    GelfTcpReceiver,
    GelfUdpReceiver,
    OtlpReceiver,
    Reply,
    free_port,
)
from tests.servers.forward_receiver import Faults

HOST = "127.0.0.1"


class Lines:
    """A pipeline: each line is a record with a message. What it encodes with is what the program encodes with."""

    def __init__(self, settings: Settings, to: str | None) -> None:
        self._encoder = encoder(settings, to) if to else None
        self._shaping = Shaping(settings)
        self.count = 0
        self.portions = 0

    def encode(self, portion: Portion) -> list[bytes]:
        assert self._encoder is not None
        return self._encoder.encode(self._read(portion), portion.origin)

    def records(self, portion: Portion) -> Iterable[dict[str, object]]:
        return self._shaping.records(self._read(portion), portion.origin)

    def _read(self, portion: Portion) -> list[Any]:
        lines = portion.data.removesuffix(b"\n").split(b"\n")
        self.count = len(lines)
        self.portions += 1
        when = "2026-11-23T06:00:00.000000001Z"
        return [Objects([{"time": when, "level": "info", "message": line.decode()} for line in lines], lines)]


class Running:
    """An output under way, over a follower of its own."""

    def __init__(self, output: Any, follower: Follower, pipeline: Lines, health: Health, task: asyncio.Task[None]):
        self.output = output
        self.follower = follower
        self.pipeline = pipeline
        self.health = health
        self.task = task

    @property
    def failing(self) -> str:
        return "; ".join(self.health.why_not_delivering())

    async def until(self, met: Callable[[], object]) -> None:
        """Wait until this is so; whatever the output raises comes out."""
        async with asyncio.timeout(PATIENCE):
            while not met():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.005)

    async def drained(self) -> None:
        """Ask for the drain, and wait until all is delivered."""
        self.follower.drain(0)
        async with asyncio.timeout(PATIENCE):
            await self.task

    def counted(self, metric: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(metric, {"output": self.output.name, **labels}) or 0.0

    def errors(self, code: str) -> float:
        return self.counted("delivery_errors_total", code=code)


@contextlib.asynccontextmanager
async def delivering(url: str, path: Path, *, settings: Sequence[str] = (), **environ: str) -> AsyncIterator[Running]:
    made = load(Settings, prog=PROG, prefix=PREFIX, argv=(str(path), f"--output={url}", *settings), environ=environ)
    [spec] = deliver.read_outputs(made)
    health = Health()
    health.started()
    pipeline = Lines(made, spec.to)
    output = deliver.build(made, spec, pipeline, health)
    async with follow([Source((str(path),))], Options(poll_interval=0.05), output=output.name) as follower:
        intake = Intake(follower, None)
        task = asyncio.create_task(output.deliver(intake))
        try:
            yield Running(output, follower, pipeline, health, task)
        finally:
            task.cancel()
            await asyncio.wait([task], timeout=PATIENCE)
            intake.close()
            assert task.done(), "it does not let go"


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def written(logs: Path, count: int, size: int = 0) -> list[str]:
    """Write a file of numbered lines, each of about so many bytes."""
    lines = [f"line {number} {'x' * size}".rstrip() for number in range(count)]
    (logs / "a.log").write_text("".join(f"{line}\n" for line in lines))
    return lines


def without_repeats(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))


# OTLP


def test_otlp_arrives_in_order_over_one_connection_with_the_token(logs):
    async def test() -> None:
        lines = written(logs, 5000, 300)
        with OtlpReceiver() as receiver:
            url = f"otlp+http://{HOST}:{receiver.port}"
            async with delivering(url, logs / "a.log", ADAPTER_OTLP_TOKEN="hunter2") as running:
                await running.drained()
                assert running.counted("adapter_delivered_records_total") == 5000
                assert running.counted("adapter_delivered_bytes_total") == os.path.getsize(logs / "a.log")
                assert running.follower.lag_bytes == 0
        assert receiver.lines == lines
        assert receiver.violations == [] and receiver.connections == 1 and len(receiver.requests) >= 5
        request = receiver.requests[0]
        assert (request.path, request.headers["Authorization"]) == ("/v1/logs", "Bearer hunter2")
        assert request.headers["Content-Encoding"] == "gzip"

    run(test())


ANSWERS = [
    (Reply(503, b"overloaded\x1b[31m now"), "http_503", "503 Service Unavailable: overloaded [31m now"),
    (Reply(429), "http_429", "429 Too Many Requests"),
    (Reply(502, b"<html>"), "http_502", "502 Bad Gateway: <html>"),
    (Reply(504), "http_504", "504 Gateway Timeout"),
    (Reply(400, b'{"code":3,"message":"bad"}'), "http_400", "answered 400 Bad Request: bad"),
    (Reply(404, b"no such page"), "http_404", "404 Not Found: no such page"),
    (Reply(401, b"not Bearer hunter2"), "http_401", "not Bearer ***; is --otlp-token-file right?"),
    (Reply(302, headers={"Location": "http://u:p@evil/"}), "http_302", "302 Found"),
    (Reply(what="close"), "closed", "cannot send to otlp-"),
    (Reply(what="close", taken=False), "closed", "; its log says why"),
    (Reply(what="garbage"), "protocol", "is it a receiver of OTLP over HTTP?"),
    (Reply(what="stall", taken=False), "timeout", "no answer in time"),
]


def test_what_an_otlp_receiver_does_not_confirm_is_sent_again_and_said(logs):
    lines = written(logs, 3)

    async def test(reply: Reply, code: str, words: str) -> None:
        with OtlpReceiver(reply) as receiver:
            url = f"otlp+http://{HOST}:{receiver.port}?ack_timeout=300ms&refused_pause=200ms"
            async with delivering(url, logs / "a.log", ADAPTER_OTLP_TOKEN="hunter2") as running:
                await running.until(lambda: running.failing)
                assert words in running.failing
                assert "hunter2" not in running.failing
                assert running.follower.delivered_bytes == 0
                await running.drained()
                assert (code, running.errors(code)) == (code, 1)
                assert running.failing == ""
        assert without_repeats(receiver.lines) == lines

    async def tests() -> None:
        async with asyncio.TaskGroup() as group:
            for each in ANSWERS:
                group.create_task(test(*each))

    run(tests())


def test_retry_after_is_honoured_as_seconds_and_as_a_date(logs):
    async def test() -> None:
        lines = written(logs, 3)
        soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))
        replies = Reply(429, headers={"Retry-After": "1"}), Reply(503, headers={"Retry-After": soon})
        with OtlpReceiver(*replies) as receiver:
            async with delivering(f"otlp+http://{HOST}:{receiver.port}", logs / "a.log") as running:
                began = time.time()
                await running.drained()
                assert time.time() - began >= 1
        first, second, third = (request.at for request in receiver.requests)
        assert second - first >= 1 and third - second >= 0.2
        assert receiver.lines == lines

    run(test())


def test_an_otlp_receiver_that_dies_and_comes_back_gets_everything(logs):
    async def test() -> None:
        lines = written(logs, 20_000, 200)
        port = free_port()
        async with delivering(f"otlp+http://{HOST}:{port}", logs / "a.log") as running:
            await running.until(lambda: "Connect call failed" in running.failing)
            with OtlpReceiver(port=port) as first:
                await running.until(lambda: first.lines)
            with OtlpReceiver(port=port) as second:
                await running.drained()
        assert without_repeats(first.lines + second.lines) == lines

    run(test())


def test_what_an_otlp_receiver_throws_away_is_counted_and_said_with_its_reason(logs, capfd):
    async def test() -> None:
        written(logs, 3)
        partial = b'{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"too old\\n"}}'
        with OtlpReceiver(Reply(body=partial)) as receiver:
            async with delivering(f"otlp+http://{HOST}:{receiver.port}", logs / "a.log") as running:
                await running.drained()
                assert running.counted("adapter_rejected_records_total") == 2
                assert running.errors("rejected") == 1

    run(test())
    assert "too old" in capfd.readouterr().err


@pytest.mark.parametrize("stalled", ["otlp+http", "gelf+tcp", "forward"])
def test_a_receiver_that_stalls_costs_two_batches_of_memory_and_no_offset(logs, stalled):
    async def test() -> None:
        written(logs, 12_000, 1000)
        async with contextlib.AsyncExitStack() as stack:
            if stalled == "otlp+http":
                port = stack.enter_context(OtlpReceiver(Reply(what="stall"))).port
            elif stalled == "gelf+tcp":
                tcp = stack.enter_context(GelfTcpReceiver())
                port = tcp.port
                tcp.reading.clear()
            else:
                port = stack.enter_context(forward_receiver.Receiver(faults=Faults(("no_ack",)))).port
            url = f"{stalled}://{HOST}:{port}"
            running = await stack.enter_async_context(delivering(url, logs / "a.log"))
            most = 6 if stalled == "forward" else 2  # the window of four, one that waits for it, and one
            await running.until(lambda: running.pipeline.portions >= min(most, 5))
            await asyncio.sleep(0.3)  # nothing tells when it goes on, if it does
            assert running.pipeline.portions <= most
            assert running.follower.delivered_bytes == 0

    run(test())


def test_a_dead_output_holds_back_no_other(logs, tmp_path):
    async def test() -> None:
        lines = written(logs, 5000, 300)
        out = tmp_path / "out.jsonl"
        dead, file = f"otlp+http://{HOST}:{free_port()}", f"file://{out}"
        async with delivering(dead, logs / "a.log") as failing, delivering(file, logs / "a.log") as running:
            await failing.until(lambda: failing.failing)
            await running.drained()
            assert failing.follower.delivered_bytes == 0
        assert messages(out) == lines

    run(test())


def certificates(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("collector.test").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    return context, str(tmp_path / "ca.crt")


def test_a_token_that_no_header_can_hold_is_said_and_its_file_read_again(logs, tmp_path):
    async def test() -> None:
        written(logs, 3)
        token = tmp_path / "token"
        token.write_text("one\ntwo\n")
        with OtlpReceiver() as receiver:
            flag = f"--otlp-token-file={token}"
            async with delivering(f"otlp+http://{HOST}:{receiver.port}", logs / "a.log", settings=[flag]) as running:
                await running.until(lambda: running.errors("token"))
                assert "one" not in running.failing.replace("one line", "")
                token.write_text("right\n")
                await running.drained()
        assert receiver.requests[0].headers["Authorization"] == "Bearer right"

    run(test())


def test_otlp_over_tls_checks_the_certificate(logs, tmp_path):
    async def test() -> None:
        lines = written(logs, 3)
        context, ca = certificates(tmp_path)
        with OtlpReceiver(tls=context) as receiver:
            url = f"otlp+https://{HOST}:{receiver.port}/v1/logs"
            async with delivering(url, logs / "a.log") as running:
                await running.until(lambda: running.errors("tls"))
            async with delivering(f"{url}?ca={ca}&server_name=collector.test", logs / "a.log") as running:
                await running.drained()
        assert receiver.lines == lines

    run(test())


# GELF


def test_gelf_over_udp_arrives_whole_in_chunks_and_cut_if_it_must_be(logs):
    async def test() -> None:
        random = os.urandom(120_000).hex()
        lines = ["short", "x" * 100_000, random, "last"]
        (logs / "a.log").write_text("".join(f"{line}\n" for line in lines))
        with GelfUdpReceiver() as receiver:
            url = f"gelf+udp://{HOST}:{receiver.port}?datagram=512"
            async with delivering(url, logs / "a.log") as running:
                await running.drained()
                await running.until(lambda: len(receiver.messages) == 4)
                assert running.counted("adapter_truncated_records_total") == 1
        assert receiver.violations == [] and max(receiver.datagrams) == 512
        texts = [message.get("full_message", message["short_message"]) for message in receiver.messages]
        assert [texts[0], texts[1], texts[3]] == [lines[0], lines[1], lines[3]]
        cut = receiver.messages[2]
        assert cut["_truncated"] is True
        assert texts[2].endswith("… (truncated)") and random.startswith(texts[2].removesuffix("… (truncated)"))

    run(test())


def test_gelf_over_udp_is_sent_again_when_nobody_listens_there(logs):
    async def test() -> None:
        lines = written(logs, 1)
        port = free_port(socket.SOCK_DGRAM)
        async with delivering(f"gelf+udp://{HOST}:{port}", logs / "a.log") as running:
            await running.until(lambda: running.errors("refused"))
            assert running.follower.delivered_bytes == 0
            with GelfUdpReceiver(port) as receiver:
                await running.drained()
                await running.until(lambda: len(receiver.messages) >= 1)
        assert without_repeats(message["short_message"] for message in receiver.messages) == lines

    run(test())


def test_gelf_over_tcp_is_sent_again_when_the_connection_is_lost(logs):
    async def test() -> None:
        lines = written(logs, 8000, 500)
        with GelfTcpReceiver(1000, 200_000) as receiver:
            async with delivering(f"gelf+tcp://{HOST}:{receiver.port}", logs / "a.log") as running:
                await running.drained()
                assert running.errors("closed") == 2
                await running.until(
                    lambda: receiver.messages and receiver.messages[-1]["short_message"] == lines[-1].strip()
                )
        assert receiver.violations == [] and receiver.connections == 3
        assert without_repeats(message["short_message"] for message in receiver.messages) == lines

    run(test())


def test_gelf_over_tcp_speaks_tls(logs, tmp_path):
    async def test() -> None:
        lines = written(logs, 4000, 500)
        context, ca = certificates(tmp_path)
        with GelfTcpReceiver(tls=context) as receiver:
            url = f"gelf+tcp://{HOST}:{receiver.port}?tls=true&ca={ca}"
            async with delivering(url, logs / "a.log") as running:
                await running.until(lambda: running.errors("tls"))
            async with delivering(f"{url}&server_name=collector.test", logs / "a.log") as running:
                await running.drained()
                await running.until(lambda: len(receiver.messages) == 4000)
        assert [message["short_message"] for message in receiver.messages] == lines

    run(test())


def test_gelf_over_tcp_keeps_its_connection_and_opens_another_when_it_was_closed_meanwhile(logs):
    async def test() -> None:
        port = free_port()
        written(logs, 2)
        async with delivering(f"gelf+tcp://{HOST}:{port}", logs / "a.log") as running:
            await running.until(lambda: running.errors("connect"))
            with GelfTcpReceiver(port=port) as first:
                await running.until(lambda: len(first.messages) == 2)
            with GelfTcpReceiver(port=port) as second:
                for number in range(3):
                    with open(logs / "a.log", "a") as file:
                        file.write(f"more {number}\n")
                    await running.until(lambda number=number: len(second.messages) == number + 1)
                assert second.connections == 1
            await running.until(lambda: running.follower.lag_bytes == 0)
            assert running.errors("closed") == 0

    run(test())


# Forward


def test_forward_delivers_records_until_they_are_acknowledged(logs):
    lines = written(logs, 6000, 500)

    async def test(fault: str) -> None:
        with forward_receiver.Receiver(faults=Faults((fault,), every=2, times=2)) as receiver:
            url = f"forward://{HOST}:{receiver.port}?tag=app.{{file}}&compress=gzip"
            async with delivering(url, logs / "a.log") as running:
                await running.drained()
                assert running.counted("adapter_delivered_records_total") == 6000
        events = [event for message in receiver.messages for event in message.events]
        assert receiver.violations == []
        assert {message.tag for message in receiver.messages} == {"app.a.log"}
        assert without_repeats(event.record["message"] for event in events) == lines
        assert {event.time for event in events} == {1_795_413_600_000_000_001}

    async def tests() -> None:
        async with asyncio.TaskGroup() as group:
            for fault in ("close_before_record", "close_before_ack", "late_ack", "garbage"):
                group.create_task(test(fault))

    run(tests())


# Files


def messages(*paths: Path) -> list[str]:
    whole = [path.read_bytes().rpartition(b"\n")[0] for path in paths]  # a look may come in the middle of a write
    return [json.loads(line)["message"] for text in whole for line in text.splitlines()]


@pytest.mark.parametrize("rotate", [os.rename, lambda path, rotated: (os.link(path, rotated), os.unlink(path))])
def test_a_file_may_be_rotated_and_nothing_is_lost_or_torn(logs, tmp_path, rotate):
    async def test() -> None:
        written(logs, 3)
        out, rotated = tmp_path / "out", tmp_path / "out.1"
        async with delivering(f"file://{out}", logs / "a.log") as running:
            await running.until(lambda: out.exists() and out.read_bytes().count(b"\n") == 3)
            rotate(out, rotated)
            with open(logs / "a.log", "a") as file:
                file.write("after\n")
            await running.drained()
        assert messages(rotated, out) == ["line 0", "line 1", "line 2", "after"]

    run(test())


def test_a_file_is_acknowledged_within_a_second_or_so_also_when_nothing_follows(logs, tmp_path):
    async def test() -> None:
        written(logs, 3)
        async with delivering(f"file://{tmp_path}/out", logs / "a.log") as running:
            await running.until(lambda: running.follower.delivered_bytes)
            assert running.follower.lag_bytes == 0

    run(test())


def test_a_full_disk_is_waited_for(logs, tmp_path):
    async def test() -> None:
        lines = written(logs, 3)
        out = tmp_path / "out"
        out.symlink_to("/dev/full")
        async with delivering(f"file://{out}", logs / "a.log") as running:
            await running.until(lambda: running.errors("disk_full"))
            assert "No space left on device; make room" in running.failing
            assert running.follower.delivered_bytes == 0
            out.unlink()
            await running.drained()
            assert running.failing == ""
        assert messages(out) == lines

    run(test())


def test_what_cannot_be_opened_is_waited_for(logs, tmp_path):
    async def test() -> None:
        lines = written(logs, 3)
        out = tmp_path / "later" / "out"
        async with delivering(f"file://{out}", logs / "a.log") as running:
            await running.until(lambda: running.errors("enoent"))
            out.parent.mkdir()
            await running.drained()
        assert messages(out) == lines

    run(test())


def test_a_line_that_a_crash_left_unfinished_is_ended_first(logs, tmp_path):
    async def test() -> None:
        lines = written(logs, 3)
        out = tmp_path / "out"
        out.write_text('{"message": "half')
        async with delivering(f"file://{out}?to=ecs", logs / "a.log") as running:
            await running.drained()
        begun, *rest = out.read_bytes().splitlines()
        assert begun == b'{"message": "half'
        assert [json.loads(line)["message"] for line in rest] == lines

    run(test())
