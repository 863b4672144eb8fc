"""The loop's door: handlers beside asyncio's own work, each told of its own descriptor only."""

from __future__ import annotations

import asyncio
import os
import socket

from sidecars.ambassador.loop import BOTH, READ, Loop


def run(test) -> None:
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(asyncio.wait_for(test(), 20))


def pair() -> tuple[socket.socket, socket.socket]:
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    return one, other


def test_handlers_and_tasks_have_their_turns():
    async def test() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        one, other = pair()
        got: list[bytes] = []
        done = asyncio.Event()

        def happened(event: int) -> None:
            if event & READ:
                got.append(one.recv(100))
                loop.soon(done.set)

        loop.watch(one.fileno(), happened)
        for number in range(5):
            done.clear()
            other.send(b"%d" % number)
            await done.wait()
        assert got == [b"0", b"1", b"2", b"3", b"4"]
        loop.forget(one.fileno())
        one.close()
        other.close()

    run(test)


def test_a_number_given_anew_gets_no_event_of_its_predecessor():
    async def test() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        pairs = [pair() for _ in range(2)]
        told: list[tuple[str, int]] = []
        replaced: list[int] = []
        keep: list[socket.socket] = []

        def happened(event: int) -> None:
            # Whichever is told first replaces the other, whose event is on its way already.
            if replaced:
                return
            for mine, theirs in pairs:
                loop.forget_closing(mine.fileno())
                mine.close()
                keep.append(theirs)
            fresh, far = pair()
            keep.extend((fresh, far))
            replaced.append(fresh.fileno())
            loop.watch(fresh.fileno(), lambda event: told.append(("fresh", event)), READ)
            loop.soon(done.set)

        done = asyncio.Event()
        for mine, theirs in pairs:
            loop.watch(mine.fileno(), happened, READ)
            theirs.send(b"x")
        await done.wait()
        await asyncio.sleep(0.01)
        assert told == []
        loop.forget(replaced[0])
        for each in keep:
            each.close()

    run(test)


def test_what_is_asked_for_after_the_round_runs_whoever_asks():
    async def test() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        done = asyncio.Event()
        loop.after(lambda: loop.after(lambda: loop.soon(done.set)))
        loop.call_later(15, lambda: None)  # so that the wait would be long
        await done.wait()

    run(test)


def test_deadlines_come_in_time_or_not_at_all():
    async def test() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        came: list[str] = []
        done = asyncio.Event()
        loop.later(0.06, lambda: came.append("short"))
        loop.later(0.07, lambda: came.append("never")).cancel()
        loop.later(0.2, done.set)
        began = loop.time()
        await done.wait()
        assert came == ["short"]
        assert loop.time() - began >= 0.19

    run(test)


def test_what_was_closed_before_it_was_forgotten_is_no_harm():
    async def test() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        read, write = os.pipe()
        loop.watch(read, lambda _: None, BOTH)
        os.close(read)
        loop.forget(read)
        os.close(write)

    run(test)
