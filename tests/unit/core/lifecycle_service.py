"""A small real service, whose behaviour its tests choose by setting; lifecycle.py starts it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from sidecars.core.door import Request, Response, text
from sidecars.core.errors import Impossible, Transient, WrongSettings
from sidecars.core.log import log
from sidecars.core.service import Lifecycle
from sidecars.core.settings import Address, Common, Help, Seconds


class Settings(Common, frozen=True, kw_only=True):
    """Live as the tests say."""

    admin: Annotated[Address | None, Help("Where probes are served.", none="off")] = Address("127.0.0.1:0")
    ready_when: Annotated[Literal["started", "delivering"], Help("When ready.")] = "started"
    work: Annotated[str, Help("What to do.")] = "wait"
    left: Annotated[str | None, Help("What is undelivered at the end.")] = None
    start_after: Annotated[Seconds, Help("How long the start takes.")] = Seconds(0)
    files: Annotated[int, Help("How many files to tell of.")] = 1
    once: Annotated[bool, Help("Be a one-shot command.")] = False


class Life:
    """Do the one thing that --work names.

    run    do it
    drain  end, if the work ends by itself
    stop   let go, unless the work is to ignore it
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        if settings.work == "unbuilt":
            raise WrongSettings("--work is 'unbuilt', expected something to do; give another")

    async def run(self, life: Lifecycle) -> None:
        life.posts["/block"] = self.block
        log.info("running", state_dir=life.state_dir)
        await asyncio.sleep(self.settings.start_after)
        life.health.started()
        work: Callable[[Lifecycle], Awaitable[None]] = getattr(self, self.settings.work)
        await work(life)

    def undelivered(self) -> str | None:
        return self.settings.left

    def status(self) -> dict[str, object]:
        return {
            "numbers": {"read_bytes_total": 4096, "open_files": 1},
            "tables": {"files": [{"path": "/logs/<script>alert(1)</script>", "lag_bytes": 12}] * self.settings.files},
        }

    def block(self, request: Request) -> Response:
        log.info("blocking")
        time.sleep(float(request.body or b"1"))
        return text(200, "blocked")

    async def wait(self, life: Lifecycle) -> None:
        await life.drain.wait()

    async def end(self, life: Lifecycle) -> None:
        pass

    async def linger(self, life: Lifecycle) -> None:
        await asyncio.Event().wait()

    async def cling(self, life: Lifecycle) -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    async def block_in_write(self, life: Lifecycle) -> None:
        await asyncio.to_thread(lambda: [os.write(1, bytes(65536)) for _ in range(100)])

    async def fail(self, life: Lifecycle) -> None:
        life.health.failing("s3", "no route to https://user:hunter2@minio:9000/logs")
        log.error("upload failed", error="no route to https://user:hunter2@minio:9000/logs")
        await life.drain.wait()

    async def impossible(self, life: Lifecycle) -> None:
        async with asyncio.TaskGroup():
            raise Impossible("--repo is 'https://user:hunter2@git/', which has no branch 'x'; choose another --ref")

    async def transient(self, life: Lifecycle) -> None:
        raise Transient("cannot reach db:5432: no route; is it up?")

    async def bug(self, life: Lifecycle) -> None:
        raise ZeroDivisionError("é" + "x" * 3000)

    async def remaining(self, life: Lifecycle) -> None:
        log.info("before", remaining=life.remaining())
        await life.drain.wait()
        log.info("after", remaining=life.remaining())

    async def raise_children(self, life: Lifecycle) -> None:
        """Start children that leave orphans, and see that their own exit codes come through."""
        codes = []
        for number in range(20):
            orphans = f"({sys.executable} -c 'import time; time.sleep(.05)' &) ; exit {number}"
            codes.append(await asyncio.to_thread(subprocess.call, ["sh", "-c", orphans]))
        log.info("children ended", codes=codes, pid=os.getpid(), parent=os.getppid())
        await life.drain.wait()

    async def die(self, life: Lifecycle) -> None:
        os.kill(os.getpid(), 9)

    async def shout(self, life: Lifecycle) -> None:
        for _ in range(5000):
            log.info("x" * 1000)
        await life.drain.wait()

    async def crash_a_thread(self, life: Lifecycle) -> None:
        threading.Thread(target=lambda: 1 / 0, name="doomed").start()
        await life.drain.wait()

    async def told(self, life: Lifecycle) -> None:
        life.health.failing("left", self.settings.left or "")
        log.error("told", left=self.settings.left)
        await life.drain.wait()
