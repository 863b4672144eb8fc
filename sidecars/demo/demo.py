"""The demo: every program of the suite as a child process, over a folder that is gone afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import shutil
import signal
import socket
import stat
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import Collection, Sequence

from sidecars.core.errors import SidecarError
from sidecars.core.service import Lifecycle
from sidecars.demo import objects
from sidecars.demo.programs import PORTS, Program, chosen, installed
from sidecars.demo.settings import Settings

_LOOK = 0.05  # seconds between two looks


_GREETING = """\
An application writes logs and rotates them. log-adapter makes a page of them, log-tailer one stream, and s3-shipper
objects in a bucket.

  open this first   http://127.0.0.1:{page}/{page_remark}
                    every log as it is written: filter, follow, look into a record
  the same as JSON  curl 'http://127.0.0.1:{page}/logs?tail=3'
  rates and errors  http://127.0.0.1:{adapter}/metrics{adapter_remark}
  the lines below   each with the name of its file in front, otherwise unchanged
  the admin page    http://127.0.0.1:{tailer}/{tailer_remark}
  the metrics       http://127.0.0.1:{tailer}/metrics
  the shipper       http://127.0.0.1:{shipper}/{shipper_remark}
  the objects       {sidecars} demo objects --endpoint http://127.0.0.1:{s3}
                    one every five seconds; with a key at its end it prints that object: pipe it through zcat
{git_lines}
{redis_lines}
  an API that fails http://127.0.0.1:{api}/counts, one request in five{api_remark}
                    the application that calls it has no error to tell: http://127.0.0.1:{caller}/{caller_remark}
                    for ambassador tries again: curl -s http://127.0.0.1:{ambassador}/metrics | grep http_retries_total
  wait for it all   {pod_init} wait http://127.0.0.1:{page}/ tcp://127.0.0.1:{redis}
                    as an init container does: it ends when both answer, and says why when they do not
  the logs          {logs}
  what happens      every few seconds a log is rotated: renamed, or copied and emptied. backup.log comes later
  try this          echo hello >> {logs}/mine.log

Press Ctrl-C to end.

"""

_GIT_LINES = """\
  a site from git   {site}/current/site/index.html
                    a commit every three seconds, published by git-syncer; its page, with the revisions, is at
                    http://127.0.0.1:{syncer}/{syncer_remark}"""
_NO_GIT = "  a site from git   left out: git-syncer needs git with its http-backend, and this machine has none"
_REDIS_LINES = """\
  Redis, sharded    redis-cli -p {redis} set tea green{redis_remark}
                    by ambassador, over two servers: http://127.0.0.1:{ambassador}/{ambassador_remark}"""
_NO_REDIS = """\
  a local port      http://127.0.0.1:{redis}/ is the first page too, by way of ambassador. Where redis-server is
                    installed, it shards over two of them: http://127.0.0.1:{ambassador}/{ambassador_remark}"""


class Demo:
    """Run the suite's programs side by side until a person has seen enough.

    run    start every program; end when one of them ends, or the time is over
    drain  SIGTERM to one program after the other, waiting for each
    stop   cancelled: what still runs is killed
    """

    def __init__(self, settings: Settings) -> None:
        self._rate = settings.rate
        self._seconds = settings.seconds
        self._children: dict[str, Process] = {}
        self._ended_early: str | None = None

    async def run(self, life: Lifecycle) -> None:
        """Show the suite, then leave nothing behind: no process and no folder."""
        # Closing the terminal must not leave the children, which are in sessions of their own, behind.
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, life.ask_drain, "the terminal was closed")
        _tell_when_nobody_reads(life)
        with tempfile.TemporaryDirectory(prefix="sidecars-demo-", ignore_cleanup_errors=True) as folder:
            try:
                await self._show(folder, life)
            finally:
                await asyncio.gather(*(_kill(child) for child in self._children.values()))
                # What a program has started may write for a moment longer.
                while not _removed(folder):  # noqa: ASYNC110  (no event tells of it)
                    await asyncio.sleep(0.05)
        _say("\nThe demo has ended: its programs and its folder are gone.\n")
        if self._ended_early and not _reader_gone():
            raise SidecarError(f"{self._ended_early}; what it said is above")

    def undelivered(self) -> str | None:
        """The demo itself delivers nothing."""
        return None

    def status(self) -> dict[str, object]:
        """The programs and their process ids."""
        return {name: child.pid for name, child in self._children.items()}

    async def _show(self, folder: str, life: Lifecycle) -> None:
        folders = {name: f"{folder}/{name}" for name in ("logs", "state", "site")}
        for path in folders.values():
            os.mkdir(path)
        ports: dict[str, int] = {}
        for name, port in PORTS.items():
            ports[name] = free_port(port, ports.values())
        there = await asyncio.to_thread(installed)
        greet(ports, folders, there)
        programs = chosen(there)
        async with asyncio.TaskGroup() as group:
            for program in programs:
                for name in program.waits_for:
                    await _until_listening(ports[name], life.drain)
                if life.drain.is_set():
                    break
                child = await _start(program, rate=self._rate, **folders, **ports)
                self._children[program.name] = child
                group.create_task(self._watch(program.name, life))
            life.health.started()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(life.drain.wait(), self._seconds)
            life.ask_drain("the time is over")
            for child in self._in_order(programs):
                if _reader_gone():
                    # There is nothing to finish, and the tailer would only say that it cannot.
                    await asyncio.gather(*map(_kill, self._children.values()))
                    break
                await _end(child)

    def _in_order(self, programs: Sequence[Program]) -> list[Process]:
        """The programs in the order in which they end."""
        names = [program.name for program in sorted(programs, key=lambda each: each.serves - each.calls)]
        return [self._children[name] for name in names if name in self._children]

    async def _watch(self, name: str, life: Lifecycle) -> None:
        code = await self._children[name].wait()
        if not life.drain.is_set():
            self._ended_early = f"{name} ended with exit code {code}"
            life.ask_drain(self._ended_early)


def _removed(folder: str) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not os.path.exists(folder)


def free_port(wanted: int, given: Collection[int] = ()) -> int:
    """The wanted port of 127.0.0.1, or another one if it is taken, or given to another program already."""
    for port in (wanted, *[0] * 100):
        with socket.socket() as door, contextlib.suppress(OSError):
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind(("127.0.0.1", port))
            found = int(door.getsockname()[1])
            if found not in given:
                return found
    raise SidecarError("no port of 127.0.0.1 is free: end a program that listens, and try again")


def greet(ports: dict[str, int], folders: dict[str, str], there: Collection[str]) -> None:
    """Say on stderr what to look at. stdout is for the data."""
    remarks = {
        f"{name}_remark": "" if port == PORTS[name] else f"  (port {PORTS[name]} is taken)"
        for name, port in ports.items()
    }
    commands = {"sidecars": _command("sidecars", "sidecars.demo"), "pod_init": _command("pod-init", "sidecars.init")}
    known = {**ports, **remarks, **folders}
    lines = {
        "git_lines": _GIT_LINES if "git" in there else _NO_GIT,
        "redis_lines": _REDIS_LINES if "redis" in there else _NO_REDIS,
    }
    _say(_GREETING.format(**known, **{name: each.format(**known) for name, each in lines.items()}, **commands))


def _command(name: str, module: str) -> str:
    """Say how a person calls a program of ours."""
    path = os.path.join(os.path.dirname(sys.executable), name)
    return os.path.relpath(path) if os.path.exists(path) else f"{sys.executable} -m {module}"


async def _start(program: Program, **values: object) -> Process:
    words = [word.format_map(values) for word in program.words]
    output = asyncio.subprocess.DEVNULL if program.serves else None
    # A session of its own: Ctrl-C reaches only the demo, which then ends the programs in their order.
    return await asyncio.create_subprocess_exec(
        *(words if program.command else (sys.executable, "-m", *words)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={**os.environ, **objects.CREDENTIALS},
        start_new_session=True,
    )


async def _until_listening(port: int, drain: asyncio.Event) -> None:
    """Wait until a program listens, or all is to end, as when that program has ended."""
    while not drain.is_set():
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(drain.wait(), _LOOK)


async def _end(child: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    await child.wait()


async def _kill(child: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.kill()
    await child.wait()


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # a closed pipe, or a terminal that is gone
        sys.stderr.write(text)
        sys.stderr.flush()


def _tell_when_nobody_reads(life: Lifecycle) -> None:
    """Ask for the drain as soon as the reader of a piped stdout has gone, as after `| head`."""
    if not stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode):
        return
    loop = asyncio.get_running_loop()

    def tell() -> None:
        loop.remove_reader(sys.stdout)
        life.ask_drain("nobody reads any more")

    # The writing end of a pipe never becomes readable: what the loop reports for it is the error.
    loop.add_reader(sys.stdout, tell)


def _reader_gone() -> bool:
    """Whether stdout is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))
