from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecars.core.follow.checkpoint import JsonStore
from sidecars.core.follow.lane import Options
from tests.unit.core.follow.stream import run, streaming


def lines(name: str, count: int = 40) -> bytes:
    return b"".join(b"%s %06d %s\n" % (name.encode(), number, b"x" * 20) for number in range(count))


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def tick(directory: Path) -> None:
    """Wait until the clock that file systems take their times from has moved on, and what began before is the past."""
    until = time.time_ns() + 25_000_000
    probe = directory / "tick"
    while True:
        probe.touch()
        if probe.stat().st_mtime_ns > until:
            break
    probe.unlink()


def age(directory: Path) -> None:
    """Make all that lies in a directory look as if it was written an hour ago."""
    for path in directory.iterdir():
        os.utime(path, ns=(time.time_ns() - 3_600_000_000_000,) * 2)


def rename_away(path: Path) -> None:
    for old in range(sum(1 for _ in path.parent.glob(f"{path.name}.*")), 0, -1):
        os.rename(f"{path}.{old}", f"{path}.{old + 1}")
    path.rename(f"{path}.1")


class Restarts:
    """A program over one log that is started again and again, on one state directory."""

    def __init__(self, directory: Path, path: str) -> None:
        self.log = directory / "logs" / "app.log"
        self.path = path
        self.store = str(directory / "state.json")
        self.options = Options(rotate_wait=0.1, watch=False, poll_interval=0.01)

    def once(self, expected: bytes, options: Options | None = None, **source: Any) -> None:
        """Start, be given exactly this, in whatever order of files, and end."""

        async def scenario() -> None:
            async with streaming(
                self.path, options=options or self.options, store=JsonStore(self.store), **source
            ) as stream:
                await stream.until(lambda: len(stream.data) > expected.rfind(b"\n"))
                await stream.rest()
                assert sorted(stream.data.splitlines()) == sorted(expected.splitlines())
                if self.path == str(self.log):
                    assert stream.data == expected

        run(scenario())

    def killed(self, expected: bytes, acknowledging: bool = True) -> None:
        """Start, be given this, and die: what was held is not given out. The last checkpoint is written."""

        async def scenario() -> None:
            async with streaming(
                self.path, options=self.options, store=JsonStore(self.store), acknowledging=acknowledging
            ) as stream:
                await stream.receive(expected)

        run(scenario())


@pytest.fixture(params=["file", "glob", "all of the glob", "directory"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Restarts]:
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "app.log"
    paths = {"file": log, "glob": log.with_name("*.log"), "all of the glob": f"{log}*", "directory": log.parent}
    yield Restarts(tmp_path, str(paths[request.param]))


@pytest.fixture
def file(tmp_path: Path) -> Restarts:
    """A program over the file itself."""
    (tmp_path / "logs").mkdir()
    return Restarts(tmp_path, str(tmp_path / "logs" / "app.log"))


def test_a_restart_goes_on_where_it_was(program: Restarts) -> None:
    append(program.log, lines("a"))
    program.once(lines("a"))
    program.once(b"")
    append(program.log, lines("b"))
    program.once(lines("b"))


def test_what_was_not_acknowledged_comes_again(program: Restarts) -> None:
    append(program.log, lines("a"))
    program.killed(lines("a"), acknowledging=False)
    program.once(lines("a"))


def test_a_file_that_was_renamed_meanwhile_is_read_on(program: Restarts) -> None:
    append(program.log, lines("a"))
    program.once(lines("a"))
    append(program.log, lines("b"))
    rename_away(program.log)
    append(program.log, lines("c"))
    program.once(lines("b") + lines("c"))
    program.once(b"")


def test_every_file_of_several_rotations_meanwhile_is_read(program: Restarts) -> None:
    append(program.log, lines("a"))
    program.once(lines("a"))
    append(program.log, lines("b"))
    for name in "cdef":
        rename_away(program.log)
        append(program.log, lines(name))
    program.once(b"".join(map(lines, "bcdef")))
    program.once(b"")


def test_a_file_that_was_renamed_and_has_no_successor_is_read_on(program: Restarts) -> None:
    append(program.log, lines("a"))
    program.once(lines("a"))
    append(program.log, lines("b"))
    rename_away(program.log)
    program.once(lines("b"))
    append(program.log, lines("c"))
    program.once(lines("c"))


def test_rotated_files_that_were_there_before_the_first_start_are_not_read(file: Restarts) -> None:
    for name in "abc":
        append(file.log, lines(name))
        rename_away(file.log)
    tick(file.log.parent.parent)
    append(file.log, lines("d"))
    file.once(lines("d"))
    file.once(b"")
    rename_away(file.log)
    append(file.log, lines("e"))
    file.once(lines("e"))


def test_rotated_files_that_were_read_are_not_read_again(program: Restarts) -> None:
    for name in "abcd":
        append(program.log, lines(name))
        program.once(lines(name))
        rename_away(program.log)
    program.once(b"")
    append(program.log, lines("e"))
    program.once(lines("e"))


def test_a_file_that_was_copied_and_cut_meanwhile_is_read_on_in_the_copy(program: Restarts) -> None:
    append(program.log, lines("a"))
    program.once(lines("a"))
    append(program.log, lines("b"))
    shutil.copyfile(program.log, f"{program.log}.1")
    os.truncate(program.log, 0)
    append(program.log, lines("c"))
    program.once(lines("b") + lines("c"))
    program.once(b"")


def test_copies_that_were_made_before_are_not_read_again(program: Restarts) -> None:
    """copytruncate for a while, each copy told apart by one process or another; then the application begins anew."""
    for number, name in enumerate("abcdefg"):
        append(program.log, lines(name))
        program.once(lines(name))
        for old in range(number, 0, -1):
            os.rename(f"{program.log}.{old}", f"{program.log}.{old + 1}")
        shutil.copyfile(program.log, f"{program.log}.1")
        os.truncate(program.log, 0)
        program.once(b"")
    program.log.unlink()
    program.once(b"")
    append(program.log, lines("new"))
    program.once(lines("new"))


@pytest.mark.parametrize("rotations", [0, 2])
def test_a_volume_whose_inodes_are_others_is_read_on(program: Restarts, rotations: int) -> None:
    """A volume that was restored from a snapshot, file by file."""
    append(program.log, lines("a"))
    program.once(lines("a"))
    for name in "bc"[:rotations]:
        rename_away(program.log)
        append(program.log, lines(name))
        program.once(lines(name))
    age(program.log.parent)
    append(program.log, lines("d"))
    old, new = program.log.parent, program.log.parent.with_name("copied")
    shutil.copytree(old, new)
    shutil.rmtree(old)
    new.rename(old)
    program.once(lines("d"))
    program.once(b"")


@pytest.mark.parametrize("how", ["a new inode", "written anew"])
def test_a_file_that_was_replaced_by_a_shorter_one_is_read_from_its_first_byte(program: Restarts, how: str) -> None:
    append(program.log, lines("a"))
    program.once(lines("a"))
    if how == "a new inode":
        program.log.with_name("x").write_bytes(lines("b", 3))
        program.log.with_name("x").rename(program.log)
    else:
        program.log.write_bytes(lines("b", 3))
    program.once(lines("b", 3))
    program.once(b"")


@pytest.mark.parametrize("count", [40, 400], ids=["as long", "longer"])
def test_a_file_that_was_refilled_meanwhile_is_read_from_its_first_byte(program: Restarts, count: int) -> None:
    append(program.log, lines("a"))
    program.once(lines("a"))
    program.log.write_bytes(lines("b", count))
    program.once(lines("b", count))
    program.once(b"")


def test_an_inode_that_was_given_to_a_new_file_is_read_from_its_first_byte(file: Restarts) -> None:
    append(file.log, lines("a"))
    inode = file.log.stat().st_ino
    file.once(lines("a"))
    for _ in range(2000):
        file.log.unlink()
        append(file.log, lines("c") + lines("b"))
        if file.log.stat().st_ino == inode:
            break
    else:
        pytest.skip("this file system gives no inode away twice: nothing of it is tested here")
    file.once(lines("c") + lines("b"))


def test_the_rest_of_a_line_continues_what_was_given_out_of_it(file: Restarts) -> None:
    append(file.log, lines("a") + b"the begin")
    file.once(lines("a") + b"the begin")
    append(file.log, b"ning and the end\nanother\n")

    async def scenario() -> None:
        async with streaming(file.path, options=file.options, store=JsonStore(file.store)) as stream:
            await stream.receive(b"ning and the end\nanother\n")
            assert stream.given[0].continued

    run(scenario())


def test_what_is_held_is_given_out_after_the_restart_with_its_end(file: Restarts) -> None:
    append(file.log, lines("a") + b"the begin")
    file.killed(lines("a"))
    append(file.log, b"ning\n")
    file.once(b"the beginning\n")


# From the end


def test_only_the_very_first_start_begins_at_the_end(program: Restarts) -> None:
    append(program.log, lines("old"))
    program.once(b"", from_end=True)
    append(program.log, lines("a"))
    program.once(lines("a"), from_end=True)
    append(program.log, lines("b"))
    rename_away(program.log)
    append(program.log, lines("c"))
    append(program.log.with_name("app.log-worker.log"), b"")
    program.once(lines("b") + lines("c"), from_end=True)


def test_files_that_come_after_the_start_are_read_from_their_first_byte(file: Restarts) -> None:
    file.path = f"{file.log.parent}/*.log"
    append(file.log, lines("old"))

    async def scenario() -> None:
        async with streaming(file.path, options=file.options, from_end=True) as stream:
            append(file.log, b"1\n")
            await stream.receive(b"1\n")
            append(file.log.with_name("later.log"), b"2\n")
            await stream.receive(b"1\n2\n")
            assert await stream.rest() == b"1\n2\n"

    run(scenario())


def test_a_checkpoint_that_is_corrupt_costs_repeats_not_lines(file: Restarts) -> None:
    append(file.log, lines("a"))
    file.once(lines("a"))
    Path(file.store).write_bytes(b"{")
    append(file.log, lines("b"))
    file.once(lines("a") + lines("b"))


def test_a_checkpoint_that_cannot_be_written_is_said_and_nothing_ends(
    file: Restarts, capfd: pytest.CaptureFixture[str]
) -> None:
    from sidecars.core.follow import metrics
    from sidecars.core.log import stderr

    append(file.log, lines("a"))
    errors = metrics.CHECKPOINT_ERRORS.labels("test")._value
    before = errors.get()
    file.store = str(file.log.parent.parent / "none" / "state.json")
    file.once(lines("a"))
    assert errors.get() > before
    stderr.flush(10)
    assert "cannot write checkpoint" in capfd.readouterr().err


def test_a_symlink_that_led_elsewhere_meanwhile_loses_nothing(file: Restarts) -> None:
    data = file.log.with_name("data")
    data.mkdir()
    append(data / "log-0001", lines("a"))
    file.log.symlink_to("data/log-0001")
    file.once(lines("a"))
    append(data / "log-0001", lines("b"))
    append(data / "log-0002", lines("c"))
    append(data / "log-0003", lines("d"))
    file.log.unlink()
    file.log.symlink_to("data/log-0003")
    file.once(lines("b") + lines("c") + lines("d"))
    file.once(b"")
