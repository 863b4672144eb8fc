from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecars.core.follow.join import records
from sidecars.core.follow.lane import Options
from sidecars.core.follow.turns import BATCH_BYTES
from tests.unit.core.follow.stream import Stream, run, streaming

POLLING = Options(watch=False, poll_interval=0.005)


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


# Bytes


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(chunks=st.lists(st.binary(max_size=3000) | st.sampled_from([b"\n", b"\r\n", b"\r", b"\0" * 9, b"\xff\xfe\n"])))
def test_any_bytes_in_any_pieces_pass_unchanged(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes], options: Options
) -> None:
    async def scenario() -> None:
        path = tmp_path_factory.mktemp("bytes") / "a.log"
        path.touch()
        async with streaming(path, options=options) as stream:
            whole = 0
            for number, chunk in enumerate(chunks):
                append(path, chunk)
                whole = b"".join(chunks[: number + 1]).rfind(b"\n") + 1
                await stream.until(lambda whole=whole: len(stream.data) >= whole)  # type: ignore[misc]
            assert stream.data == b"".join(chunks)[:whole]
            assert await stream.rest() == b"".join(chunks)

    run(scenario())


@pytest.mark.parametrize("size", [BATCH_BYTES - 1, BATCH_BYTES, BATCH_BYTES + 1, 3 * BATCH_BYTES + 7])
def test_a_line_longer_than_a_batch_passes_in_parts(tmp_path: Path, size: int) -> None:
    async def scenario() -> None:
        line = b"x" * (size - 1) + b"\n"
        path = tmp_path / "a.log"
        append(path, b"before\n" + line + b"after\n")
        async with streaming(path) as stream:
            assert await stream.rest() == b"before\n" + line + b"after\n"
            assert max(len(given.data) for given in stream.given) <= BATCH_BYTES
            open_before = [given.continued for given in stream.given[1:]]
            assert open_before == [not given.complete for given in stream.given[:-1]]
            assert any(open_before) == (size > BATCH_BYTES)

    run(scenario())


# Turns


def test_paths_have_fair_turns(tmp_path: Path) -> None:
    async def scenario() -> None:
        for name in ("a", "b", "c"):
            append(tmp_path / f"{name}.log", b"%s\n" % (name.encode() * 99) * 20_000)
        append(tmp_path / "d.log", b"the only line\n")
        async with streaming(tmp_path / "*.log") as stream:
            await stream.rest()
        order = [os.path.basename(given.path)[0] for given in stream.given]
        assert order.index("d") <= 3, order
        assert sorted(order[:4]) == ["a", "b", "c", "d"], order

    run(scenario())


def test_a_file_inside_a_line_keeps_its_turn_until_the_line_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        append(tmp_path / "a.log", b"x" * 2 * BATCH_BYTES)
        async with streaming(tmp_path / "a.log", tmp_path / "b.log", options=POLLING) as stream:
            await stream.until(lambda: len(stream.data) >= 2 * BATCH_BYTES - 3)
            append(tmp_path / "b.log", b"other\n")
            append(tmp_path / "a.log", b"end\n")
            await stream.until(lambda: b"other\n" in stream.data)
            assert stream.data == b"x" * 2 * BATCH_BYTES + b"end\nother\n"

    run(scenario())


def test_long_lines_of_two_files_do_not_mix(tmp_path: Path) -> None:
    async def scenario() -> None:
        long = {name: name.encode() * 3 * BATCH_BYTES + b"\n" for name in "ab"}
        for name, line in long.items():
            append(tmp_path / f"{name}.log", line)
        async with streaming(tmp_path / "a.log", tmp_path / "b.log") as stream:
            assert sorted((await stream.rest()).splitlines(keepends=True)) == sorted(long.values())

    run(scenario())


def test_a_line_that_does_not_end_holds_up_the_others_for_some_seconds_only(tmp_path: Path) -> None:
    async def scenario() -> None:
        append(tmp_path / "a.log", b"x" * BATCH_BYTES)
        started = time.monotonic()
        async with streaming(tmp_path / "a.log", tmp_path / "b.log", options=POLLING) as stream:
            await stream.take()
            append(tmp_path / "b.log", b"other\n")
            await stream.until(lambda: stream.data.endswith(b"other\n"))
            assert time.monotonic() - started > 3

    run(scenario())


# Which files


@pytest.mark.parametrize(
    "name", ["with space.log", "new\nline.log", "*.log", "[a].log", "?.log", "é.log", "caf\udce9.log", "-"]
)
def test_any_name_is_followed(tmp_path: Path, name: str, options: Options) -> None:
    async def scenario() -> None:
        path = tmp_path / name
        (tmp_path / "a.log.x").write_bytes(b"not this one\n")
        path.touch()
        async with streaming(path, options=options) as stream:
            for count in range(1, 4):
                append(path, b"line\n")
                await stream.receive(b"line\n" * count)
            path.rename(f"{path}.1")
            append(path, b"line\n")
            await stream.receive(b"line\n" * 4)

    run(scenario())


def test_files_that_come_later_are_found(tmp_path: Path, options: Options) -> None:
    async def scenario() -> None:
        paths = [tmp_path / "one" / "a.log", tmp_path / "two", tmp_path / "three" / "*" / "*.log"]
        async with streaming(*paths, options=options) as stream:
            expected = b""
            for name in ("one/a.log", "two/b.log", "three/x/c.log", "three/y/d.log", "two/e.log"):
                path = tmp_path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                append(path, name.encode() + b"\n")
                expected += name.encode() + b"\n"
                await stream.receive(expected)

    run(scenario())


def test_excluded_hidden_and_compressed_files_are_not_read(tmp_path: Path, options: Options) -> None:
    async def scenario() -> None:
        names = ("debug.log", ".hidden", "a.log.1.gz", "b.zst")
        for name in names:
            append(tmp_path / name, b"no\n")
        async with streaming(tmp_path, options=options, exclude=("debug*",)) as stream:
            append(tmp_path / "a.log", b"yes\n")
            await stream.receive(b"yes\n")
            for name in (*names, "debug.2.log"):
                append(tmp_path / name, b"no\n")
            append(tmp_path / "a.log", b"yes\n")
            await stream.receive(b"yes\nyes\n")
            assert await stream.rest() == b"yes\nyes\n"

    run(scenario())


def test_hard_links_are_read_once(tmp_path: Path, options: Options) -> None:
    async def scenario() -> None:
        append(tmp_path / "a.log", b"1\n")
        os.link(tmp_path / "a.log", tmp_path / "b.log")
        async with streaming(tmp_path / "*.log", options=options) as stream:
            await stream.receive(b"1\n")
            append(tmp_path / "b.log", b"2\n")
            await stream.receive(b"1\n2\n")
            (tmp_path / "a.log").unlink()
            append(tmp_path / "b.log", b"3\n")
            await stream.receive(b"1\n2\n3\n")
            os.link(tmp_path / "b.log", tmp_path / "c.log")
            append(tmp_path / "c.log", b"4\n")
            await stream.receive(b"1\n2\n3\n4\n")
            assert await stream.rest() == b"1\n2\n3\n4\n"

    run(scenario())


def test_a_path_that_two_sources_of_one_stream_mean_is_read_once(tmp_path: Path, options: Options) -> None:
    async def scenario() -> None:
        append(tmp_path / "a.log", b"1\n")
        async with streaming(tmp_path / "a.log", tmp_path / "*.log", tmp_path, options=options) as stream:
            append(tmp_path / "a.log", b"2\n")
            assert await stream.rest() == b"1\n2\n"

    run(scenario())


# Held lines


def test_a_last_line_is_held_until_the_drain(tmp_path: Path, options: Options) -> None:
    async def scenario() -> None:
        path = tmp_path / "a.log"
        append(path, b"one\ntw")
        async with streaming(path, options=options) as stream:
            await stream.receive(b"one\n")
            append(path, b"o\nthr")
            await stream.receive(b"one\ntwo\n")
            assert await stream.rest() == b"one\ntwo\nthr"
            assert not stream.given[-1].complete

    run(scenario())


def test_a_last_line_goes_out_after_the_timeout_and_the_rest_continues_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "a.log"
        append(path, b"one\ntw")
        async with streaming(path, options=Options(partial_timeout=0.3)) as stream:
            started = time.monotonic()
            await stream.receive(b"one\ntw")
            assert time.monotonic() - started > 0.2
            append(path, b"o\n")
            await stream.receive(b"one\ntwo\n")
            assert [(given.continued, given.complete) for given in stream.given] == [
                (False, True),
                (False, False),
                (True, True),
            ]

    run(scenario())


def test_the_last_of_joined_records_goes_out_after_the_timeout(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "a.log"
        trace = b"INFO a\nERROR b\n\tat c\n"
        append(path, trace)
        async with streaming(path, options=Options(record_timeout=0.3), records=records("java")) as stream:
            started = time.monotonic()
            await stream.receive(trace)
            assert time.monotonic() - started > 0.2
            assert [given.data for given in stream.given] == [b"INFO a\n", b"ERROR b\n\tat c\n"]

    run(scenario())


def test_a_path_is_cut_in_another_way_once_what_is_in_it_was_seen(tmp_path: Path, options: Options) -> None:
    path = tmp_path / "app.log"

    async def scenario() -> None:
        path.write_bytes(b"INFO first\n")
        async with streaming(path, options=msgspec.structs.replace(options, record_timeout=0.3)) as stream:
            await stream.receive(b"INFO first\n")
            stream.last.file.lane.records = records("java")
            append(path, b"ERROR\n\tat a.b\nINFO next\n")
            await stream.receive(b"INFO first\nERROR\n\tat a.b\nINFO next\n")
            assert [given.data for given in stream.given[1:]] == [b"ERROR\n\tat a.b\n", b"INFO next\n"]

    run(scenario())


def test_joined_records_are_whole_in_their_batches(tmp_path: Path, options: Options) -> None:
    async def scenario() -> None:
        path = tmp_path / "a.log"
        joined = records("java")
        record = b"ERROR b\n\tat c\n\tat d\n"
        path.touch()
        async with streaming(path, options=options, records=joined) as stream:
            for piece in (
                b"ERR",
                b"OR b\n",
                b"\tat c\n",
                b"\tat d\nERROR b\n\tat",
                b" c\n\tat d\nERROR b\n\tat c\n\tat d\n",
            ):
                append(path, piece)
                await asyncio.sleep(0.02)  # give it the chance to cut at the wrong place
            assert await stream.rest() == 3 * record
            assert [part for given in stream.given for part in joined.split(given.data)] == [record] * 3

    run(scenario())


def test_a_record_longer_than_a_batch_goes_out_in_batches_of_whole_lines(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "a.log"
        data = b"ERROR\n" + b"\tat c\n" * 300_000
        append(path, data)
        async with streaming(path, records=records("java")) as stream:
            assert await stream.rest() == data
            assert len(stream.given) >= 2
            assert all(given.data.endswith(b"\n") for given in stream.given)

    run(scenario())


# Pace, ends, resources


def test_bytes_are_given_out_no_faster_than_the_rate_limit(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "a.log"
        append(path, b"x" * 99 + b"\n")
        size = 200_000
        append(path, (b"y" * 99 + b"\n") * (size // 100))
        async with streaming(path, options=Options(rate_limit=200_000)) as stream:
            started = time.monotonic()
            await stream.rest()
            assert len(stream.data) == size + 100
            assert time.monotonic() - started > 0.7

    run(scenario())


def test_once_ends_at_the_end_of_the_files(tmp_path: Path) -> None:
    async def scenario() -> None:
        for number in range(20):
            append(tmp_path / f"{number}.log", b"line\nlast")
        async with streaming(tmp_path, options=Options(once=True)) as stream:
            while await stream.take():
                pass
        assert stream.by_path() == {f"{number}.log": b"line\nlast" for number in range(20)}

    run(scenario())


@pytest.mark.parametrize("present", [True, False])
def test_once_over_nothing_ends(tmp_path: Path, present: bool) -> None:
    async def scenario() -> None:
        if present:
            (tmp_path / "a.log").touch()
        async with streaming(tmp_path / "a.log", options=Options(once=True)) as stream:
            assert not await stream.take()

    run(scenario())


def test_the_drain_waits_until_the_files_are_quiet(tmp_path: Path, options: Options) -> None:
    async def scenario() -> None:
        path = tmp_path / "a.log"
        append(path, b"0\n")
        async with streaming(path, options=options) as stream:
            await stream.receive(b"0\n")
            stream.follower.drain(0.6)

            async def write() -> None:
                for number in range(1, 8):
                    await asyncio.sleep(0.15)
                    append(path, b"%d\n" % number)

            writer = asyncio.create_task(write())
            while await stream.take():
                pass
            assert writer.done()
            assert stream.data == b"".join(b"%d\n" % number for number in range(8))

    run(scenario())


def in_use(directory: Path) -> int:
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{name}").startswith(str(directory))
        except FileNotFoundError:
            continue
    return count


def ends(met: Callable[[], bool]) -> None:
    """Wait for the threads of a follower that was closed."""
    end = time.monotonic() + 10
    while not met() and time.monotonic() < end:
        time.sleep(0.01)
    assert met()


def test_few_descriptors_are_enough_for_many_files(tmp_path: Path) -> None:
    async def scenario() -> None:
        options = Options(open_files=4, rotate_wait=0.1, watch=False, poll_interval=0.01)
        paths = [tmp_path / f"{number}.log" for number in range(50)]
        expected = {path.name: b"" for path in paths}
        for path in paths:
            append(path, b"1 " + path.name.encode() + b"\n")
            expected[path.name] += b"1 " + path.name.encode() + b"\n"

        async def everything(stream: Stream) -> None:
            await stream.until(lambda: len(stream.data) >= sum(map(len, expected.values())))
            assert stream.by_path() == expected
            assert in_use(tmp_path) <= 5

        async with streaming(tmp_path / "*.log", options=options) as stream:
            await everything(stream)
            for path in paths:  # those that are closed have grown before they are renamed
                append(path, b"2 " + path.name.encode() + b"\n")
                path.rename(f"{path}.1")
                append(path, b"3 " + path.name.encode() + b"\n")
                expected[path.name] += b"2 %s\n3 %s\n" % (path.name.encode(), path.name.encode())
            await stream.until(lambda: len(stream.data) >= sum(map(len, expected.values())))
            assert stream.by_path() == expected
            await stream.eventually(lambda: in_use(tmp_path) <= 5)
            for path in paths:  # the same inodes are given away again, in whatever order
                path.unlink()
            for path in paths:
                append(path, b"4 " + path.name.encode() + b" a new beginning\n")
                expected[path.name] += b"4 " + path.name.encode() + b" a new beginning\n"
            await everything(stream)
            for path in paths:
                os.truncate(path, 0)
                append(path, b"5\n")
                expected[path.name] += b"5\n"
            await everything(stream)

    run(scenario())
    ends(lambda: in_use(tmp_path) == 0)


def test_nothing_is_open_after_the_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with streaming(tmp_path / "a.log") as stream:
            await stream.receive(b"1\n")
            assert in_use(tmp_path) == 1

    append(tmp_path / "a.log", b"1\n")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        run(scenario())
    ends(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_what_is_not_delivered_yet_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "a.log"
        append(path, b"12345\n")
        async with streaming(path, acknowledging=False) as stream:
            await stream.receive(b"12345\n")
            assert stream.follower.lag_bytes == 6
            assert 0 < stream.follower.oldest_seconds < math.inf
        async with streaming(path) as stream:
            await stream.receive(b"12345\n")
            assert stream.follower.lag_bytes == 0
            assert stream.follower.oldest_seconds == 0

    run(scenario())
