"""One request, from its head to the end of its answer, with all tries that are made for it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sidecars.ambassador.dialling import Dial, Dialled, Failed, dial
from sidecars.ambassador.http.answering import Answer, said
from sidecars.ambassador.http.download import Download
from sidecars.ambassador.http.forwarding import request_head
from sidecars.ambassador.http.framing import Arrival, Reply, reply
from sidecars.ambassador.http.heads import END, Malformed
from sidecars.ambassador.http.link import Link, Target
from sidecars.ambassador.http.request import Headers, Refusal, Wait
from sidecars.ambassador.http.retrying import IDEMPOTENT, asked_to_wait, backoff
from sidecars.ambassador.http.upload import TooLarge, Upload

if TYPE_CHECKING:
    from sidecars.ambassador.http.session import Session

_SIZE = 65536
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_SILENCE = 1.0  # seconds in which an upstream may say 100 (Continue); then we do
_MOST_INTERIM = 32  # answers before the answer
_ANSWERED_BODY = 1024 * 1024  # bytes of a body that an answerer gets, where no limit is set
_ERRORS = {
    "no_upstream": (503, "there is no upstream to ask now"),
    "queue": (503, "too many requests wait for an upstream"),
    "overflow": (503, "too many requests are at the upstreams"),
    "connect_failed": (502, "the upstream cannot be connected to"),
    "upstream_reset": (502, "the upstream broke off before it answered"),
    "upstream_closed": (502, "the upstream broke off before it answered"),
    "bad_response": (502, "the upstream's answer cannot be understood"),
    "try_timeout": (504, "the upstream did not answer in time"),
    "timeout": (504, "the upstream did not answer in time"),
    "body_timeout": (408, "the body did not come in time"),
    "credential": (502, "the credential for the upstream is not there now"),
}
# What is counted of upstreams, and how it is called there.
_LOSSES = {"upstream_reset": "reset", "upstream_closed": "eof", "try_timeout": "timeout", "bad_response": "error"}


class Exchange:
    """One request and its answer.

    over      it has ended: what comes for it still is not for it
    status    that the client was sent; 0 before
    sent      bytes of the answer's body
    tries     how many were made
    tried     the endpoints that they went to
    keep      the client's connection stays open afterwards
    """

    __slots__ = (
        "_body", "_cancel", "_collecting", "_continued", "_dial", "_interim", "_resent", "_retries", "_try_until",
        "_waited_since", "arrival", "download", "keep", "link", "over", "placed", "received",
        "request", "rule", "sent", "serving", "session", "since", "status", "target", "tried", "tries", "until", "upload",
        "upstream_seconds", "why",
    )  # fmt: skip

    def __init__(self, session: Session, arrival: Arrival, now: float) -> None:
        serving = session.serving
        self.session = session
        self.serving = serving
        self.arrival = arrival
        self.request = arrival.request
        self.since = now
        self.until = now + serving.http.timeout
        self.keep = arrival.keep
        self.over = False
        self.status = 0
        self.sent = 0
        self.received = 0
        self.tries = 0
        self.tried: tuple[str, ...] = ()
        self.target: Target | None = None
        self.link: Link | None = None
        self.placed = False
        self.upload: Upload | None = None
        self.download: Download | None = None
        self.upstream_seconds: float | None = None
        self.rule = ""
        self.why = ""
        self._body = b""  # held whole: it is signed, or answered here
        self._collecting: bytearray | None = None
        self._waited_since = now  # for the upstream, in this try
        self._try_until = self.until
        self._dial: Dial | None = None
        self._retries = 0
        self._resent = False
        self._continued = False
        self._interim = 0
        self._cancel: Callable[[], None] | None = None

    # From the head to an upstream

    def begin(self) -> None:
        """Ask the rules, and go on."""
        guard = self.serving.guard
        verdict = guard.check(self.request) if guard is not None else None
        if verdict is None:
            self.proceed()
        elif isinstance(verdict, Wait):
            self.session.due = self.until
            self.serving.park(self, verdict.refusal)
        else:
            self.refuse(verdict)

    def proceed(self) -> None:
        """Send it on, now that the rules let it pass."""
        serving = self.serving
        http = serving.http
        if self.request.length != 0:
            self.upload = Upload(
                self.session,
                self.request.length,
                self.session.loop.now,
                most=http.max_body,
                kept=http.retry.buffer,
                trailers=http.max_head,
            )
            if serving.whole_bodies:
                self._collect()
                return
        self._go_on()

    def _collect(self) -> None:
        """Hold the body until it is whole."""
        self._collecting = bytearray()
        if (self.request.length or 0) > self._most_collected:
            self._too_large()
            return
        if self.arrival.expects and not self.session.send(_CONTINUE):
            return
        self._continued = True
        self.session.due = self._look_again()
        self.pump()

    @property
    def _most_collected(self) -> int:
        http = self.serving.http
        if self.serving.answerer is None:
            return http.signed_body
        return http.max_body or _ANSWERED_BODY

    def _go_on(self) -> None:
        serving = self.serving
        if serving.answerer is not None:
            self.session.due = self.until
            cancel = serving.answerer.answer(self.request, self._body, self._answered_here)
            if not self.over:
                self._cancel = cancel
        else:
            serving.place(self)

    def _answered_here(self, answer: Answer) -> None:
        self._cancel = None
        if not self.over:
            self.answer(answer)

    def dial(self, target: Target) -> None:
        """Connect to an upstream."""
        serving, connection = self.serving, self.session.connection
        self._aim(target)
        serving.pending += 1
        self.session.due = self.until
        timeout = serving.route.listener.connect_timeout
        self._dial = dial(
            serving.plane, target.endpoint, target.upstream, timeout, self._dialled, connection, route=serving.route.id
        )

    def _aim(self, target: Target) -> None:
        self.target = target
        target.active += 1
        self.tries += 1

    def _dialled(self, outcome: Dialled | Failed) -> None:
        serving, target = self.serving, self.target
        assert target is not None  # noqa: S101  (it is dialled)
        self._dial = None
        serving.pending -= 1
        if isinstance(outcome, Failed):
            self._leave_target()
            self._try_again("connect_failed", sendable=True)
            return
        link = Link(serving.loop, target, outcome, placed=self.placed)
        self.placed = False
        target.join(link)
        self._send(link)
        if outcome.events and not self.over and self.link is link:
            link.happened(outcome.events)

    def use(self, target: Target, link: Link) -> None:
        """Send it over a connection that stands."""
        self._aim(target)
        self._send(link)

    def _send(self, link: Link) -> None:
        """Send the head, and what there is of the body."""
        now = self.session.loop.now
        self.link = link
        link.exchange = self
        self._waited_since = now
        head = self._head(link.target)
        if head is None:
            return
        upload = self.upload
        if upload is None:
            link.send(head + self._body if self._body else head)
        else:
            link.send(head + upload.kept if upload.kept else head)
            if self.arrival.expects and not self._continued:
                self.serving.loop.later(_SILENCE, self._encourage)
        self._sent_whole(now)
        if upload is not None and not upload.done:
            self.session.due = now
            self.pump()
        if not link.sharp and self.link is link:
            self.read()

    def _head(self, target: Target) -> bytes | None:
        serving, request, arrival = self.serving, self.request, self.arrival
        forwarding, origin = serving.forwarding, target.origin
        path = forwarding.target(request, origin)
        headers = forwarding.headers(arrival, self.session.client, origin)
        length = request.length
        if self._collecting is not None:
            length = len(self._body)
        if serving.signer is not None:
            signed = self._signed(path, headers, target)
            if signed is None:
                return None
            headers = signed
        return request_head(request.method, path, headers, arrival, length)

    def _signed(self, path: bytes, headers: Headers, target: Target) -> Headers | None:
        from sidecars.ambassador.http.credentials import Unavailable

        signer, origin = self.serving.signer, target.origin
        assert signer is not None  # noqa: S101  (who calls it has looked)
        authority = next((value for name, value in headers if name == b"Host"), origin.authority).decode("latin-1")
        body = self._body if self.upload is None else None
        try:
            return signer.sign(self.request.method, origin.scheme, authority, path, headers, body)
        except Unavailable as error:
            self.serving.note_refusal(self, 502, "credential", str(error))
            self._give_back()
            self.fail("credential")
            return None

    def _sent_whole(self, now: float) -> None:
        """Wait for the answer, for so long: the time of a body that takes long does not count."""
        upload = self.upload
        if upload is not None and not upload.done:
            return
        http = self.serving.http
        if upload is not None and upload.received and not self._retries:
            self.until = now + http.timeout
        self._try_until = now + http.try_timeout
        self.session.due = min(self.until, self._try_until)

    def pump(self) -> None:
        """Send on what there is of the body."""
        upload, link = self.upload, self.link
        if upload is None or upload.done:
            return
        try:
            if self._collecting is not None:
                there = upload.collect(self._collecting, self._most_collected)
            else:
                there = link is None or upload.pump(link)
        except TooLarge:
            self._too_large()
            return
        except Malformed as error:
            self.refuse(Refusal(400, "malformed", str(error)))
            return
        if not there:
            self.client_gone()
        elif upload.done and not self.over:
            self._uploaded()

    def _uploaded(self) -> None:
        if self._collecting is not None:
            self._body = bytes(self._collecting)
            self.received = len(self._body)
            self.upload = None
            self._go_on()
        elif self.download is None:
            self._sent_whole(self.session.loop.now)

    def taken(self) -> None:
        """The upstream has taken what it was sent."""
        self.pump()

    def _encourage(self) -> None:
        """Let the client send the body: the upstream says nothing."""
        upload = self.upload
        if not self.over and not self._continued and not self.status and upload and not upload.received:
            self._continued = True
            self.session.send(_CONTINUE)

    def _too_large(self) -> None:
        self.refuse(Refusal(413, "body_size", "the body is too large"))

    # From an upstream to the client

    def read(self) -> None:
        """Take what the upstream says; it is called until nothing is left to be read."""
        link = self.link
        session = self.session
        while link is not None and link.readable and session.held is None:
            if self.download is not None:
                self.download.read(link)
                return
            try:
                data = link.sock.recv(_SIZE)
            except BlockingIOError:
                link.readable = False
                return
            except OSError:
                self.lost("upstream_reset")
                return
            if len(data) < _SIZE and link.sharp and not link.ending:
                link.readable = False
            if not data:
                self.lost("upstream_closed")
                return
            self._hear(link, data)
            link = self.link

    def _hear(self, link: Link, data: bytes) -> None:
        """Take a part of an answer's head, or the head and what comes after it."""
        if link.early:
            data = link.early + data
        end = data.find(END) + 4
        if end < 4:
            link.early = data
            if len(data) > self.serving.http.max_head:
                self.lost("bad_response")
            return
        link.early = b""
        try:
            answer = reply(data[:end], self.request.method)
            if answer.status < 200:
                self._hear_interim(link, answer, data[end:])
            else:
                self._hear_answer(link, answer, data[end:])
        except Malformed:
            self.lost("bad_response")

    def _hear_interim(self, link: Link, answer: Reply, rest: bytes) -> None:
        self._interim += 1
        if answer.status == 101:
            self._switch(link, answer, rest)
            return
        if self._interim > _MOST_INTERIM:
            self.lost("bad_response")
            return
        if answer.status != 100:
            wanted = not self.arrival.old
        else:
            wanted = self.arrival.expects and not self._continued
            self._continued = True
        if wanted and not self.session.send(self.serving.forwarding.interim(answer)):
            return
        if rest and self.link is link:
            self._hear(link, rest)

    def _switch(self, link: Link, answer: Reply, rest: bytes) -> None:
        """Become what both sides have agreed on: bytes are passed on from now."""
        if not self.arrival.upgrade or not answer.upgrade:
            self.lost("bad_response")
            return
        from sidecars.ambassador.http.upgrading import Upgraded  # few connections become something else

        self._note_head(answer.status)
        self.link = None
        link.exchange = None
        self.session.upgrade(Upgraded(self, link, self.serving.forwarding.switched(answer), rest))

    def _note_head(self, status: int) -> None:
        now = self.session.loop.now
        self.status = status
        self.upstream_seconds = now - self._waited_since
        self.serving.counts.heard(self.upstream_seconds)

    def _hear_answer(self, link: Link, answer: Reply, rest: bytes) -> None:
        serving, status, length = self.serving, answer.status, answer.length
        if (status in serving.failing_statuses or serving.tally.doubted) and self._judge(link, answer, rest):
            return
        self._note_head(status)
        upload, arrival = self.upload, self.arrival
        if upload is not None and not upload.done:
            self.keep = False
        old = arrival.old
        framed = length < 0
        if serving.draining or (old and framed):
            self.keep = False
        chunking = framed and not old
        head = serving.forwarding.reply(answer, old=old, keep=self.keep, chunked=chunking)
        if length == len(rest):
            # The usual: the whole answer came at once.
            self.sent = length
            if self.session.send(head + rest if rest else head):
                self._finish(link, reusable=answer.keep)
            return
        download = Download(self, length, chunking=chunking, trailers=serving.http.max_head)
        download.excess = not answer.keep
        self.download = download
        self.session.due = self._look_again()
        try:
            download.begin(head, rest)
        except Malformed:
            self.download = None
            self.status = 0
            raise

    def _judge(self, link: Link, answer: Reply, rest: bytes) -> bool:
        """Tell how the upstream does; and whether the request is tried again instead of passing the answer on."""
        serving, target, status = self.serving, link.target, answer.status
        retry = serving.http.retry
        if status in (502, 503, 504):
            serving.tally.poor(target.upstream, target.endpoint, "status", f"answered {status}")
        else:
            serving.tally.well(target.endpoint)
        if status not in retry.statuses:
            return False
        wait = asked_to_wait(answer.headers, time.time())
        if wait is not None and wait > retry.max_backoff:
            serving.deny("retry_after")
            return False
        if not self._may_try_again("status", sendable=False, wait=wait):
            return False
        reusable = answer.keep and answer.length == len(rest)
        self._give_back(reusable=reusable)
        self._retry("status", wait)
        return True

    def resume(self) -> None:
        """Read on, now that the client has taken what it was sent."""
        if self.download is not None:
            self.download.progress = self.session.loop.now
        if self.link is not None and self.link.readable:
            self.read()

    def whole(self) -> None:
        """The whole answer has been sent on."""
        link, download = self.link, self.download
        assert link is not None  # noqa: S101  (it came from there)
        assert download is not None  # noqa: S101  (likewise)
        self._finish(link, reusable=not download.excess)

    def _finish(self, link: Link, *, reusable: bool) -> None:
        upload = self.upload
        uploaded = upload is None or upload.done
        self._give_back(reusable=reusable and uploaded and link.held is None)
        if not uploaded:
            self.keep = False
        self.end("")

    # When something fails

    def lost(self, why: str) -> None:
        """The connection to the upstream is gone, or of no use."""
        link, target = self.link, self.target
        assert link is not None  # noqa: S101  (it is lost)
        assert target is not None  # noqa: S101  (likewise)
        stale = link.reused and not link.early and not self._interim and why in ("upstream_reset", "upstream_closed")
        self._give_back()
        if stale and self.download is None:
            # It has been closed while it waited, as servers do: no failure.
            self._try_again(why, sendable=False, stale=True)
            return
        self.serving.tally.poor(target.upstream, target.endpoint, _LOSSES[why], why)
        if self.status:
            self.abort(why)
        else:
            self._try_again(why, sendable=False)

    def _try_again(self, why: str, *, sendable: bool, stale: bool = False) -> None:
        """Try again if that may be, or answer what has happened.

        sendable  nothing has been sent
        stale     a connection that had waited was at its end
        """
        if stale and self._resent:
            stale = False
        if why != "bad_response" and self._may_try_again(why, sendable=sendable, stale=stale):
            self._resent = self._resent or stale
            self._retry("stale" if stale else why, 0.0 if stale else None, free=stale)
        else:
            self.fail(why)

    def _may_try_again(self, why: str, *, sendable: bool, wait: float | None = None, stale: bool = False) -> bool:
        serving = self.serving
        retry, now = serving.http.retry, self.session.loop.now
        upload = self.upload
        if not retry.tries or (not sendable and self.request.method not in IDEMPOTENT):
            return False
        if not sendable and upload is not None and upload.kept is None:
            denied = "body"
        elif self._retries >= retry.tries and not stale:
            denied = "tries"
        elif now + (wait or 0.0) >= self.until:
            denied = "time"
        elif not serving.budget.take(now):
            denied = "budget"
        else:
            return True
        serving.deny(denied)
        return False

    def _retry(self, why: str, wait: float | None, *, free: bool = False) -> None:
        serving = self.serving
        counts = serving.counts.retries
        counts[why] = counts.get(why, 0) + 1
        if not free:
            self._retries += 1
        self._interim = 0
        self.session.due = self.until
        if wait is None:
            wait = 0.0
            if not serving.untried(self):
                wait = backoff(serving.http.retry, self._retries, random.random())  # noqa: S311  (jitter)
        if wait:
            # From a handler, asyncio hears of a timer only when it is told so.
            serving.loop.soon(serving.loop.call_later, wait, self._place_again)
        else:
            serving.loop.after(self._place_again)

    def _place_again(self) -> None:
        if not self.over:
            self.serving.place(self)

    def _give_back(self, *, reusable: bool = False) -> None:
        """Let go of the connection."""
        link = self.link
        if link is None:
            return
        self.link = None
        target = link.target
        self._leave_target()
        if reusable:
            target.give(link, self.session.loop.now)
        else:
            target.drop(link)
        self.serving.roomier()

    def _leave_target(self) -> None:
        target = self.target
        if target is not None:
            self.tried = (*self.tried, target.key)
            target.active -= 1
            if self.placed:
                self.placed = False
                self.serving.leave_place(target)

    def _stop(self) -> None:
        """Let go of everything that is under way."""
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
            self.serving.pending -= 1
            self._leave_target()
        elif self.link is not None:
            self._give_back()
        else:
            self.serving.unplace(self)
        if self._cancel is not None:
            self._cancel()
            self._cancel = None

    def fail(self, why: str) -> None:
        """Answer that it cannot be done."""
        status, text = _ERRORS[why]
        if self.status:
            self._stop()
            self.abort(why)
            return
        self.why = self.rule = why
        headers = ((b"Retry-After", b"1"),) if status == 503 else ()
        if why in ("overflow", "queue", "no_upstream"):
            self.serving.note_refusal(self, status, why, "")
        self.answer(said(status, text, headers), why)

    def refuse(self, refusal: Refusal) -> None:
        """Answer as a rule says."""
        self._stop()
        if self.status:
            self.abort("refused")
            return
        self.rule = refusal.rule
        self.serving.note_refusal(self, refusal.status, refusal.rule, refusal.detail)
        self.answer(said(refusal.status, refusal.text, refusal.headers), "refused")

    def answer(self, answer: Answer, why: str = "") -> None:
        """Answer here, instead of an upstream."""
        self._stop()
        upload = self.upload
        if (self.request.length != 0 and upload is None and self._collecting is None) or (upload and not upload.done):
            self.keep = self.keep and self.session.skip(self.request.length, upload)
        if self.serving.draining:
            self.keep = False
        self.status = answer.status
        self.sent = 0 if self.request.method == "HEAD" else len(answer.body)
        if self.session.answer(self, answer):
            self.end(why)

    def abort(self, why: str) -> None:
        """Break off what has begun, so that the client knows that it is not all."""
        self.why = why
        self.over = True
        self.serving.ended(self)
        self.session.cut(self)

    def client_gone(self) -> None:
        """The client has gone: nobody waits for the answer."""
        if not self.over:
            self._stop()
            self.abort("client_gone")

    def end(self, why: str) -> None:
        """It is over, and the client's connection goes on."""
        self.over = True
        self.why = why
        self.serving.ended(self)
        self.session.exchanged(self.keep)

    def let_go(self, link: Link, why: str) -> None:
        """Another protocol has ended on both connections."""
        session = self.session
        session.exchange = None
        target = link.target
        target.active -= 1
        target.drop(link)
        self.over = True
        self.why = why
        self.serving.ended(self)
        session.released()

    def leave(self) -> None:
        """End, whatever is under way."""
        self._stop()
        self.abort("drained")

    # Time

    def late(self, now: float) -> None:
        """Its time is over, or it was to be looked at."""
        if self.download is not None:
            if now - self.download.progress >= self.serving.http.stream_timeout:
                self._stop()
                self.abort("timeout")
                return
        elif (
            self.upload is not None and not self.upload.done and (self.link is not None or self._collecting is not None)
        ):
            if self._slow(self.upload, now):
                return
        elif now >= self.until:
            self.fail("timeout")
            return
        elif self.link is not None and now >= self._try_until:
            self.lost("try_timeout")
            return
        if not self.over:
            self.session.due = self._look_again()

    def _look_again(self) -> float:
        now = self.session.loop.now
        if self.download is not None:
            return self.download.progress + float(self.serving.http.stream_timeout)
        if self.upload is not None and not self.upload.done:
            return now + min(1.0, self.serving.http.body_timeout / 4)
        return min(self.until, self._try_until) if self.link is not None else self.until

    def _slow(self, upload: Upload, now: float) -> bool:
        """Give up a body that comes too slowly, or that the upstream does not take."""
        http, link = self.serving.http, self.link
        if link is not None and (link.held is not None or link.deaf):
            if now - upload.progress >= http.try_timeout:
                self.lost("try_timeout")
                return True
            return False
        waited = now - upload.since
        crawling = http.min_rate and waited > 10 and upload.received < http.min_rate * waited
        if now - upload.progress >= http.body_timeout or crawling:
            self.keep = False
            self.fail("body_timeout")
            return True
        return False

    @property
    def source(self) -> str:
        """Who is balanced by where it comes from."""
        return self.request.client
