"""Published keys: fetched, kept while none can be had, and bounded whatever is answered."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest
import structlog.testing
import trustme
from msgspec.structs import force_setattr

from sidecars.ambassador.decider import Decider
from sidecars.ambassador.http.jwks import Source, Unfit, fetch
from sidecars.ambassador.http.settings import Auth, Http, Jwt
from sidecars.ambassador.loop import Loop
from sidecars.ambassador.plan import Jwks, Outcome, Plan
from sidecars.ambassador.settings import Listener, Upstream
from sidecars.core.health import Health
from sidecars.core.units import Seconds

PATIENCE = 30.0
# RFC 7517, appendix A.1.
KEY = {
    "kty": "EC", "crv": "P-256", "use": "enc", "kid": "1",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
}  # fmt: skip


def jwks(kid: str) -> str:
    return json.dumps({"keys": [{**KEY, "use": "sig", "kid": kid}]})


def answer(body: bytes | str, status: str = "200 OK", *headers: str) -> bytes:
    body = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Issuer:
    """A server that says what it is told to say, and what it was asked."""

    def __init__(self, said: bytes) -> None:
        self.said = said
        self.asked: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            self.asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.said)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def issuing(said: bytes | str, context: ssl.SSLContext | None = None) -> AsyncIterator[Issuer]:
    issuer = Issuer(answer(said) if isinstance(said, str) else said)
    server = await asyncio.start_server(issuer.serve, "127.0.0.1", 0, ssl=context)
    issuer.port = server.sockets[0].getsockname()[1]
    try:
        yield issuer
    finally:
        server.close()


def run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(work)


def test_a_jwks_is_fetched_without_compression_and_without_cookies() -> None:
    async def work() -> None:
        async with issuing(jwks("a")) as issuer:
            source = Source(f"http://127.0.0.1:{issuer.port}/keys?tenant=1", None, 300)
            assert await fetch(source) == jwks("a")
            (asked,) = issuer.asked
            assert asked.startswith(b"GET /keys?tenant=1 HTTP/1.1\r\n")
            assert b"Accept-Encoding: identity" in asked
            assert b"ookie" not in asked

    run(work())


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (answer("no", "500 Internal Server Error"), "it answers 500"),
        (answer("", "302 Found", "Location: http://127.0.0.1:1/"), "it answers 302; give the address it redirects to"),
        (answer("<html>"), "the answer is no JWKS"),
        (answer('{"keys": []}'), "the answer has no public key"),
        (answer(b"\xff\xfe"), "the answer is not UTF-8"),
        (answer(b" " * 300_000), "the answer is longer than 262144 bytes"),
        (answer(gzip.compress(b" " * 300_000), "200 OK", "Content-Encoding: gzip"), "the answer is not UTF-8"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{", "ClientPayloadError"),
        (b"SSH-2.0-OpenSSH\r\n", "ClientResponseError"),
        (b"", "ServerDisconnectedError"),
    ],
    ids=range(10),
)
def test_an_answer_that_is_none_is_said_in_words(said: bytes, why: str) -> None:
    async def work() -> None:
        async with issuing(said) as issuer:
            with pytest.raises(Unfit, match=why):
                await fetch(Source(f"http://127.0.0.1:{issuer.port}/?secret=hunter2", None, 300))

    run(work())


def test_an_issuer_is_known_by_its_certificate(tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    for name, ca in (("ca", authority), ("other", other)):
        ca.cert_pem.write_to_path(str(tmp_path / name))

    async def work() -> None:
        async with issuing(jwks("a"), context) as issuer:
            url = f"https://localhost:{issuer.port}/"
            assert await fetch(Source(url, str(tmp_path / "ca"), 300)) == jwks("a")
            for ca in (str(tmp_path / "other"), None):
                with pytest.raises(Unfit, match="its certificate is not trusted"):
                    await fetch(Source(url, ca, 300))
            with pytest.raises(Unfit, match="No such file"):
                await fetch(Source(url, str(tmp_path / "nowhere"), 300))
        with pytest.raises(Unfit, match=r"refused|cannot be reached"):
            await fetch(Source(url, str(tmp_path / "ca"), 300))

    run(work())


class Deciding:
    """A decider for listeners that have their keys at an issuer's."""

    def __init__(self, *listeners: Listener) -> None:
        self.health = Health()
        self.health.started()
        self.plans: list[Plan] = []
        self._news = asyncio.Event()
        self.decider = Decider(cast(Loop, asyncio.get_running_loop()), listeners, self._changed, self.health)
        self.decider.start()

    def _changed(self, plan: Plan) -> None:
        self.plans.append(plan)
        self._news.set()

    @property
    def known(self) -> list[Jwks | None]:
        return [route.jwks for route in self.plans[-1].routes]

    async def until(self, so: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not so():
                self._news.clear()
                await self._news.wait()


def listener(listen: str, issuer: Issuer, interval: float = 300) -> Listener:
    jwt = Jwt(jwks=f"http://127.0.0.1:{issuer.port}/keys?secret=hunter2")
    force_setattr(jwt, "jwks_interval", Seconds(interval))  # shorter than an operator may say
    return Listener(listen=listen, upstreams=(Upstream(address="127.0.0.1:1"),), http=Http(auth=Auth(jwt=jwt)))


def test_keys_come_with_the_plan_once_for_all_that_have_the_same_issuer() -> None:
    async def work() -> None:
        async with issuing(jwks("a")) as issuer:
            deciding = Deciding(listener(":1", issuer), listener(":2", issuer))
            assert deciding.known == [None, None], "nobody waits for them"
            await deciding.until(lambda: None not in deciding.known)
            assert [each.text for each in deciding.known if each] == [jwks("a")] * 2
            assert len(issuer.asked) == 1
            assert not [text for text in deciding.health.why_not_delivering() if "keys" in text]
            # They are new: an unknown key is no reason to ask again.
            deciding.decider.outcome(Outcome(":1", "", False, "jwks"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert len(issuer.asked) == 1
            deciding.decider.reload([])
            assert deciding.known == []
            deciding.decider.close()

    run(work())


def test_keys_are_fetched_again_and_a_failure_leaves_the_last_ones_in_force() -> None:
    async def work() -> None:
        async with issuing(jwks("a")) as issuer:
            deciding = Deciding(listener(":1", issuer, interval=0.05))

            def reasons() -> list[str]:
                return [text for text in deciding.health.why_not_delivering() if "keys of" in text]

            def known(kid: str) -> bool:
                return [each and each.text for each in deciding.known] == [jwks(kid)]

            await deciding.until(lambda: known("a"))
            issuer.said = answer(jwks("b"))
            await deciding.until(lambda: known("b"))
            with structlog.testing.capture_logs() as logs:
                issuer.said = answer("<html>")
                await deciding.until(lambda: bool(reasons()))
            assert known("b")
            assert "is no JWKS" in reasons()[0]
            warning = next(each for each in logs if each["event"] == "keys not fetched")
            assert warning["consequence"] == "the last good ones stay in force"
            assert "hunter2" not in str((logs, reasons()))
            issuer.said = answer(jwks("c"))
            await deciding.until(lambda: known("c"))
            assert not reasons()
            deciding.decider.close()

    run(work())
