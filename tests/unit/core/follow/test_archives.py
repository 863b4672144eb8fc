"""Rotated files that are found compressed: read on where they were left, once, or known as what was delivered."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecars.core.follow import metrics
from sidecars.core.follow.checkpoint import JsonStore
from sidecars.core.follow.lane import Options
from tests.unit.core.follow.stream import run, streaming
from tests.unit.core.follow.test_restart import Restarts, age, append, tick

# Tells generations apart only beyond the head that is compared first.
BANNER = b"# " + b"banner " * 200 + b"\n"


def lines(name: str, count: int = 40) -> bytes:
    return b"".join(b"%s %06d %s\n" % (name.encode(), number, b"x" * 20) for number in range(count))


def by_gzip(path: Path) -> None:
    subprocess.run(["gzip", path], check=True)


def by_zstd(path: Path) -> None:
    subprocess.run(["zstd", "-q", "--rm", path], check=True)


def by_zstd_from_a_pipe(path: Path) -> None:
    with path.open("rb") as file, Path(f"{path}.zst").open("wb") as to:
        subprocess.run(["zstd", "-q"], stdin=file, stdout=to, check=True)
    path.unlink()


def by_python(path: Path) -> None:
    """As many programs rotate by themselves: the time is now, and not that of the original."""
    Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def in_members(path: Path) -> None:
    data = path.read_bytes()
    Path(f"{path}.gz").write_bytes(gzip.compress(data[:777]) + gzip.compress(data[777:]))
    path.unlink()


def an_hour_ago(store: Path) -> None:
    """Make a checkpoint look as if it was written an hour ago."""
    document = json.loads(store.read_bytes())
    for each in (document, *document["files"]):
        each |= {key: each[key] - 3_600_000_000_000 for key in ("begun", "saved", "modified") if key in each}
    store.write_bytes(json.dumps(document).encode())


Compress = Callable[[Path], None]


@pytest.fixture(params=[by_gzip, by_python], ids=lambda way: str(way.__name__))
def compress(request: pytest.FixtureRequest) -> Compress:
    way: Compress = request.param
    return way


def rotate(log: Path, compress: Compress, delay: bool = False) -> None:
    """What logrotate does with compress, and with delaycompress."""
    found = sorted(log.parent.glob(f"{log.name}.*"), key=lambda path: int(path.name.split(".")[2]), reverse=True)
    for path in found:
        number, *ending = path.name.split(".")[2:]
        path.rename(log.with_name(".".join([log.name, str(int(number) + 1), *ending])))
    log.rename(f"{log}.1")
    wanted = log.with_name(f"{log.name}.{2 if delay else 1}")
    if wanted.exists():
        compress(wanted)


@pytest.fixture(params=["file", "glob", "all of the glob", "directory"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Restarts]:
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "app.log"
    paths = {"file": log, "glob": log.with_name("*.log"), "all of the glob": f"{log}*", "directory": log.parent}
    yield Restarts(tmp_path, str(paths[request.param]))


@pytest.fixture
def file(tmp_path: Path) -> Restarts:
    (tmp_path / "logs").mkdir()
    return Restarts(tmp_path, str(tmp_path / "logs" / "app.log"))


# While nobody looks


def test_the_rest_of_what_was_compressed_meanwhile_is_read_once(program: Restarts, compress: Compress) -> None:
    append(program.log, lines("a"))
    program.once(lines("a"))
    append(program.log, lines("b"))
    rotate(program.log, compress)
    append(program.log, lines("c"))
    program.once(lines("b") + lines("c"))
    program.once(b"")
    rotate(program.log, compress)
    append(program.log, lines("d"))
    program.once(lines("d"))


@pytest.mark.parametrize("compressor", [by_zstd, by_zstd_from_a_pipe, in_members])
def test_whatever_compressed_it_it_is_read_on(file: Restarts, compressor: Compress) -> None:
    append(file.log, lines("a"))
    file.once(lines("a"))
    append(file.log, lines("b"))
    rotate(file.log, compressor)
    append(file.log, lines("c"))
    file.once(lines("b") + lines("c"))
    file.once(b"")


def test_an_archive_that_nothing_here_uncompresses_is_said_once_and_left(
    file: Restarts, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    append(file.log, lines("a"))
    file.once(lines("a"))
    for name in "bc":
        append(file.log, lines(name))
        rotate(file.log, by_zstd)
    append(file.log, lines("d"))
    file.once(lines("d"))
    assert capfd.readouterr().err.count("cannot be read here") <= 1


@pytest.mark.parametrize("beginning", [b"", BANNER], ids=["plain", "banner"])
def test_several_generations_that_were_compressed_meanwhile_are_read_in_order(
    file: Restarts, compress: Compress, beginning: bytes
) -> None:
    append(file.log, beginning + lines("a"))
    file.once(beginning + lines("a"))
    append(file.log, lines("b"))
    expected = lines("b")
    for name in "cde":
        tick(file.log.parent)
        rotate(file.log, compress)
        append(file.log, beginning + lines(name))
        expected += beginning + lines(name)
    file.once(expected)
    file.once(b"")


def test_what_was_delivered_and_is_compressed_then_is_not_read_again(program: Restarts, compress: Compress) -> None:
    append(program.log, lines("a"))
    program.once(lines("a"))
    rotate(program.log, compress)
    append(program.log, lines("b"))
    program.once(lines("b"))
    rotate(program.log, compress, delay=True)
    append(program.log, lines("c"))
    program.once(lines("c"))
    for name in "de":
        rotate(program.log, compress, delay=True)
        append(program.log, lines(name))
        program.once(lines(name))


def test_a_file_of_which_nothing_was_delivered_is_read_from_its_beginning(file: Restarts, compress: Compress) -> None:
    append(file.log, lines("a"))
    file.killed(lines("a"), acknowledging=False)
    rotate(file.log, compress)
    append(file.log, lines("b"))
    file.once(lines("a") + lines("b"))
    file.once(b"")


def test_a_file_that_was_seen_and_not_even_read_is_read_from_its_beginning(file: Restarts, compress: Compress) -> None:
    """An output was away for an hour: the file, and the checkpoint, say only that nothing was delivered."""
    append(file.log, lines("a"))
    age(file.log.parent)

    async def scenario() -> None:
        async with streaming(file.log, options=file.options, store=JsonStore(file.store)):
            pass

    run(scenario())
    rotate(file.log, compress)
    append(file.log, lines("b"))
    file.once(lines("a") + lines("b"))


def test_a_kill_inside_of_an_archive_goes_on_there(file: Restarts, compress: Compress) -> None:
    append(file.log, lines("a"))
    file.once(lines("a"))
    append(file.log, lines("b", 60_000))
    rotate(file.log, compress)
    append(file.log, lines("c"))

    async def scenario() -> bytes:
        store = JsonStore(file.store)
        async with streaming(file.log, options=file.options, store=store) as stream:
            await stream.take()
            return stream.data

    async def whole() -> bytes:
        return await scenario()

    taken = asyncio.run(whole())
    assert taken and len(taken) < len(lines("b", 60_000)) and lines("b", 60_000).startswith(taken)
    rotate(file.log, compress)
    append(file.log, lines("d"))
    file.once(lines("b", 60_000)[len(taken) :] + lines("c") + lines("d"))


def test_a_partial_line_goes_on_in_the_archive(file: Restarts, compress: Compress) -> None:
    append(file.log, lines("a") + b"begun")
    file.once(lines("a") + b"begun")
    append(file.log, b" and ended\n" + lines("b"))
    rotate(file.log, compress)
    append(file.log, lines("c"))
    file.once(b" and ended\n" + lines("b") + lines("c"))


def test_a_copy_that_was_cut_and_compressed_is_read_on(file: Restarts, compress: Compress) -> None:
    append(file.log, lines("a"))
    file.once(lines("a"))
    append(file.log, lines("b"))
    copy = Path(f"{file.log}.1")
    copy.write_bytes(file.log.read_bytes())
    compress(copy)
    os.truncate(file.log, 0)
    append(file.log, lines("c"))
    file.once(lines("b") + lines("c"))


def test_the_archives_of_many_paths_are_read_two_at_a_time_to_their_ends(tmp_path: Path, compress: Compress) -> None:
    (tmp_path / "logs").mkdir()
    logs = [tmp_path / "logs" / f"{name}.log" for name in "abcdef"]
    options = Options(rotate_wait=0.1, watch=False, poll_interval=0.01)
    store = JsonStore(str(tmp_path / "state.json"))
    expected: list[bytes] = []

    async def scenario() -> None:
        async with streaming(tmp_path / "logs", options=options, store=store) as stream:
            await stream.until(lambda: len(stream.data) >= len(b"".join(expected)))
            unpacking = stream.follower._tracker.turns._unpacking
            assert len(unpacking) <= 2
            await stream.rest()
            assert sorted(stream.data.splitlines()) == sorted(b"".join(expected).splitlines())
            assert not unpacking

    for log in logs:
        expected.append(lines(f"{log.stem}1"))
        append(log, expected[-1])
    run(scenario())
    expected.clear()
    for log in logs:
        for part in "23":
            expected.append(lines(log.stem + part, 20_000))
            append(log, expected[-1])
            rotate(log, compress)
    run(scenario())


def test_what_was_compressed_in_place_is_read_on(file: Restarts) -> None:
    append(file.log, lines("a"))
    file.once(lines("a"))
    append(file.log, lines("b"))
    by_gzip(file.log)
    append(file.log, lines("c"))
    file.once(lines("b") + lines("c"))


def test_archives_from_before_the_first_start_are_none_of_ours(program: Restarts) -> None:
    for name in "abc":
        append(program.log, lines(name))
        rotate(program.log, by_gzip)
    tick(program.log.parent)
    append(program.log, lines("d"))
    program.once(lines("d"))
    program.once(b"")


# While somebody looks


@pytest.mark.parametrize("kept", [False, True], ids=["open", "more files than descriptors"])
def test_what_is_compressed_while_it_is_read_is_delivered_once(tmp_path: Path, compress: Compress, kept: bool) -> None:
    log = tmp_path / "logs" / "app.log"
    log.parent.mkdir()
    options = Options(rotate_wait=0.1, watch=False, poll_interval=0.01, open_files=1 if kept else 512)

    async def scenario() -> None:
        append(log, lines("a"))
        append(log.with_name("b.log"), lines("0"))
        async with streaming(log, log.with_name("b.log"), options=options) as stream:
            expected = lines("a") + lines("0")
            for name in "cdef":
                await stream.receive_any_order(expected)
                append(log.with_name("b.log"), lines(f"0{name}"))  # the last to be read keeps its descriptor
                expected += lines(f"0{name}")
                await stream.receive_any_order(expected)
                append(log, lines(f"1{name}"))
                tick(log.parent)
                rotate(log, compress)
                append(log, lines(name))
                expected += lines(f"1{name}") + lines(name)
            await stream.receive_any_order(expected)
            assert sorted((await stream.rest()).splitlines()) == sorted(expected.splitlines())

    run(scenario())


def test_a_copy_that_was_cut_and_compressed_between_two_looks_is_read_on(
    tmp_path: Path, compress: Compress, options: Options
) -> None:
    log = tmp_path / "logs" / "app.log"
    log.parent.mkdir()

    async def scenario() -> None:
        append(log, lines("a"))
        async with streaming(log, options=options) as stream:
            await stream.receive(lines("a"))
            append(log, lines("b"))
            copy = tmp_path / "app.log.1"
            copy.write_bytes(log.read_bytes())
            compress(copy)
            for made in tmp_path.glob("app.log.1*"):
                made.rename(log.parent / made.name)
            os.truncate(log, 0)
            append(log, lines("c"))
            await stream.receive_any_order(b"".join(map(lines, "abc")))
            assert await stream.rest() == b"".join(map(lines, "abc"))

    run(scenario())


def test_generations_that_came_and_went_compressed_between_two_looks_are_read(
    tmp_path: Path, compress: Compress, options: Options
) -> None:
    log = tmp_path / "logs" / "app.log"
    log.parent.mkdir()

    async def scenario() -> None:
        append(log, lines("a"))
        async with streaming(log, options=options) as stream:
            await stream.receive(lines("a"))
            # The event loop stands still meanwhile: nobody looks.
            for name in "bcd":
                tick(log.parent)
                rotate(log, compress)
                append(log, lines(name))
            await stream.receive(b"".join(map(lines, "abcd")))
            assert await stream.rest() == b"".join(map(lines, "abcd"))

    run(scenario())


def test_an_archive_under_way_is_read_once_it_is_whole(file: Restarts) -> None:
    append(file.log, lines("a"))
    file.once(lines("a"))
    append(file.log, lines("b", 4000))
    data = gzip.compress(file.log.read_bytes())
    file.log.unlink()
    archive = Path(f"{file.log}.1.gz")
    archive.write_bytes(data[:-1000])
    append(file.log, lines("c"))

    async def scenario() -> None:
        async with streaming(file.log, options=file.options, store=JsonStore(file.store)) as stream:
            taking = asyncio.create_task(stream.take())
            await asyncio.sleep(0.7)
            assert not taking.done()
            with archive.open("ab") as rest:
                rest.write(data[-1000:])
            await taking
            await stream.receive(lines("b", 4000) + lines("c"))
            assert await stream.rest() == lines("b", 4000) + lines("c")

    run(scenario())
    file.once(b"")


@pytest.mark.parametrize("harm", ["cut", "changed", "no archive"])
def test_an_archive_that_cannot_be_read_stops_nothing_and_is_said_once(
    file: Restarts, harm: str, capfd: pytest.CaptureFixture[str]
) -> None:
    append(file.log, lines("a"))
    file.once(lines("a"))
    append(file.log, lines("b", 4000))
    rotate(file.log, by_gzip)
    archive = Path(f"{file.log}.1.gz")
    data = bytearray(archive.read_bytes())
    if harm == "cut":
        del data[-100:]
    elif harm == "changed":
        data[len(data) // 2] ^= 0xFF
    archive.write_bytes(b"no archive" if harm == "no archive" else data)
    if harm == "cut":
        os.utime(archive, (time.time() - 30, time.time() - 30))
        an_hour_ago(Path(file.store))
    append(file.log, lines("c"))
    capfd.readouterr()
    file.once(lines("c"))
    assert capfd.readouterr().err.count("rotated file cannot be uncompressed" if harm != "cut" else "to its end") == 1
    file.once(b"")


def test_an_archive_is_read_from_its_beginning_where_it_is_named_and_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "old.log.1.gz"
    path.write_bytes(gzip.compress(lines("a", 60_000)))
    store = JsonStore(str(tmp_path / "state.json"))

    async def first() -> bytes:
        async with streaming(path, store=store, decompress=True) as stream:
            await stream.take()
            return stream.data

    async def second(taken: bytes) -> None:
        async with streaming(path, store=store, decompress=True) as stream:
            await stream.receive(lines("a", 60_000)[len(taken) :])
            assert await stream.rest() == lines("a", 60_000)[len(taken) :]

    run(second(asyncio.run(first())))


def test_an_archive_that_is_named_is_its_bytes_where_nothing_else_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "old.log.1.gz"
    path.write_bytes(gzip.compress(lines("a")))

    async def scenario() -> None:
        async with streaming(path) as stream:
            assert await stream.rest() == path.read_bytes()

    run(scenario())


def test_a_compressed_copy_of_what_was_delivered_costs_a_look_at_its_head(
    file: Restarts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So much uncompressed as in a whole file would take seconds where logs are large."""
    append(file.log, lines("a", 60_000))
    file.once(lines("a", 60_000))
    rotate(file.log, by_gzip)
    append(file.log, lines("b"))
    read = metrics.READ_BYTES.labels("test")._value.get()
    began = os.times().user
    file.once(lines("b"))
    assert metrics.READ_BYTES.labels("test")._value.get() - read == len(lines("b"))
    assert os.times().user - began < 5
