"""A client's connection: its requests are served one after another, and no more is read of it than is needed."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from sidecars.ambassador.connection import Connection, Reason
from sidecars.ambassador.http.answering import Answer, said, written
from sidecars.ambassador.http.exchange import Exchange
from sidecars.ambassador.http.forwarding import Client
from sidecars.ambassador.http.framing import arrival
from sidecars.ambassador.http.heads import END, Malformed
from sidecars.ambassador.http.stream import ENDING, WRITABLE, Stream
from sidecars.ambassador.loop import BOTH, GONE, HALF_CLOSED, WRITE

if TYPE_CHECKING:
    from sidecars.ambassador.http.serving import Serving
    from sidecars.ambassador.http.upgrading import Upgraded

_SIZE = 16384  # bytes of heads read at once
_ROUNDS = 32  # requests of one client, before others have their turn
_LINGER = 2.0  # seconds for a client to read the last answer, before what it still sends breaks the connection
_HALF_OPEN = 5.0  # seconds in which a client that has said its last word is answered
_CUTS: dict[str, Reason] = {"": "client", "client_gone": "client_reset", "drained": "drained", "timeout": "timeout"}
_WORDS = {
    405: "method",
    413: "body_size",
    414: "url_size",
    417: "expectation",
    431: "head_size",
    501: "unknown",
    505: "version",
}


class Session(Stream):
    """A client's connection.

    client    what upstreams are told of it
    exchange  the request that is being served
    buffer    what was read and is not understood yet
    due       when it is to be looked at: a limit of time may be over then
    """

    __slots__ = (
        "_after", "_begun", "_half", "_lingering", "_read_whole", "_seen", "_serving_now", "_upgraded", "buffer",
        "client", "closed", "connection", "due", "exchange", "serving",
    )  # fmt: skip

    def __init__(self, serving: Serving, connection: Connection) -> None:
        super().__init__(serving.loop, connection.sock, connection.fd)
        self.serving: Serving = serving
        self.connection = connection
        peer, local = connection.peer, connection.local
        self.client = Client(peer[0] if peer else "", local[1] if local else 0, connection.tls)
        self.exchange: Exchange | None = None
        self.buffer = b""
        self.closed = False
        self.due = self.loop.now + serving.http.keep_alive
        self._seen = 0  # bytes of the buffer in which no head ends
        self._begun = 0.0  # when the head that is not whole yet began
        self._half = 0.0  # since when the client says nothing any more
        self._after = True  # once all is taken: go on, or end
        self._lingering = False
        self._read_whole = False  # what has come of the last request is all of it
        self._serving_now = False
        self._upgraded: Upgraded | None = None

    def begin(self) -> None:
        """Wait for the first request."""
        try:
            self.loop.watch(self.fd, self.happened, BOTH)
        except OSError:  # the kernel watches no more for this user
            self._close("refused_full")
            return
        if self.readable:
            self._serve()

    def happened(self, event: int) -> None:
        """Go on after an event of its socket."""
        if self.held is not None and (event & WRITABLE or not self.sharp) and self.flush():
            self._taken()
        if (event == WRITE and self.sharp) or self.closed:
            return
        self.readable = True
        if event & ENDING:
            self.ending = True
        exchange = self.exchange
        if exchange is None:
            self._serve()
        elif exchange.upload is not None and not exchange.upload.done:
            exchange.upload.pump()
        elif event & GONE:
            exchange.client_gone()
        elif event & HALF_CLOSED:
            self._half = self.loop.now
            self.due = min(self.due, self._half + _HALF_OPEN)

    # What it says

    def _serve(self) -> None:
        """Serve requests, until there is none, or one cannot be answered at once."""
        if self._serving_now:
            return
        self._serving_now = True
        try:
            for _ in range(_ROUNDS):
                if self.exchange is not None or self.held is not None or self.closed:
                    return
                if self._lingering:
                    if not self._discard():
                        return
                elif not self._next():
                    return
        finally:
            self._serving_now = False
        self.yield_()

    def _next(self) -> bool:
        """Take the next request, or a part of its head; False when there is no more now."""
        data = self.buffer
        if not data or data.find(END, self._seen) < 0:
            more = self.receive(_SIZE)
            if more is None:
                self._wait()
                return False
            if not more:
                self._ended()
                return False
            if data:
                self._seen = max(0, len(data) - 3)
                data += more
            else:
                data = more
        end = data.find(END, self._seen) + 4
        if end < 4:
            return self._part(data)
        self._seen = 0
        if data[:2] == b"\r\n":
            # An empty line before the request, as some clients send after a body.
            self.buffer = data[2:]
            return True
        if end > self.serving.http.max_head:
            self._refuse(431, "the head is too large")
            return False
        head = data if end == len(data) else data[:end]
        self.buffer = b"" if end == len(data) else data[end:]
        self._begun = 0.0
        self._take(head)
        return True

    def _part(self, data: bytes) -> bool:
        """Keep a part of a head, unless it cannot become one."""
        self.buffer = data
        if len(data) > self.serving.http.max_head:
            self._refuse(431, "the head is too large")
            return False
        line = data.find(b"\n")
        if (not data[:1].isalpha() and data[:1] != b"\r") or (line >= 0 and data[line - 1 : line] != b"\r"):
            self._refuse(400, "this is not HTTP")
            return False
        if line < 0 and len(data) > self.serving.http.max_url + 64:
            self._refuse(414, "the target is too long")
            return False
        if not self._begun:
            self._begun = self.loop.now
            self.due = self._begun + self.serving.http.head_timeout
        return True

    def _wait(self) -> None:
        """Nothing has come: wait for it."""
        if self.ending:
            self._ended()
        elif not self._begun:
            self.due = self.loop.now + self.serving.http.keep_alive

    def _take(self, head: bytes) -> None:
        serving = self.serving
        try:
            come = arrival(head, serving.forwarding.id_low)
        except Malformed as error:
            self._refuse(error.status, str(error))
            return
        request, client = come.request, self.client
        request.client, request.secure, request.names = client.address, client.secure, self.connection.names
        if request.id is None and serving.forwarding.id_low:
            request.id = serving.forwarding.new_id()
        self.exchange = exchange = Exchange(self, come, self.loop.now)
        serving.began(exchange)
        exchange.begin()

    def skip(self, length: int | None) -> bool:
        """Leave out the body of a request that nobody wants; False when it is not here whole."""
        if length is None or length > len(self.buffer):
            return False
        self.buffer = self.buffer[length:]
        return True

    def _discard(self) -> bool:
        """Let go of what comes after the last answer: a socket closed over it would take the answer with it."""
        self.buffer = b""
        data = self.receive(65536)
        if data:
            return True
        if data is not None or self.ending:
            self._close("client")
        return False

    def _ended(self) -> None:
        """The client has ended, between two requests or in one's head."""
        if self.buffer:
            self.serving.records.fault(self.connection.peer, 400, "malformed", "the head is not whole", None)
        self._close("client")

    def _refuse(self, status: int, text: str) -> None:
        """Answer what is no request that can be understood, and end."""
        rule = _WORDS.get(status, "malformed" if status == 400 else "head_timeout")
        name = self.serving.forwarding.id_header
        id = self.serving.forwarding.new_id() if name else None
        self.serving.records.fault(self.connection.peer, status, rule, text, id)
        answer = written(said(status, text), head_only=False, keep=False, old=False, name=name or b"", id=id)
        self._read_whole = False
        if self.send(answer):
            self._finish()

    # What it is told

    def _taken(self) -> None:
        """Go on, now that the client has taken what it was sent."""
        if self.exchange is not None:
            self.exchange.resume()
        elif not self._after:
            self._finish()
        elif self._upgraded is None:
            self.due = self.loop.now + self.serving.http.keep_alive
            self._serve()

    def answer(self, exchange: Exchange, answer: Answer) -> bool:
        """Send an answer that is made here; False when the client has gone."""
        name = self.serving.forwarding.id_header
        return self.send(
            written(
                answer,
                head_only=exchange.request.method == "HEAD",
                keep=exchange.keep,
                old=exchange.arrival.old,
                name=name or b"",
                id=exchange.request.id if name else None,
            )
        )

    def exchanged(self, exchange: Exchange) -> None:
        """A request has been answered whole: go on with the next, or end."""
        self.exchange = None
        self._after = exchange.keep
        self._read_whole = exchange.read_whole
        if self.held is not None:
            self.due = self.loop.now + self.serving.http.stream_timeout
        elif not exchange.keep:
            self._finish()
        elif not self._serving_now:
            self._serve()

    def cut(self, exchange: Exchange) -> None:
        """Break off: what the client has got of an answer is not all."""
        self.exchange = None
        self._upgraded = None
        # Where only the end of the connection says that it is all, a reset says that it is not.
        unsaid = exchange.download is not None and not exchange.download.framed
        self._close(_CUTS.get(exchange.why, "upstream_reset"), reset=unsaid)

    def _finish(self) -> None:
        """Say nothing more, and close once the client knows: who closes over what has not been read resets."""
        self._after = False
        if self.held is not None:
            self.due = self.loop.now + self.serving.http.stream_timeout
            return
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        if self._read_whole and not self.buffer and not (self.readable and self.sharp):
            self._close("client")
            return
        self._lingering = True
        self.due = self.loop.now + _LINGER
        if not self._serving_now:
            self._serve()

    def broken(self) -> None:
        """The client takes nothing any more."""
        if self.exchange is not None:
            self.exchange.client_gone()
        else:
            self._close("client_reset")

    def upgrade(self, upgraded: Upgraded) -> None:
        """Leave the socket to another protocol."""
        rest, self.buffer = self.buffer, b""
        self._upgraded = upgraded
        self.due = self.loop.now + self.serving.http.stream_timeout
        upgraded.begin(rest)

    # Its end

    def late(self, now: float) -> None:
        """Its time is over."""
        if self._upgraded is not None:
            self.due = self._upgraded.look(now)
        elif self.exchange is not None:
            if self._half and now - self._half >= _HALF_OPEN and not self.exchange.status:
                self.exchange.client_gone()
            else:
                self.exchange.late(now)
        elif self.held is not None or self._lingering:
            self._close("timeout")
        elif self._begun:
            self._refuse(408, "the head did not come in time")
        else:
            self._close("idle")

    def drain(self) -> None:
        """End, if nothing is under way."""
        if self._idle():
            # What has come by now is served.
            self.readable = True
            self._serve()
        if self._idle() and not self.buffer:
            self._close("drained")

    def _idle(self) -> bool:
        return self.exchange is None and self._upgraded is None and self.held is None and not self._lingering

    def leave(self, why: str = "drained") -> None:
        """End, whatever is under way."""
        if self._upgraded is not None:
            self._upgraded.end(why)
        elif self.exchange is not None:
            self.exchange.abort(why)
        else:
            self._close("drained")

    def yield_(self) -> None:
        """Let others have their turn, and go on in the next round."""
        self.loop.soon(self._go_on)

    def _go_on(self) -> None:
        if self.closed or self._upgraded is not None:
            return
        if self.exchange is None:
            self._serve()
        elif self.exchange.upload is not None:
            self.exchange.upload.pump()

    def _close(self, reason: Reason, *, reset: bool = False) -> None:
        if self.closed:
            return
        self.closed = True
        if reset:
            self.reset()
        self.shut()
        self.serving.left(self)
        self.connection.ended(reason, received=self.received, sent=self.sent, quiet=True)
