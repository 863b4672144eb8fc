"""Requests that are answered in this process, instead of by an upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from sidecars.ambassador.gate import Gate
from sidecars.ambassador.http.answering import Answer
from sidecars.ambassador.http.request import Request
from sidecars.ambassador.http.serving import Serving
from sidecars.ambassador.http.settings import Http
from sidecars.ambassador.listening import open_sockets
from sidecars.ambassador.loop import Loop
from sidecars.ambassador.plan import Route
from sidecars.ambassador.plane import Plane
from sidecars.ambassador.settings import Listener, Upstream


class Shouting:
    """Answers at once, later to /later, never to /never."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.cancelled = 0

    def answer(self, request: Request, body: bytes, done: Callable[[Answer], None]) -> Callable[[], None]:
        answer = Answer(200, [(b"X-Path", request.path)], body.upper())
        if request.path == b"/later":
            self.loop.call_later(0.001, done, answer)
        elif request.path != b"/never":
            done(answer)

        def cancel() -> None:
            self.cancelled += 1

        return cancel


def serve(http: Http, client: Callable[[int, Shouting, Serving], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        plane = Plane(loop, lambda _: None)
        listener = Listener(listen=":0", upstreams=(Upstream(address="a:1"),), http=http)
        shouting = Shouting(loop)
        made: list[Serving] = []

        def mode(plane: Plane, route: Route) -> Serving:
            made.append(Serving(plane, route, lambda *_: shouting))
            return made[0]

        gate = Gate(plane, Route(listener), mode)
        sockets = open_sockets(listener, 1)
        gate.update(Route(listener), sockets)
        await client(sockets[0].getsockname()[1], shouting, made[0])
        gate.close("drained")
        for sock in sockets:
            sock.close()

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())


def test_an_answerer_gets_whole_requests_and_may_answer_later() -> None:
    async def client(port: int, shouting: Shouting, serving: Serving) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for path in ("/now", "/later", "/now"):
            head = f"PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n"
            writer.write(head.encode() + b"sho")
            await asyncio.sleep(0)
            writer.write(b"ut!" + b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n")
            said = await reader.readuntil(b"SHOUT!")
            assert f"X-Path: {path}".encode() in said
            assert b"Content-Length: 0" in await reader.readuntil(b"\r\n\r\n")
        writer.close()
        assert serving.counts.in_flight == 0

    serve(Http(), client)


def test_nobody_waits_for_an_answer_that_never_comes() -> None:
    async def client(port: int, shouting: Shouting, serving: Serving) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b" 504 " in await reader.readuntil(b"\r\n")
        assert shouting.cancelled == 1
        writer.write(b"PUT /now HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n")
        await reader.readuntil(b"upstream did not answer in time\n")
        assert b" 413 " in await reader.readuntil(b"\r\n")
        await reader.read()
        writer.close()

    serve(Http(timeout=0.2, max_body=10), client)  # type: ignore[arg-type]
