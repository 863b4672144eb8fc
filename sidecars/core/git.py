"""The door to git: GitPython's command layer, with a deadline that holds and errors without secrets."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import selectors
import signal
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from subprocess import Popen, TimeoutExpired
from typing import IO, Any, cast
from urllib.parse import quote

from sidecars.core.errors import SidecarError, TimedOut, redacted

BLACK = "REDACTED"
# What no git, no helper of git's and no ssh has to know.
_PRIVATE = re.compile(r"GITSYNC_|GIT_SYNC_|GIT_ASKPASS_URL$|.*PASSWORD", re.IGNORECASE)
# `git rev-parse --local-env-vars`, but for GIT_CONFIG_COUNT, which an operator may have set: were one of them inherited
# from the git that runs us as a hook, every command would work in another repository.
_ELSEWHERE = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_CONFIG", "GIT_OBJECT_DIRECTORY", "GIT_DIR", "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE", "GIT_GRAFT_FILE", "GIT_INDEX_FILE", "GIT_NO_REPLACE_OBJECTS", "GIT_REPLACE_REF_BASE",
    "GIT_PREFIX", "GIT_SHALLOW_FILE", "GIT_COMMON_DIR", "GIT_INTERNAL_SUPER_PREFIX", "GIT_NAMESPACE",
)  # fmt: skip
_ALWAYS = {"protocol.ext.allow": "never"}  # ext::COMMAND is a URL that runs a command.
_STDOUT, _STDERR = 64 << 20, 64 << 10  # bytes kept; what a server says comes on stderr, and may have no end
_POLL = 0.05  # seconds between two looks where the kernel cannot tell of a process's end


@dataclass(frozen=True)
class Output:
    """What a command has said, and its exit code: -9 when signal 9 ended it."""

    stdout: bytes
    stderr: bytes
    code: int

    @property
    def text(self) -> str:
        """The standard output as text, without the spaces and newlines around it."""
        return self.stdout.decode(errors="replace").strip()


@dataclass(frozen=True)
class Event:
    """A command begins (the code is None) or has ended; all of it is free of secrets."""

    command: str
    cwd: str
    code: int | None = None
    stdout: str = ""
    stderr: str = ""
    seconds: float = 0.0


class GitFailed(SidecarError):  # noqa: N818
    """A git command has failed; stderr is what git said, free of secrets.

    Run(git fetch https://***@git.example/app main): exit status 128: { stdout: "", stderr: "fatal: ..." }
    """

    def __init__(self, text: str, stderr: str = "") -> None:
        super().__init__(text)
        self.stderr = stderr


class Git:
    """One git program with one environment.

    environment  variables for every command, beside those of this process; may be changed at any time
    secrets      tells what to black out in errors and events
    watch        is told when a command begins and when it has ended
    umask        of the commands; -1: this process's

    interruptions counts the calls of interrupt() and kill_all(): who works long without git watches it.
    """

    def __init__(self, program: str = "git", environment: Mapping[str, str] | None = None) -> None:
        self.program = program
        self.environment = dict(environment or {})
        self.secrets: Callable[[], Collection[str]] = tuple
        self.watch: Callable[[Event], None] = lambda event: None
        self.umask = -1
        self._running: set[Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False
        self.interruptions = 0

    def run(
        self,
        *words: str,
        cwd: str,
        deadline: float | None = None,
        input: bytes | None = None,
        ok: Collection[int] = (0,),
        config: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Output:
        """Run a git command in a directory until time.monotonic() is at the deadline; blocking.

        The config is for this command alone. It travels in variables: a wrapper given as --git looks at its first word.
        At the deadline, or at kill_all(), the whole process group is killed. A process that git leaves behind with the
        pipes, such as the credential cache, does not hold this up.

        Raises GitFailed when the exit code is not in ok, and TimedOut.
        """
        said = self._cleared(" ".join(_quoted(word) for word in (self.program, *words)))
        variables = _variables({**self.environment, **(environment or {})}, {**_ALWAYS, **(config or {})})
        self.watch(Event(said, cwd))
        began = time.monotonic()
        process = self._started(said, words, cwd, variables, input)
        conversation = _Conversation(process)
        try:
            conversation.run(deadline)
        finally:
            self._end(process)
        output = Output(bytes(conversation.stdout), bytes(conversation.stderr), process.returncode or 0)
        if conversation.cut:
            output = Output(output.stdout, output.stderr, -signal.SIGKILL)
        out, err = (self._cleared(text.decode(errors="replace")) for text in (output.stdout[:_STDERR], output.stderr))
        self.watch(Event(said, cwd, output.code, out, err, time.monotonic() - began))
        if conversation.cut or output.code not in ok:
            text = (
                f"Run({said}): {conversation.cut or _ended(output.code)}: {{ stdout: {_go(out)}, stderr: {_go(err)} }}"
            )
            raise TimedOut(text) if conversation.cut == _LATE else GitFailed(text, err)
        return output

    def interrupt(self) -> None:
        """Kill every command that runs, with all it has started; others may be started."""
        with self._lock:
            self.interruptions += 1
            for process in self._running:
                _kill(process)

    def kill_all(self) -> None:
        """Kill every command that runs, with all it has started, and start none from now on: the program ends."""
        with self._lock:
            self._stopped = True
            self.interruptions += 1
            for process in self._running:
                _kill(process)

    def _started(
        self, said: str, words: tuple[str, ...], cwd: str, variables: dict[str, str], input: bytes | None
    ) -> Popen[bytes]:
        if not os.path.isdir(cwd):  # GitPython would take the current directory in its place.
            raise GitFailed(f"Run({said}): chdir {cwd}: no such file or directory")
        command = _layer().Git()
        command._working_dir = cwd
        with self._lock, _typed(input) as stdin:
            if self._stopped:
                raise GitFailed(f"Run({said}): not started: the program ends")
            try:
                handle: Any = command.execute(
                    [self.program, *words], istream=stdin, as_process=True, env=variables,
                    start_new_session=True, umask=self.umask,
                )  # fmt: skip
            except (OSError, _layer().GitCommandNotFound) as error:
                raise GitFailed(f'Run({said}): exec: "{self.program}": {_reason(error)}') from None
            # GitPython's handle would send a SIGTERM to the process when the collector finds it.
            process, handle.proc = cast("Popen[bytes]", handle.proc), None
            self._running.add(process)
        return process

    def _end(self, process: Popen[bytes]) -> None:
        """Reap the process, killed with its group unless it has ended."""
        with self._lock:
            if process.poll() is None:
                _kill(process)
                with contextlib.suppress(TimeoutExpired):  # It hangs in the kernel, say on a dead NFS server.
                    process.wait(1)
            self._running.discard(process)
        for pipe in (process.stdout, process.stderr):
            cast("IO[bytes]", pipe).close()

    def _cleared(self, text: str) -> str:
        """The text without the userinfo of URLs and without any known secret, as it is or quoted as in a URL."""
        for secret in sorted(self.secrets(), key=len, reverse=True):
            if secret:
                text = text.replace(secret, BLACK).replace(quote(secret, safe=""), BLACK)
        return redacted(text)


_LATE, _LONG = "context deadline exceeded", f"more than {_STDOUT >> 20} MiB of output"


class _Conversation:
    """Reads what a process says until it ends; cut tells why it was not heard to the end."""

    def __init__(self, process: Popen[bytes]) -> None:
        self.stdout, self.stderr = bytearray(), bytearray()
        self.cut = ""
        self._process = process

    def run(self, deadline: float | None) -> None:
        with contextlib.ExitStack() as holding, selectors.DefaultSelector() as selector:
            for pipe, kept in ((self._process.stdout, self.stdout), (self._process.stderr, self.stderr)):
                os.set_blocking(cast("IO[bytes]", pipe).fileno(), False)
                selector.register(cast("IO[bytes]", pipe), selectors.EVENT_READ, kept)
            patience = _notice_end(self._process, selector, holding)
            while not self.cut and self._process.poll() is None:
                left = patience if deadline is None else max(0.0, deadline - time.monotonic())
                if left == 0:
                    self.cut = _LATE
                self._hear(selector, left if patience is None or left is None else min(left, patience))
            while not self.cut and self._hear(selector, 0):
                pass

    def _hear(self, selector: selectors.BaseSelector, patience: float | None) -> bool:
        """Take what there is; False when there was nothing."""
        heard = False
        for key, _ in selector.select(patience):
            if key.data is None:  # The process has ended.
                continue
            piece = os.read(key.fd, 1 << 16)
            key.data.extend(piece)
            heard = True
            if not piece:
                selector.unregister(key.fileobj)
        del self.stderr[:-_STDERR]
        if len(self.stdout) > _STDOUT:
            self.cut = _LONG
        return heard


def _notice_end(process: Popen[bytes], selector: selectors.BaseSelector, holding: contextlib.ExitStack) -> float | None:
    """Have the selector wake at the process's end; else the seconds after which to look."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:  # gVisor, or a seccomp profile from before Linux 5.3
        return _POLL
    holding.callback(os.close, descriptor)
    selector.register(descriptor, selectors.EVENT_READ)
    return None


@functools.cache
def _layer() -> Any:
    """GitPython's module. Its import asks git for its version, unless told of a program that is not there."""
    told = {"GIT_PYTHON_REFRESH": "quiet", "GIT_PYTHON_GIT_EXECUTABLE": "/nonexistent"}
    os.environ.update(told)
    import git  # 5 MiB and 50 ms

    for name in (*told, *_ELSEWHERE):
        os.environ.pop(name, None)  # GitPython hands on what is there, and can only add to it.
    return git


def _variables(environment: Mapping[str, str], config: Mapping[str, str]) -> dict[str, str]:
    """The variables of a command. What is private is emptied: GitPython cannot take a variable away."""
    variables = {name: "" for name in os.environ if _PRIVATE.match(name)}
    variables |= {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "true", "LC_ALL": "C", **environment}
    count = variables.get("GIT_CONFIG_COUNT") or os.environ.get("GIT_CONFIG_COUNT") or "0"
    first = int(count) if count.isdecimal() else 0
    for number, (key, value) in enumerate(config.items(), first):
        variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return {**variables, "GIT_CONFIG_COUNT": str(first + len(config))}


@contextlib.contextmanager
def _typed(text: bytes | None) -> Any:
    """A standard input with the text, which touches no disk; None without one."""
    if text is None:
        yield None
        return
    with open(os.memfd_create("input"), "r+b", buffering=0) as file:
        file.write(text)
        file.seek(0)
        yield file


def _kill(process: Popen[bytes]) -> None:
    if process.returncode is not None:  # Its pid may be another's by now.
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _reason(error: Exception) -> str:
    return "executable file not found in $PATH" if not isinstance(error, OSError) else (error.strerror or "").lower()


def _ended(code: int) -> str:
    return f"exit status {code}" if code >= 0 else f"signal: {signal.strsignal(-code) or -code}".lower()


def _quoted(word: str) -> str:
    return word if word and not re.search(r"[\s\"']", word) else _go(word)


def _go(text: str) -> str:
    """A text as Go's %q quotes it, nearly: JSON's escapes, which keep a hostile server from faking a log line."""
    return json.dumps(text, ensure_ascii=False)
