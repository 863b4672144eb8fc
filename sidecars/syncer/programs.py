"""The operator's own programs, hooks and gates: run to their end or their timeout, off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import threading
from collections.abc import Mapping, Sequence
from subprocess import DEVNULL, PIPE, Popen
from typing import IO, NamedTuple, cast

from sidecars.core.errors import SidecarError, redacted

_KEPT = 64 * 1024  # bytes of each output, the last ones
_LINGER = 0.2  # seconds for what a program has said to arrive, when what it left behind holds its output open
_POLL = 0.05  # seconds between two looks where the kernel cannot tell of a process's end
_LET_GO = 1.0  # seconds for a killed process to be gone

# Of ours, what is a secret or may hold one; and what core/git.py tells GitPython, which a hook in Python may use too.
_PRIVATE = re.compile(
    r"(GITSYNC|GIT_SYNC)_.*(PASSWORD|CREDENTIAL|PRIVATE_KEY|SECRET|TOKEN|COOKIE|ASKPASS_URL|WEBHOOK_URL|GIT_CONFIG)"
    r"|GIT_ASKPASS_URL$|GIT_PYTHON_"
)
_OURS = re.compile(r"GITSYNC_|GIT_SYNC_")
# What git-sync's contract lets hooks inherit of git's environment. None of it is a secret itself.
_OF_GIT = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO")


class ProgramFailed(SidecarError):  # noqa: N818
    """A program did not start, or did not end well, or not in time; the text is as git-sync's of a command.

    Run(/hooks/reload): exit status 1: { stdout: "", stderr: "no such service" }
    """


class Output(NamedTuple):
    """What a program has said; of much, the end."""

    stdout: str
    stderr: str


def environment(environ: Mapping[str, str], git: Mapping[str, str], **own: str) -> dict[str, str]:
    """Give the environment of a hook: ours without any secret, git's configuration, and what is the hook's own."""
    kept = {
        name: redacted(value) if _OURS.match(name) else value
        for name, value in environ.items()
        if not _PRIVATE.match(name)
    }
    return {**kept, **{name: git[name] for name in _OF_GIT if name in git}, **own}


async def run(words: Sequence[str], *, cwd: str, environment: Mapping[str, str], within: float) -> Output:
    """Run a program in a directory for so many seconds at most, without a shell, with nothing on its standard input.

    A relative path with a slash is relative to the directory; a name without one is looked up in PATH. When the time
    is up, or when this is cancelled, its whole process group is killed. What it leaves behind when it ends stays, and
    does not hold this up.

    Raises ProgramFailed when the exit code is not 0.
    """
    said = " ".join(_quoted(redacted(word)) for word in words)
    process = _started(said, words, cwd, environment)
    outputs = [_Heard(cast("IO[bytes]", pipe)) for pipe in (process.stdout, process.stderr)]
    cut = False
    try:
        async with asyncio.timeout(within):
            await _end(process)
    except TimeoutError:
        cut = True
    finally:
        await _let_go(process)
        if not cut and process.returncode is not None:
            await asyncio.wait([output.ended for output in outputs], timeout=_LINGER)
        stdout, stderr = (output.close() for output in outputs)
    if cut or process.returncode:
        reason = "context deadline exceeded" if cut else _ended(process.returncode or 0)
        raise ProgramFailed(f"Run({said}): {reason}: {{ stdout: {_go(stdout)}, stderr: {_go(stderr)} }}")
    return Output(stdout, stderr)


def _started(said: str, words: Sequence[str], cwd: str, environment: Mapping[str, str]) -> Popen[bytes]:
    try:
        return Popen(
            list(words), cwd=cwd, env=environment, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, bufsize=0,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ProgramFailed(
            f'Run({said}): fork/exec {error.filename or words[0]}: {reason}: {{ stdout: "", stderr: "" }}'
        ) from error


class _Heard:
    """One output of a program, read as it comes, so that the program never waits for us."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self._pipe = pipe
        self._kept = bytearray()
        os.set_blocking(pipe.fileno(), False)
        asyncio.get_running_loop().add_reader(pipe.fileno(), self._read)

    def _read(self) -> bool:
        """Take what there is, up to some; False when there is no more for now."""
        try:
            piece = os.read(self._pipe.fileno(), _KEPT)
        except BlockingIOError:
            return False
        self._kept += piece
        del self._kept[:-_KEPT]
        if not piece and not self.ended.done():
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            self.ended.set_result(None)
        return bool(piece)

    def close(self) -> str:
        """Hear no more, and give what was heard."""
        if not self.ended.done():
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            for _ in range(2):  # As much as a pipe holds; one that is still written to would never be empty.
                self._read()
        self._pipe.close()
        return self._kept.decode(errors="replace")


async def _end(process: Popen[bytes]) -> None:
    """Wait until the process has ended, and reap it and no other."""
    loop = asyncio.get_running_loop()
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:  # gVisor, or a seccomp profile from before Linux 5.3
        while process.poll() is None:  # noqa: ASYNC110  (nothing tells of it)
            await asyncio.sleep(_POLL)
        return
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    process.poll()


async def _let_go(process: Popen[bytes]) -> None:
    """Kill the process's group unless the process has ended; until it is reaped its number is nobody else's."""
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LET_GO):
            await _end(process)
    if process.returncode is None:  # It hangs in the kernel, say on a dead NFS server.
        threading.Thread(target=process.wait, name="reaper", daemon=True).start()


def _ended(code: int) -> str:
    return f"exit status {code}" if code > 0 else f"signal: {signal.strsignal(-code) or -code}".lower()


def _quoted(word: str) -> str:
    return word if word and not re.search(r"[\s\"']", word) else _go(word)


def _go(text: str) -> str:
    """A text as Go's %q quotes it, nearly."""
    return json.dumps(text, ensure_ascii=False)
