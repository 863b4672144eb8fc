from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from pathlib import Path

import pytest

from sidecars.core.follow import metrics, succession
from sidecars.core.follow.file import File, open_file
from sidecars.core.follow.lane import Options, Source
from sidecars.core.follow.tracker import Tracker
from tests.unit.core.follow.stream import PATIENCE, run, streaming

# Less than the slow scan takes to find what is written one after the other in a test, much more than who is told.
SLOW = 20.0


def lines(name: str, count: int = 40, width: int = 20) -> bytes:
    return b"".join(b"%s %06d %s\n" % (name.encode(), number, b"x" * width) for number in range(count))


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def tick(path: Path) -> None:
    """Wait until the clock that file systems take their times from has moved on: births tell the order then."""
    probe = path.parent.parent / "tick"
    probe.touch()
    before = probe.stat().st_mtime_ns
    while probe.stat().st_mtime_ns == before:
        probe.touch()


def rename_away(path: Path) -> None:
    """What logrotate does: app.log.1 becomes app.log.2, app.log becomes app.log.1."""
    number = sum(1 for _ in path.parent.glob(f"{path.name}.*"))
    for old in range(number, 0, -1):
        os.rename(f"{path}.{old}", f"{path}.{old + 1}")
    path.rename(f"{path}.1")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs" / "app.log"


@pytest.fixture(params=["file", "glob", "all of the glob", "directory"])
def path(request: pytest.FixtureRequest, log: Path) -> str:
    """What the operator gave: the last two mean the rotated files too, which must not be read twice for that."""
    return {
        "file": str(log),
        "glob": f"{log.parent}/*.log",
        "all of the glob": f"{log}*",
        "directory": str(log.parent),
    }[str(request.param)]


def test_a_renamed_file_is_read_to_its_end_and_then_the_new_one(log: Path, path: str, options: Options) -> None:
    async def scenario() -> None:
        append(log, lines("a"))
        async with streaming(path, options=options) as stream:
            await stream.receive(lines("a"))
            append(log, lines("b"))
            rename_away(log)
            append(log, lines("c"))
            await stream.receive(lines("a") + lines("b") + lines("c"))
            assert await stream.rest() == lines("a") + lines("b") + lines("c")

    run(scenario())


def test_lines_that_come_late_into_a_renamed_file_are_read(log: Path, path: str, options: Options) -> None:
    async def scenario() -> None:
        append(log, lines("a"))
        with log.open("ab", buffering=0) as writer:
            async with streaming(path, options=options) as stream:
                await stream.receive(lines("a"))
                rename_away(log)
                append(log, lines("c"))
                await stream.receive(lines("a") + lines("c"))
                writer.write(lines("b"))
                await stream.receive(lines("a") + lines("c") + lines("b"))
                assert await stream.rest() == stream.data == lines("a") + lines("c") + lines("b")

    run(scenario())


def test_every_file_of_several_rotations_between_two_looks_is_read(log: Path, path: str, options: Options) -> None:
    async def scenario() -> None:
        append(log, lines("a"))
        async with streaming(path, options=options) as stream:
            await stream.receive(lines("a"))
            # The event loop stands still meanwhile: nobody looks.
            for name in "bcdef":
                tick(log)
                rename_away(log)
                append(log, lines(name))
            expected = b"".join(map(lines, "abcdef"))
            await stream.receive_any_order(expected)
            if path == str(log):
                assert stream.data == expected

    run(scenario())


@pytest.mark.parametrize("quiet", [True, False])
def test_a_file_that_is_rotated_while_the_names_are_read_is_not_overlooked(log: Path, quiet: bool) -> None:
    append(log, b"a")
    rename_away(log)
    append(log, b"b")
    inode = log.stat().st_ino
    if quiet:
        os.utime(log.parent, (0, 0))
    entries = succession.listed(str(log))
    next(entries)
    rename_away(log)
    assert inode in {status.st_ino for _, status in entries}


def test_what_came_after_a_file_that_was_rotated_since_it_was_seen_is_read_after_it(log: Path) -> None:
    append(log, b"a\n")
    tracker = Tracker([Source((str(log),))], Options(watch=False), "test")
    tracker.remember(None)
    tracker.scan()
    for name in (b"b\n", b"c\n", b"d\n"):
        tick(log)
        rename_away(log)
        append(log, name)
        if name == b"b\n":
            tracker.look(str(log))
    # c is found by its rotated name, while b is still taken for the file under the path.
    tracker.list_again(at_once=True)
    tracker.look(str(log))
    given = [bytes(batch.data) for batch in iter(tracker.turns.next, None)]
    tracker.registry.descriptors.close_all()
    assert given == [b"a\n", b"b\n", b"c\n", b"d\n"]


def test_files_that_were_created_in_one_tick_of_the_clock_are_told_apart(log: Path, options: Options) -> None:
    """File systems take the time of birth from a clock that ticks every few milliseconds."""

    async def scenario() -> None:
        async with streaming(log, options=options) as stream:
            expected = b""
            for round in range(20):
                for name in "abc":
                    data = b"%s %d\n" % (name.encode(), round)
                    append(log, data)
                    expected += data
                    rename_away(log)
                await stream.receive_any_order(expected)

    run(scenario())


def test_a_path_that_vanishes_and_comes_back_is_read_from_its_first_byte(
    log: Path, path: str, options: Options
) -> None:
    async def scenario() -> None:
        append(log, lines("a"))
        async with streaming(path, options=options, from_end=True) as stream:
            append(log, lines("b"))
            await stream.receive(lines("b"))
            rename_away(log)
            await stream.eventually(
                lambda: any(row["state"] == "rotated" for row in stream.follower.furthest_behind(1000))
            )
            append(log, lines("c"))
            await stream.receive(lines("b") + lines("c"))

    run(scenario())


def test_a_file_that_comes_and_is_renamed_while_the_path_is_empty_is_read(log: Path, options: Options) -> None:
    async def scenario() -> None:
        append(log, lines("a"))
        async with streaming(log, options=options) as stream:
            await stream.receive(lines("a"))
            rename_away(log)
            await stream.eventually(
                lambda: any(row["state"] == "rotated" for row in stream.follower.furthest_behind(1000))
            )
            append(log, lines("b"))
            rename_away(log)
            await stream.receive(lines("a") + lines("b"))
            assert await stream.rest() == lines("a") + lines("b")

    run(scenario())


def test_a_file_that_is_deleted_while_it_is_open_is_read_to_its_end_and_let_go(
    log: Path, path: str, options: Options
) -> None:
    async def scenario() -> None:
        append(log, lines("a"))
        with log.open("ab", buffering=0) as writer:
            async with streaming(path, options=options) as stream:
                await stream.receive(lines("a"))
                writer.write(lines("b"))
                log.unlink()
                writer.write(lines("c"))
                await stream.receive(lines("a") + lines("b") + lines("c"))
                writer.close()
                await stream.eventually(lambda: not deleted(log))

    run(scenario())


def test_a_new_file_with_the_inode_of_the_old_one_is_read_from_its_first_byte(log: Path, options: Options) -> None:
    async def scenario() -> None:
        expected = b""
        async with streaming(log, options=options) as stream:
            inodes = set()
            for round in range(100):
                data = lines(f"round {round}", 5 + round % 9)
                append(log, data)
                expected += data
                inodes.add(log.stat().st_ino)
                await stream.receive(expected)
                log.unlink()
                await stream.eventually(lambda: not deleted(log))
                if round > 3 and len(inodes) < round:
                    break
        assert len(inodes) < round, "this file system gives no inode away twice: the test shows nothing"

    run(scenario())


def test_files_with_the_same_beginning_are_told_apart(log: Path, options: Options) -> None:
    async def scenario() -> None:
        header = b"# a banner\n" * 200
        other = log.with_name("other.log")
        append(log, header + b"1\n")
        append(other, header + b"2\n")
        async with streaming(log.parent / "*.log", options=options) as stream:
            await stream.until(lambda: len(stream.data) >= 2 * len(header) + 4)
            for round in range(3):
                rename_away(log)
                append(log, header + b"%d\n" % round)
                tick(log)
            expected = {
                "app.log": header + b"1\n" + b"".join(header + b"%d\n" % n for n in range(3)),
                "other.log": header + b"2\n",
            }
            await stream.until(lambda: len(stream.data) >= sum(map(len, expected.values())))
            await stream.rest()
            assert stream.by_path() == expected

    run(scenario())


# Truncation


def copytruncate(path: Path, copy: str) -> None:
    shutil.copyfile(path, f"{path}{copy}")
    os.truncate(path, 0)


def test_a_file_that_shrank_is_read_from_its_first_byte(log: Path, path: str, options: Options) -> None:
    async def scenario() -> None:
        append(log, lines("a"))
        async with streaming(path, options=options) as stream:
            await stream.receive(lines("a"))
            os.truncate(log, 0)
            append(log, lines("b", 3))
            await stream.receive(lines("a") + lines("b", 3))
            assert await stream.rest() == lines("a") + lines("b", 3)

    run(scenario())


@pytest.mark.parametrize("count", [5, 40, 400], ids=["shorter", "exactly as long", "longer"])
def test_a_refilled_file_is_read_from_its_first_byte(log: Path, path: str, options: Options, count: int) -> None:
    async def scenario() -> None:
        append(log, lines("a"))
        seen = log.stat().st_mtime_ns
        async with streaming(path, options=options) as stream:
            await stream.receive(lines("a"))
            copytruncate(log, ".1")
            while log.stat().st_mtime_ns == seen:  # the file system's clock ticks
                os.truncate(log, 0)
            append(log, lines("b", count))
            await stream.receive(lines("a") + lines("b", count))
            assert await stream.rest() == lines("a") + lines("b", count)

    run(scenario())


def test_what_was_not_read_before_the_cut_is_read_from_the_copy(log: Path, path: str, options: Options) -> None:
    async def scenario() -> None:
        append(log, lines("a"))
        async with streaming(path, options=options) as stream:
            await stream.receive(lines("a"))
            append(log, lines("b"))
            copytruncate(log, ".1")
            append(log, lines("c"))
            expected = lines("a") + lines("b") + lines("c")
            await stream.receive_any_order(expected)
            await stream.rest()
            await stream.receive_any_order(expected)

    run(scenario())


def test_copies_are_not_read_again_however_many_there_are(log: Path, path: str, options: Options) -> None:
    """Ten times copytruncate, then the application begins a new file, then it ends: ten copies lie beside it."""

    async def scenario() -> None:
        expected = b""
        async with streaming(path, options=options) as stream:
            for round in range(10):
                data = lines(f"round {round}")
                append(log, data)
                expected += data
                await stream.receive(expected)
                for number in range(round, 0, -1):
                    os.rename(f"{log}.{number}", f"{log}.{number + 1}")
                copytruncate(log, ".1")
            log.unlink()
            append(log, lines("new"))
            await stream.receive(expected + lines("new"))
            log.unlink()
            await stream.eventually(lambda: not deleted(log))
            assert await stream.rest() == expected + lines("new")

    run(scenario())


def test_a_copy_beside_its_original_is_not_read(log: Path, path: str, options: Options) -> None:
    """One of less than 128 bytes, made in the last seconds before the cut, is read again: it says too little."""
    count = 40

    async def scenario() -> None:
        expected = lines("a", count)
        append(log, expected)
        async with streaming(path, options=options) as stream:
            await stream.receive(expected)
            shutil.copyfile(log, f"{log}.1")
            append(log, lines("b", count))
            expected += lines("b", count)
            await stream.receive(expected)
            os.truncate(log, 0)
            append(log, lines("c", count))
            expected += lines("c", count)
            await stream.receive(expected)
            log.unlink()
            await stream.eventually(lambda: not deleted(log))
            assert await stream.rest() == expected

    run(scenario())


def test_a_rotated_file_that_is_cut_does_not_lose_its_place(log: Path, options: Options) -> None:
    async def scenario() -> None:
        append(log, lines("a"))
        async with streaming(log, options=options) as stream:
            await stream.receive(lines("a"))
            rename_away(log)
            append(log, lines("b"))
            await stream.receive(lines("a") + lines("b"))
            with Path(f"{log}.1").open("r+b", buffering=0) as writer:
                writer.truncate(0)
                writer.write(lines("c", 3))
            await stream.receive(lines("a") + lines("b") + lines("c", 3))
            append(log, lines("d"))
            await stream.receive(lines("a") + lines("b") + lines("c", 3) + lines("d"))
            rename_away(log)
            append(log, lines("e"))
            await stream.receive(lines("a") + lines("b") + lines("c", 3) + lines("d") + lines("e"))

    run(scenario())


def holes() -> float:
    return metrics.HOLE_BYTES.labels("test")._value.get()


def test_a_hole_after_a_truncation_is_skipped_and_counted(log: Path, path: str, options: Options) -> None:
    """A writer without O_APPEND goes on where it was; what lies before that is a hole."""

    async def scenario() -> None:
        with log.open("wb", buffering=0) as writer:
            writer.write(lines("a", 400))
            async with streaming(path, options=options) as stream:
                await stream.receive(lines("a", 400))
                before = holes()
                copytruncate(log, ".1")
                writer.write(b"after\n")
                assert log.stat().st_size == len(lines("a", 400)) + 6
                await stream.receive(lines("a", 400) + b"after\n")
                assert await stream.rest() == lines("a", 400) + b"after\n"
                assert holes() - before == len(lines("a", 400))

    run(scenario())


def test_a_hole_that_comes_after_the_truncation_was_seen_is_skipped(log: Path, options: Options) -> None:
    async def scenario() -> None:
        truncations = metrics.TRUNCATIONS.labels("test")._value
        with log.open("wb", buffering=0) as writer:
            writer.write(lines("a", 400))
            async with streaming(log, options=options) as stream:
                await stream.receive(lines("a", 400))
                before = truncations.get()
                os.truncate(log, 0)
                await stream.eventually(lambda: truncations.get() > before)
                writer.write(b"after\n")
                await stream.receive(lines("a", 400) + b"after\n")

    run(scenario())


def test_zeros_that_were_written_are_passed_on(log: Path, options: Options) -> None:
    async def scenario() -> None:
        zeros = bytes(10_000)
        append(log, zeros + b"a\n")
        async with streaming(log, options=options) as stream:
            await stream.receive(zeros + b"a\n")
            os.truncate(log, 0)
            append(log, zeros + b"\nb\n")
            await stream.receive(zeros + b"a\n" + zeros + b"\nb\n")

    run(scenario())


def test_a_hole_in_a_file_that_was_not_cut_is_zeros(log: Path, options: Options) -> None:
    async def scenario() -> None:
        with log.open("wb", buffering=0) as writer:
            writer.seek(100_000)
            writer.write(b"a\n")
        async with streaming(log, options=options) as stream:
            await stream.receive(bytes(100_000) + b"a\n")

    run(scenario())


# Symlinks


def test_a_symlink_that_leads_elsewhere_is_followed_there(log: Path, options: Options) -> None:
    async def scenario() -> None:
        data = log.parent.parent / "data"
        data.mkdir()
        expected = b""
        for number in range(3):
            append(data / f"{number}.log", lines(f"file {number}"))
        log.symlink_to(data / "0.log")
        async with streaming(log, options=options) as stream:
            for number in range(3):
                expected += lines(f"file {number}")
                await stream.receive(expected)
                started = time.monotonic()
                for _ in range(3):
                    append(data / f"{number}.log", b"more\n")
                    expected += b"more\n"
                    await stream.receive(expected)
                assert time.monotonic() - started < SLOW, "the growth was found by the slow scan only"
                if number < 2:
                    link = log.with_name("link")
                    link.symlink_to(data / f"{number + 1}.log")
                    link.rename(log)
            assert await stream.rest() == expected

    run(scenario())


def test_a_symlink_that_leads_back_goes_on_where_it_was(log: Path, options: Options) -> None:
    async def scenario() -> None:
        one, two = log.with_name("one"), log.with_name("two")
        append(one, b"1\n")
        append(two, b"2\n")
        expected = b""
        async with streaming(log, options=options) as stream:
            for target, data in ((one, b"1\n"), (two, b"2\n"), (one, b"3\n"), (two, b"4\n"), (one, b"5\n")):
                link = log.with_name("link")
                link.symlink_to(target)
                link.rename(log)
                if data > b"2\n":
                    append(target, data)
                expected += data
                await stream.receive(expected)
            assert await stream.rest() == expected
            assert not stream.follower.delivered(one.stat())

    run(scenario())


@pytest.mark.parametrize("kind", ["file", "glob", "directory"])
def test_a_directory_behind_a_symlink_is_told_about(tmp_path: Path, kind: str) -> None:
    async def scenario() -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        log = tmp_path / "link" / "app.log"
        path = {"file": str(log), "glob": f"{tmp_path}/link/*.log", "directory": f"{tmp_path}/link"}[kind]
        append(log, b"a\n")
        async with streaming(path) as stream:
            started = time.monotonic()
            for round in range(1, 6):
                await stream.receive(b"a\n" * round)
                (tmp_path / "link" / f"folder {round}").mkdir()  # everything is looked at again
                append(log, b"a\n")
            await stream.receive(b"a\n" * 6)
            log.rename(f"{log}.1")
            append(log, b"b\n")
            await stream.receive(b"a\n" * 6 + b"b\n")
            if kind != "file":
                append(log.with_name("new.log"), b"c\n")
                await stream.receive(b"a\n" * 6 + b"b\nc\n")
            assert time.monotonic() - started < SLOW, "the growth was found by the slow scan only"

    run(scenario())


def test_folders_in_a_followed_directory_are_no_trouble(tmp_path: Path, options: Options) -> None:
    async def scenario() -> None:
        async with streaming(tmp_path, tmp_path / "later", options=options) as stream:
            (tmp_path / "folder.log").mkdir()
            (tmp_path / "later").mkdir()
            append(tmp_path / "later" / "a.log", b"a\n")
            append(tmp_path / "b.log", b"b\n")
            await stream.until(lambda: len(stream.data) == 4)
            assert stream.follower.unreadable == []

    run(scenario())


# What is left behind


def descriptors(path: Path) -> list[str]:
    """What is open under this path, or was before it was renamed or deleted."""
    targets = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            targets.append(os.readlink(f"/proc/self/fd/{name}"))
    return [target for target in targets if target.startswith(str(path))]


def deleted(path: Path) -> list[str]:
    """What is open under this path though it has no name any more."""
    return [target for target in descriptors(path) if target.endswith(" (deleted)")]


def test_a_generation_of_the_same_lines_and_age_is_no_copy(log: Path) -> None:
    """In one tick of the clock generations are born at the same time, and their content may be the same."""
    older = log.with_name("app.log.1")
    append(older, b"the same line each time, and no time in it\n" * 5)
    append(log, b"the same line each time, and no time in it\n" * 9)
    file, current = File(str(log), open_file(str(older))), File(str(log), open_file(str(log)))
    assert current.born is not None, "this file system does not tell births: the test shows nothing"
    for age, copied in ((-1, False), (0, False), (1, True)):
        file.born = current.born + age
        assert succession.copies(file, current) is copied
    file.close()
    current.close()


def test_rotated_files_that_wait_do_not_push_out_the_file_under_the_path(log: Path) -> None:
    """While a receiver is away more files wait than may be open, and the last one is removed before its turn."""

    async def opened(path: Path, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(descriptors(path)) < count:
                await asyncio.sleep(0.005)

    async def scenario() -> None:
        options = Options(open_files=4, watch=False, poll_interval=0.005)
        other = log.with_name("other.log")
        append(log, b"log 00\n")
        append(other, b"other 00\n")
        expected = b"other 00\n"
        async with streaming(log, other, options=options) as stream:
            for number in range(1, 20):
                other.rename(f"{other}.{number}")
                append(other, b"other %02d\n" % number)
                expected += b"other %02d\n" % number
                await opened(other, number + 1)
            log.unlink()
            await stream.until(lambda: stream.by_path() == {"app.log": b"log 00\n", "other.log": expected})

    run(scenario())


def test_a_thousand_rotations_leave_nothing_behind(log: Path) -> None:
    async def scenario() -> None:
        options = Options(rotate_wait=0.01, watch=False, poll_interval=0.005, settled=0.1)
        expected = b"%09d\n" % 0
        async with streaming(log, options=options) as stream:
            append(log, expected)
            await stream.receive(expected)
            tracker = stream.follower._tracker
            before = len(descriptors(log)), len(tracker.registry.files), len(tracker.lanes)
            for number in range(1, 1001):
                log.rename(f"{log}.1")
                append(log, b"%09d\n" % number)
                expected += b"%09d\n" % number
                await stream.receive(expected)
            end = time.monotonic() + 10
            while (len(descriptors(log)), len(tracker.registry.files), len(tracker.lanes)) > before or len(
                list(tracker.positions())
            ) > 1 + 2:
                assert time.monotonic() < end, (descriptors(log), len(tracker.registry.files), len(tracker.lanes))
                append(log, b"on and on\n")
                expected += b"on and on\n"
                await stream.receive(expected)
            assert sum(not position.done for position in tracker.positions()) == 1
            assert len(list(tracker.positions())) <= 1 + 2

    run(scenario())
