"""What passes between the parent and a worker: whole messages, in their order, each with its own descriptors."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator

import pytest

from sidecars.ambassador.channel import Channel


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


class Pair:
    """Two ends; `got` is what came to the right one, each descriptor as the number of the file behind it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.got: list[tuple[object, list[int]]] = []
        self.gone: list[str] = []
        self.sent = 0
        left, right = socket.socketpair()
        self.left = Channel(left, lambda message, _: None, lambda: self.gone.append("left"), self._count)
        self.right = Channel(right, self._take, lambda: self.gone.append("right"))

    def _count(self) -> None:
        self.sent += 1

    def _take(self, message: object, descriptors: list[int]) -> None:
        self.got.append((message, [os.fstat(each).st_ino for each in descriptors]))
        for each in descriptors:
            os.close(each)

    def until(self, count: int, gone: int = 0) -> None:
        async def wait() -> None:
            async with asyncio.timeout(30):
                while len(self.got) < count or len(self.gone) < gone:
                    await asyncio.sleep(0.001)

        self.loop.run_until_complete(wait())


@pytest.fixture
def pair(loop: asyncio.AbstractEventLoop) -> Iterator[Pair]:
    pair = Pair(loop)
    yield pair
    pair.left.close()
    pair.right.close()


def test_messages_come_whole_and_in_their_order_however_large(pair):
    messages = [("small", 1), ("large", os.urandom(3_000_000)), ("small", 2), ("large", os.urandom(500_000))]
    for each in messages:
        pair.left.send(each)
    assert pair.left.waiting > 0, "more than the kernel takes at once"
    pair.until(len(messages))
    assert [message for message, _ in pair.got] == messages
    assert pair.left.waiting == 0
    assert pair.sent > 0


def test_each_message_has_its_own_descriptors_also_more_than_the_kernel_takes_at_once(pair):
    files = [os.memfd_create(str(number)) for number in range(640)]
    inodes = [os.fstat(each).st_ino for each in files]
    before = len(os.listdir("/proc/self/fd"))
    pair.left.send("two", files[:2])
    pair.left.send("none")
    pair.left.send("many", files)
    pair.left.send(b"x" * 1_000_000, files[2:3])
    for each in files:  # the sender may close them at once
        os.close(each)
    pair.until(4)
    assert [descriptors for _, descriptors in pair.got] == [inodes[:2], [], inodes, inodes[2:3]]
    assert len(os.listdir("/proc/self/fd")) == before - len(files), "no descriptor is left behind"


def test_the_end_of_one_side_is_told_to_the_other_once(pair):
    pair.left.send("last words")
    pair.left.close()
    pair.until(1, gone=1)
    assert pair.gone == ["right"]
    pair.right.send("nobody hears it")
    pair.left.send("nor this")
    assert pair.gone == ["right"]
