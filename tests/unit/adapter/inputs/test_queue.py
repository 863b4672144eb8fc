"""The queue behind inputs: bounded in bytes, each reader its own portions, all of it in order."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.adapter.inputs.queue import PORTION_BYTES, Queue
from sidecars.adapter.portion import Portion


async def ready(reader):
    """The portions that can be had without waiting."""
    found = []
    while True:
        try:
            async with asyncio.timeout(0):
                found.append(await anext(reader))
        except (TimeoutError, StopAsyncIteration):
            return found


def texts(portions):
    return [(portion.origin, portion.data) for portion in portions]


def test_what_was_put_comes_in_one_portion_per_origin():
    async def run():
        queue = Queue(1000, 1)
        for number in range(3):
            assert queue.offer("a", b"a%d\n" % number)
            assert queue.offer("b", b"b%d\n" % number)
        return await ready(queue.reader(0))

    assert texts(asyncio.run(run())) == [("a", b"a0\na1\na2\n"), ("b", b"b0\nb1\nb2\n")]


def test_origins_take_turns():
    async def run():
        queue = Queue(8 << 20, 1)
        for _ in range(3):
            queue.offer("busy", b"x" * (PORTION_BYTES - 1) + b"\n")
        queue.offer("quiet", b"line\n")
        return [portion.origin for portion in await ready(queue.reader(0))]

    assert asyncio.run(run()) == ["busy", "quiet", "busy", "busy"]


def test_a_portion_has_at_most_a_mebibyte_and_ends_with_a_record():
    async def run():
        queue = Queue(8 << 20, 1)
        for number in range(30_000):
            queue.offer("a", b"%099d\n" % number)
        return await ready(queue.reader(0))

    portions = asyncio.run(run())
    assert b"".join(portion.data for portion in portions) == b"".join(b"%099d\n" % number for number in range(30_000))
    assert len(portions) == 3
    assert all(len(portion.data) <= PORTION_BYTES and portion.complete for portion in portions)


def test_an_offer_is_refused_when_full_and_taken_after_all_readers_have_acknowledged():
    async def run():
        queue = Queue(10, 2)
        assert queue.offer("a", b"12345678\n")
        assert not queue.offer("a", b"x\n")
        first, second = [(await ready(queue.reader(number)))[0] for number in (0, 1)]
        queue.reader(0).acknowledge(first)
        assert not queue.offer("a", b"x\n")
        assert queue.undelivered == 9
        queue.reader(1).acknowledge(second)
        assert queue.offer("a", b"x\n")
        assert queue.undelivered == 2

    asyncio.run(run())


def test_a_put_waits_for_room_and_no_offer_takes_it_away():
    async def run():
        queue = Queue(10, 1)
        reader = queue.reader(0)
        queue.offer("a", b"1234567\n")
        putting = asyncio.create_task(queue.put("b", b"abcdefg\n"))
        await asyncio.sleep(0)
        assert not putting.done()
        assert not queue.offer("a", b"\n")
        [portion] = await ready(reader)
        reader.acknowledge(portion)
        assert not queue.offer("a", b"123\n")
        await putting
        assert texts(await ready(reader)) == [("b", b"abcdefg\n")]

    asyncio.run(run())


def test_a_put_that_is_cancelled_leaves_its_room():
    async def run():
        queue = Queue(10, 1)
        queue.offer("a", b"1234567\n")
        putting = asyncio.create_task(queue.put("b", b"abcdefg\n"))
        await asyncio.sleep(0)
        putting.cancel()
        await asyncio.wait([putting])
        assert queue.offer("a", b"1\n")

    asyncio.run(run())


def test_what_will_never_fit_is_an_error():
    with pytest.raises(ValueError, match="never fit"):
        asyncio.run(Queue(10, 1).put("a", b"x" * 11))


def test_a_reader_of_a_closed_queue_ends_when_it_has_given_all():
    async def run():
        queue = Queue(100, 1)
        queue.offer("a", b"last\n")
        queue.close()
        assert not queue.offer("a", b"too late\n")
        return [portion.data async for portion in queue.reader(0)]

    assert asyncio.run(run()) == [b"last\n"]


def test_a_reader_that_waits_ends_with_the_queue():
    async def run():
        queue = Queue(100, 1)
        waiting = asyncio.ensure_future(anext(queue.reader(0), None))
        await asyncio.sleep(0)
        queue.close()
        return await waiting

    assert asyncio.run(run()) is None


def test_a_line_in_parts_is_marked_for_each_reader():
    async def run():
        queue = Queue(8 << 20, 2)
        for piece in (b"before\n", b"x" * PORTION_BYTES, b"end\n", b"after\n"):
            queue.offer("a", piece)
        return [await ready(queue.reader(number)) for number in (0, 1)]

    for portions in asyncio.run(run()):
        marks = [(len(each.data), each.continued, each.complete) for each in portions]
        assert marks == [(7, False, True), (PORTION_BYTES, False, False), (10, True, True)]


def test_an_acknowledgement_out_of_order_is_an_error():
    async def run():
        queue = Queue(100, 1)
        queue.offer("a", b"1\n")
        await anext(queue.reader(0))
        queue.reader(0).acknowledge(Portion("a", b"1\n"))

    with pytest.raises(ValueError, match="out of their order"):
        asyncio.run(run())


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 400), st.integers(0, 2)), max_size=60),
    st.integers(400, 2000),
)
def test_every_reader_gets_every_accepted_byte_once_and_in_order(steps, limit):
    """Readers that acknowledge at different times; the queue never holds more than its limit."""

    async def run():
        queue = Queue(limit, 2)
        put = {"a": b"", "b": b""}
        got = [{"a": b"", "b": b""}, {"a": b"", "b": b""}]
        for number, (origin, size, who) in enumerate(steps):
            data = b"%d" % (number % 10) * size + b"\n"
            if queue.offer(origin, data):
                put[origin] += data
            assert queue.undelivered <= limit
            if who < 2:
                await take(queue.reader(who), got[who])
        for who in (0, 1):
            await take(queue.reader(who), got[who])
        assert got == [put, put]
        assert queue.undelivered == 0

    async def take(reader, got):
        for portion in await ready(reader):
            got[portion.origin] += portion.data
            reader.acknowledge(portion)

    asyncio.run(run())


def test_without_readers_nothing_is_held():
    async def run():
        queue = Queue(100, 0, keep=1000)
        for _ in range(10):
            assert queue.offer("a", b"x" * 50 + b"\n")
        assert queue.undelivered == 0
        assert len(b"".join(data for _, data in queue.recent())) == 510

    asyncio.run(run())


def test_recent_gives_the_last_bytes_in_whole_records_and_what_came_after_a_position():
    async def run():
        queue = Queue(100, 0, keep=80)
        for number in range(100):
            queue.offer("a", b"%07d\n" % number)
        kept = b"".join(data for _, data in queue.recent())
        assert len(kept) in (72, 80)
        assert kept.endswith(b"0000099\n")
        position = queue.position
        assert queue.recent(position) == []
        news = asyncio.create_task(queue.wait_for_news(position))
        await asyncio.sleep(0)
        queue.offer("b", b"new\n")
        await news
        assert queue.recent(position) == [("b", b"new\n")]

    asyncio.run(run())
