"""The chunks under way to a receiver: which are sent, which are acknowledged, and which that makes final."""

from __future__ import annotations

from sidecars.core.forward.packing import Chunk


class Window:
    """Chunks in the order of sending, each held until it and all before it are acknowledged.

    A checkpoint is one offset, so a chunk that is acknowledged before an earlier one waits here for that one.
    """

    def __init__(self) -> None:
        self.held: dict[str, Chunk] = {}
        self._sent: set[str] = set()  # on the present connection, and not acknowledged
        self._acknowledged: set[str] = set()  # before an earlier one

    @property
    def waiting(self) -> int:
        """How many acknowledgements the present connection owes."""
        return len(self._sent)

    def unsent(self) -> list[Chunk]:
        """Give the chunks that are still to be sent on the present connection."""
        return [each for name, each in self.held.items() if name not in self._sent and name not in self._acknowledged]

    def sent(self, chunk: Chunk) -> None:
        """Note that the present connection owes an acknowledgement."""
        self._sent.add(chunk.id)

    def acknowledge(self, name: str) -> bool:
        """Note an acknowledgement; False when the present connection owes none by that name."""
        if name not in self._sent:
            return False
        self._sent.remove(name)
        self._acknowledged.add(name)
        return True

    def let_go(self) -> list[str]:
        """Drop the chunks that are final, and name them in the order of sending."""
        done = []
        while (oldest := next(iter(self.held), "")) in self._acknowledged:
            self._acknowledged.remove(oldest)
            del self.held[oldest]
            done.append(oldest)
        return done

    def disconnected(self) -> None:
        """Note that the connection has ended: what was not acknowledged on it is to be sent again."""
        self._sent.clear()
