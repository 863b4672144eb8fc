"""How a connection comes to be inside TLS: on the loop, on either side, and no byte further than that."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sidecars.ambassador.loop import BOTH, Loop
from sidecars.ambassador.secured import Secured
from sidecars.ambassador.trust import TlsFailed, check_names, names_of, words

_RECORD = 5  # bytes of a record's header


class Asking(NamedTuple):
    """How a protocol that begins without TLS is asked for it, and the one byte that says yes."""

    request: bytes
    yes: bytes


# PostgreSQL, Message Formats: SSLRequest, answered by S or N. Version 17 also takes TLS at once, with ALPN.
POSTGRES = Asking((8).to_bytes(4) + (80877103).to_bytes(4), b"S")


class Handshake:
    """A TLS handshake on the loop; the timeout, where there is one, covers all of it.

    done is called once, with a Secured or a TlsFailed, never from within the making of this. The socket is watched
    until then and not after it, and stays the caller's, who closes it after a failure.
    """

    __slots__ = (
        "_asking", "_deadline", "_done", "_greeted", "_head", "_left", "_loop", "_names", "_over", "_secured", "_ssl",
    )  # fmt: skip

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_name: str | None = None,
        names: Sequence[str] = (),
        asking: Asking | None = None,
        timeout: float | None = None,
        done: Callable[[Secured | TlsFailed], None],
    ) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(incoming, outgoing, server_side=server_side, server_hostname=server_name)
        self._secured = Secured(loop, sock, self._ssl, incoming, outgoing)
        self._loop, self._names, self._done = loop, names, done
        self._head = b""  # of the record that is being read
        self._left = 0  # bytes of its body that are to come
        self._greeted = False  # the other side has said something
        self._over = False  # the handshake is done, but not all of it has gone out
        self._asking = asking  # until the answer is there
        if asking:
            outgoing.write(asking.request)
        self._deadline = loop.later(timeout, self._late) if timeout is not None else None
        loop.watch(sock.fileno(), self._step, BOTH)

    def cancel(self) -> None:
        """Give up; done is not called."""
        self._loop.forget(self._secured.fileno())
        if self._deadline:
            self._deadline.cancel()

    def _late(self) -> None:
        self._end(TlsFailed("no end of the TLS handshake in time"))

    def _step(self, _: int) -> None:
        try:
            if self._asking:
                self._ask(self._asking)
            while not self._over:
                try:
                    self._ssl.do_handshake()
                    self._over = True
                except ssl.SSLWantReadError:
                    self._secured._flush()
                    self._more()
            self._secured._flush()
            self._check()
        except BlockingIOError:
            return
        except TlsFailed as failed:
            self._end(failed)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._secured._flush()  # the alert that says why
            self._end(TlsFailed(words(error)))
        else:
            self._end(self._secured)

    def _ask(self, asking: Asking) -> None:
        self._secured._flush()
        # One byte, and no more: what somebody has slipped in behind it would be read as TLS, and fail.
        answer = self._secured.sock.recv(1)
        if answer != asking.yes:
            raise TlsFailed("it has no TLS to offer" if answer else "the connection was closed when TLS was asked for")
        self._asking = None

    def _more(self) -> None:
        """Read on, to the end of a record at most: what follows the handshake stays with the kernel, which tells of it.

        Were it taken here, no readiness would tell the connection's next owner that there is something to read.
        """
        got = self._secured.sock.recv(self._left or _RECORD - len(self._head))
        if not got:
            raise TlsFailed("the connection was closed during the TLS handshake", ended=not self._greeted)
        self._greeted = True
        if self._left:
            self._left -= len(got)
        else:
            self._head += got
            if len(self._head) == _RECORD:
                self._left = int.from_bytes(self._head[3:])
                self._head = b""
        self._secured._in.write(got)

    def _acknowledge(self) -> None:
        """Say at once that the client's last message is here.

        Nothing of ours follows it, and a client that has not turned Nagle's algorithm off holds its first bytes back
        until it is acknowledged: that would take the kernel 40 ms.
        """
        with contextlib.suppress(OSError, AttributeError):  # a unix socket; a system without it
            self._secured.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _check(self) -> None:
        if self._ssl.server_side:
            self._acknowledge()
        certificate = self._ssl.getpeercert() or {}
        self._secured.names = names_of(certificate)
        if self._names:
            check_names(certificate, self._names)

    def _end(self, outcome: Secured | TlsFailed) -> None:
        self.cancel()
        self._done(outcome)
