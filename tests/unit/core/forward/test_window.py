"""Which chunks are final, whatever the order of their acknowledgements."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecars.core.forward.packing import Chunk
from sidecars.core.forward.window import Window


def filled(count: int) -> Window:
    window = Window()
    for number in range(count):
        window.held[str(number)] = Chunk(str(number), b"")
    return window


def send_all(window: Window) -> list[str]:
    chunks = window.unsent()
    for each in chunks:
        window.sent(each)
    return [each.id for each in chunks]


@given(st.permutations("01234"))
def test_chunks_are_let_go_in_the_order_of_sending(order):
    window = filled(5)
    assert send_all(window) == list("01234")
    done = []
    for number, name in enumerate(order, 1):
        assert window.acknowledge(name)
        done += window.let_go()
        # Exactly the longest prefix that is acknowledged.
        assert done == list("01234")[: next((int(each) for each in "01234" if each not in order[:number]), 5)]
    assert done == list("01234")
    assert not window.held


def test_after_a_disconnection_only_what_is_not_acknowledged_is_sent_again():
    window = filled(4)
    send_all(window)
    window.acknowledge("0")
    window.acknowledge("2")
    window.let_go()
    window.disconnected()
    assert send_all(window) == ["1", "3"]
    window.acknowledge("1")
    assert window.let_go() == ["1", "2"]


def test_an_acknowledgement_counts_once_and_only_on_its_connection():
    window = filled(2)
    send_all(window)
    assert window.acknowledge("1")
    assert not window.acknowledge("1")
    assert not window.acknowledge("7")
    window.disconnected()
    assert not window.acknowledge("0")
