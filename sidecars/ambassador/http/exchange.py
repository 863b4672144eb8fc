"""One request, from its head to the end of its answer, with all tries that are made for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sidecars.ambassador.http.answering import OWN, Answer, error, said
from sidecars.ambassador.http.attempt import Attempt
from sidecars.ambassador.http.download import Download
from sidecars.ambassador.http.framing import Arrival, Reply
from sidecars.ambassador.http.link import Link, Target
from sidecars.ambassador.http.request import Refusal, Wait
from sidecars.ambassador.http.retrying import Retrying
from sidecars.ambassador.http.upload import Upload

if TYPE_CHECKING:
    from sidecars.ambassador.http.serving import Serving
    from sidecars.ambassador.http.session import Session

_POOR = (502, 503, 504)  # the answers of who has none


class Exchange:
    """One request and its answer.

    attempt    the try that is under way
    target     where the last try went; `tried`: the keys of all; `tries`: how many there were
    upload     the request's body on its way; `download`: the answer's
    body       of the request, held whole where `collected`: it is signed, or answered here
    keep       the client's connection stays open afterwards
    status     that the client was sent; 0 before
    sent       bytes of the answer's body; `received`: of the request's, where there is no upload
    resent     a connection that had waited was at its end: it is not sent over such a one again
    over       it has ended: what comes for it still is not for it
    rule, why  why it was answered here, and why it ended, for logs
    """

    __slots__ = (
        "_cancel", "_retrying", "arrival", "attempt", "body", "collected", "download", "keep", "over", "received",
        "request", "resent", "rule", "sent", "serving", "session", "since", "status", "target", "tried", "tries",
        "until", "upload", "upstream_seconds", "why",
    )  # fmt: skip

    def __init__(self, session: Session, arrival: Arrival, now: float) -> None:
        serving = session.serving
        self.session: Session = session
        self.serving: Serving = serving
        self.arrival = arrival
        self.request = arrival.request
        self.since = now
        self.until = now + serving.http.timeout
        self.keep = arrival.keep
        self.attempt: Attempt | None = None
        self.target: Target | None = None
        self.tried: tuple[str, ...] = ()
        self.tries = 0
        self.upload: Upload | None = None
        self.download: Download | None = None
        self.body = b""
        self.collected = False
        self.over = False
        self.status = self.sent = self.received = 0
        self.upstream_seconds: float | None = None
        self.rule = self.why = ""
        self._retrying: Retrying | None = None
        self.resent = False
        self._cancel: Callable[[], None] | None = None

    # The request

    def begin(self) -> None:
        """Ask the rules, and send it on if they let it pass."""
        guard = self.serving.guard
        verdict = guard.check(self.request) if guard is not None else None
        self.session.due = self.until
        if verdict is None:
            self._pass()
        elif isinstance(verdict, Wait):
            self.serving.park(self, verdict.refusal)
        else:
            self.refuse(verdict)

    def _pass(self) -> None:
        serving = self.serving
        if self.request.length == 0:
            self._go_on()
            return
        self.upload = upload = Upload(self, self.request.length)
        if serving.whole_bodies:
            upload.hold(serving.most_held)
        else:
            self._go_on()

    def uploaded(self) -> None:
        """The whole body has come."""
        upload, attempt = self.upload, self.attempt
        if upload is not None and upload.held is not None:
            self.body = bytes(upload.held)
            self.received = len(self.body)
            self.collected = True
            self.upload = None
            self._go_on()
        elif self.download is None and attempt is not None:
            self.sent_whole(attempt)

    def _go_on(self) -> None:
        answerer = self.serving.answerer
        if answerer is None:
            self.serving.placing.place(self)
            return
        self.session.due = self.until
        cancel = answerer.answer(self.request, self.body, self._answered_here)
        if not self.over:
            self._cancel = cancel

    def _answered_here(self, answer: Answer) -> None:
        self._cancel = None
        if not self.over:
            self.answer(answer)

    def try_(self, target: Target, link: Link | None, *, placed: bool = False) -> None:
        """Send it to this endpoint, over a connection that stands, or over a new one."""
        self.target = target
        self.tries += 1
        self.attempt = attempt = Attempt(self, target, placed=placed)
        if link is not None:
            attempt.send(link)
        else:
            self.session.due = self.until
            attempt.dial()

    def sent_head(self, attempt: Attempt) -> None:
        """The head has been sent, and what is held of the body: send on what comes of it."""
        upload = self.upload
        assert upload is not None  # noqa: S101  (there is a body)
        if upload.done:
            self.sent_whole(attempt)
            return
        upload.begin(attempt.since)

    def sent_whole(self, attempt: Attempt) -> None:
        """The whole request has been sent: wait for the answer. The time that a body takes does not count."""
        now, http = self.session.loop.now, self.serving.http
        if self.upload is not None and self._retrying is None:
            self.until = now + http.timeout
        attempt.until = now + http.try_timeout
        self.session.due = min(self.until, attempt.until)

    # The answer

    def interim(self, answer: Reply) -> bool:
        """Pass on what comes before the answer; False when the client has gone."""
        wanted = not self.arrival.old
        if answer.status == 100:
            wanted = self.upload is not None and self.upload.interim()
        return not wanted or self.session.send(self.serving.forwarding.interim(answer))

    def switch(self, attempt: Attempt, link: Link, answer: Reply, rest: bytes) -> None:
        """Become what both sides have agreed on: bytes are passed on from now."""
        from sidecars.ambassador.http.upgrading import Upgraded  # few connections become something else

        self._begun(attempt, answer.status)
        self.session.upgrade(Upgraded(self, attempt, link, self.serving.forwarding.switched(answer), rest))

    def _begun(self, attempt: Attempt, status: int) -> None:
        self.status = status
        self.upstream_seconds = self.session.loop.now - attempt.since
        self.serving.counts.heard(self.upstream_seconds)

    def heard(self, attempt: Attempt, link: Link, answer: Reply, rest: bytes) -> None:
        """Pass on an answer, whose head has come, and maybe more; or try again. Raises Malformed."""
        serving, status, length = self.serving, answer.status, answer.length
        if (status in serving.failing or serving.tally.doubted) and self._judged(attempt, answer, rest):
            return
        old = self.arrival.old
        chunking = length < 0 and not old
        upload = self.upload
        # What has to be read still of the request stands where the next one would be looked for.
        if (upload is not None and not upload.done) or serving.draining or (old and length < 0):
            self.keep = False
        head = serving.forwarding.reply(answer, old=old, keep=self.keep, chunked=chunking)
        if length == len(rest):
            # The usual: the whole answer came at once.
            self._begun(attempt, status)
            self.sent = length
            if self.session.send(head + rest if rest else head):
                self._finish(attempt, link, reusable=answer.keep)
            return
        download = Download(self, answer, chunking=chunking, most_trailers=serving.http.max_head)
        content, done = download.first(rest)
        self._begun(attempt, status)
        self.download = download
        self.session.due = download.until
        if self.session.send(head + content) and done:
            self.whole()

    def _judged(self, attempt: Attempt, answer: Reply, rest: bytes) -> bool:
        """Tell how the upstream does; and whether the request is tried again instead of passing the answer on."""
        tally, target = self.serving.tally, attempt.target
        if answer.status in _POOR:
            tally.poor(target.upstream, target.endpoint, "status", f"answered {answer.status}")
        else:
            tally.well(target.endpoint)
        wait = self._tries_again().after_answer(answer)
        if wait is None:
            return False
        attempt.drop(reusable=answer.keep and answer.length == len(rest) and self._uploaded_whole())
        self._try_later(wait)
        return True

    def _uploaded_whole(self) -> bool:
        return self.upload is None or self.upload.done

    @property
    def read_whole(self) -> bool:
        """Whether nothing of the request is still to be read."""
        return self.request.length == 0 or self.collected or (self.upload is not None and self.upload.done)

    def resume(self) -> None:
        """Read on, now that the client has taken what it was sent."""
        if self.download is not None:
            self.download.progress = self.session.loop.now
        if self.attempt is not None and self.attempt.link is not None:
            self.attempt.read()

    def whole(self) -> None:
        """The whole answer has been sent on."""
        attempt, download = self.attempt, self.download
        assert attempt is not None  # noqa: S101  (it came from there)
        assert attempt.link is not None  # noqa: S101  (likewise)
        assert download is not None  # noqa: S101  (likewise)
        self._finish(attempt, attempt.link, reusable=not download.spent)

    def _finish(self, attempt: Attempt, link: Link, *, reusable: bool) -> None:
        uploaded = self._uploaded_whole()
        attempt.drop(reusable=reusable and uploaded)
        if not uploaded:
            self.keep = False
        self.end("")

    # Another try

    def failed(self, why: str, *, unsent: bool = False, stale: bool = False) -> None:
        """A try came to nothing: make another if that may be, or answer what has happened; see Retrying."""
        if self.status:
            self.abort(why)
            return
        wait = self._tries_again().after_failure(why, unsent=unsent, stale=stale)
        if wait is None:
            self.fail(why)
        else:
            self._try_later(wait)

    def _tries_again(self) -> Retrying:
        if self._retrying is None:
            self._retrying = Retrying(self)
        if self.target is not None and self.target.key not in self.tried:
            self.tried = (*self.tried, self.target.key)
        return self._retrying

    def _try_later(self, wait: float) -> None:
        loop = self.session.loop
        self.session.due = self.until
        if wait:
            # From a handler, asyncio hears of a timer only when it is told so.
            loop.soon(loop.call_later, wait, self._place_again)
        else:
            loop.after(self._place_again)

    def _place_again(self) -> None:
        if not self.over:
            self.serving.placing.place(self)

    # Its end

    def fail(self, why: str, detail: str = "") -> None:
        """Answer that it cannot be done."""
        self._stop()
        if self.status:
            self.abort(why)
            return
        answer = error(why)
        if why in OWN:
            self.rule = why
            self.serving.records.refuse(self, answer.status, why, detail)
        self.answer(answer, why)

    def refuse(self, refusal: Refusal) -> None:
        """Answer as a rule says."""
        self._stop()
        if self.status:
            self.abort("refused")
            return
        self.rule = refusal.rule
        self.serving.records.refuse(self, refusal.status, refusal.rule, refusal.detail)
        self.answer(said(refusal.status, refusal.text, refusal.headers), "refused")

    def answer(self, answer: Answer, why: str = "") -> None:
        """Answer here, instead of an upstream."""
        self._stop()
        request = self.request
        if request.length != 0 and not self.collected:
            whole = self.upload.done if self.upload is not None else self.session.skip(request.length)
            self.keep = self.keep and whole
        if self.serving.draining:
            self.keep = False
        self.status = answer.status
        self.sent = 0 if request.method == "HEAD" else len(answer.body)
        if self.session.answer(self, answer):
            self.end(why)

    def end(self, why: str) -> None:
        """It is over, and the client's connection goes on."""
        self.over = True
        self.why = why
        self.serving.ended(self)
        self.session.exchanged(self)
        self._forget()

    def abort(self, why: str) -> None:
        """Break off what has begun, so that the client knows that it is not all."""
        self._stop()
        self.over = True
        self.why = why
        self.serving.ended(self)
        self.session.cut(self)
        self._forget()

    def _forget(self) -> None:
        # They refer to it in circles, which the garbage collector would have to find.
        self.upload = self.download = self._retrying = None

    def client_gone(self) -> None:
        """The client has gone: nobody waits for the answer."""
        if not self.over:
            self.abort("client_gone")

    def let_go(self, attempt: Attempt, why: str) -> None:
        """Another protocol has ended on both connections."""
        self.attempt = attempt
        self.abort(why)

    def _stop(self) -> None:
        """Let go of everything that is under way."""
        if self.attempt is not None:
            self.attempt.drop()
        else:
            self.serving.placing.leave(self)
            self.serving.unpark(self)
        if self._cancel is not None:
            cancel, self._cancel = self._cancel, None
            cancel()

    # Time

    def late(self, now: float) -> None:
        """Its time is over, or it was to be looked at."""
        upload, attempt = self.upload, self.attempt
        link = attempt.link if attempt is not None else None
        self.session.due = self.until
        if self.download is not None:
            self.session.due = self.download.until
            if now >= self.download.until:
                self.abort("timeout")
        elif upload is not None and not upload.done and (link is not None or upload.held is not None):
            upload.look(now)
        elif now >= self.until:
            self.fail("timeout")
        elif attempt is not None and link is not None:
            self.session.due = min(self.until, attempt.until)
            if now >= attempt.until:
                attempt.lost("try_timeout")
