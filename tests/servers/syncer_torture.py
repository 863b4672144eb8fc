"""A repository that is committed to, rewritten and replaced, under a git-syncer that is killed: all published is whole.

python tests/servers/syncer_torture.py --seeds 100 --jobs 2     # a summary as a Markdown table on stdout
python tests/servers/syncer_torture.py --seed 4711              # one of them again
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from tests.servers.git_server import Break, Content, Executable, GitServer, Reply, Repository, Request, Symlink

HERE = os.path.abspath(__file__)
CRASHING = os.path.join(os.path.dirname(HERE), "syncer_crashing.py")
PATIENCE = 90.0
MANY = 40  # files that are changed by each revision
BIG = 150_000  # bytes that no compression makes fewer
BRANCH = "refs/heads/main"
MARKER = ".syncing"
_ENOUGH = 3  # updates, after which a point that was not reached will not be
# "EVENT FUNCTION" of syncer_crashing.py: before the first half in both modes, the second in a mirror.
POINTS = (
    "git Git._started", "write lock", "mkdir make_directories", "write Root.write", "chmod Root.write",
    "rename Root.write", "rename move_in", "exchange exchange", "remove remove", "rmdir remove", "rmtree remove",
    "link link", "write Worktrees._reuse", "mkdir Link.publish", "symlink Link.publish", "rename Link.publish",
    "utime Store.retire", "mkdir touch", "write touch", "utime touch", "rename throw_away", "write write",
    "rename _replace", "remove empty",
)  # fmt: skip
MIRROR_POINTS = (
    "mkdir Mirror._appear", "write make", "write copy", "rename Tree._put", "rename Manifest.save", "write _write_all",
    "rename swap", "chmod Mirror._appear", "remove Tree.remove", "mkdir Tree.make", "rename _replace",
)  # fmt: skip

# The repository


def tree_of(number: int, before: int | None) -> dict[str, Content]:
    """The files of a revision, each of which tells its number; and the one to remove that only the one before had."""
    noise = random.Random(number).randbytes(BIG)
    files: dict[str, Content] = {
        "first": f"{number}\n",
        "big": b"%d\n%s\n%d" % (number, noise.replace(b"\n", b" "), number),
        "run": Executable(f"{number}\n"),
        "to": Symlink(f"{number}"),
        f"only/{number}": f"{number}\n",
        "z/last": f"{number}\n",
    }
    files |= {f"many/{each % 7}/{each}": f"{number}\nx\n{number}\n" for each in range(MANY)}
    if before is not None and before != number:
        files[f"only/{before}"] = None
    return files


SAME: dict[str, Content] = {f"same/{each % 5}/{each}": f"same {each}\n" for each in range(60)}


class Writer:
    """Commits, forced pushes, branches deleted and made again, the repository replaced by another of the same name."""

    def __init__(self, directory: Path, dice: random.Random) -> None:
        self.directory, self.dice = directory, dice
        self.numbers: dict[str, int] = {}
        self.calm = threading.Lock()
        self.over = threading.Event()
        self.number = 0
        self.done: Counter[str] = Counter()
        self.repository = Repository(directory / "app.git")
        self._commit("")

    def run(self, pause: float) -> None:
        """Work until it is over, but not while somebody holds `calm`."""
        while not self.over.wait(self.dice.random() * pause):
            with self.calm:
                self.step()

    def step(self) -> None:
        """Do one thing to the repository."""
        kind = self.dice.choices(
            ("commit", "burst", "forced", "back", "deleted", "replaced"), (70, 4, 8, 6, 5, 4)
        )[0]  # fmt: skip
        self.done[kind] += 1
        tip = self.repository.tip()
        older = self.dice.choice([hash for hash in self.numbers if self._has(hash)] or [""])
        if kind == "deleted":
            if tip:
                self.repository.git("update-ref", "-d", BRANCH)
        elif kind == "back" and older:
            self.repository.git("update-ref", BRANCH, older)
        elif kind == "replaced":
            self._replace()
        else:
            for _ in range(8 if kind == "burst" else 1):
                self._commit(older if kind == "forced" or not tip else None)

    def tip(self) -> str:
        """What must be published in the end; a branch that is deleted is made again."""
        if not self.repository.tip():
            self._commit("")
        return self.repository.tip()

    def _has(self, hash: str) -> bool:
        done = subprocess.run(["git", "cat-file", "-e", hash], cwd=self.repository.path, capture_output=True)
        return done.returncode == 0

    def _commit(self, parent: str | None) -> None:
        self.number += 1
        before = self.numbers[self.repository.tip() if parent is None else parent] if parent != "" else None
        files = {**(SAME if before is None else {}), **tree_of(self.number, before)}
        self.numbers[self.repository.commit(files, f"number {self.number}", parent=parent)] = self.number

    def _replace(self) -> None:
        new = Repository(self.directory / "new.git")
        self.repository.path.rename(self.directory / "old.git")
        new.path.rename(self.repository.path)
        shutil.rmtree(self.directory / "old.git", ignore_errors=True)
        self._commit("")


class Weather:
    """A server that hangs in the midst of a pack, cuts connections, and answers what nobody asked for, at random."""

    def __init__(self, dice: random.Random, every: float) -> None:
        self.dice, self.every = dice, every
        self.calm = threading.Event()
        self.faults: Counter[str] = Counter()

    def answer(self, request: Request) -> Reply | Break | None:
        """Say what becomes of a request."""
        if self.calm.is_set() or self.dice.random() >= self.every:
            return None
        kind = self.dice.choice(("hang", "hang", "cut", "500", "401", "nonsense", "slow"))
        self.faults[kind] += 1
        pack = request.method == "POST"
        if kind == "slow":
            self.calm.wait(self.dice.random() * 0.3)
            return None
        if kind in ("hang", "cut"):
            after = self.dice.randrange(1, 60_000 if pack else 100)
            return Break(after, lambda: self.calm.wait(3.0) if kind == "hang" else None)
        if kind == "nonsense":
            return Reply(200, b"<html>captive portal</html>", {"Content-Type": "text/html"})
        refused = {"WWW-Authenticate": 'Basic realm="git"'} if kind == "401" else {}
        return Reply(int(kind), b"no\n", refused)


# The reader: a process of its own


class Torn(Exception):  # noqa: N818
    """What is published is not what it may be."""


class Missing(Torn):
    """Nothing is published any more."""


class Reader:
    """Looks at what is published, again and again, and keeps what was wrong.

    sparse   "" all files are there; "always": none below many; "varies": those below many may be there or not
    """

    def __init__(self, path: str, mode: str, sparse: str, lasting: bool) -> None:
        self.path, self.mode, self.sparse, self.lasting = path, mode, sparse, lasting
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.seen: dict[str, set[str]] = {}
        self.was_there = False

    def run(self) -> None:
        """Look until standard input ends; then tell."""
        ended = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
        while not ended.is_set():
            try:
                self._look_at_link() if self.mode == "link" else self._look_at_directory()
            except Torn as error:
                self.wrong.append(f"{time.time():.3f} {error}")
                if len(self.wrong) > 20:
                    break
        print(json.dumps({
            "counts": self.counts, "wrong": self.wrong, "seen": {hash: sorted(said) for hash, said in self.seen.items()}
        }))  # fmt: skip

    def _look_at_link(self) -> None:
        target, folder = self._opened()
        if folder is None:
            return
        with contextlib.ExitStack() as closing:
            closing.callback(os.close, folder)
            hash = os.path.basename(target)
            try:
                numbers = self._numbers(folder, checkout=True)
            except Missing:
                raise
            except (OSError, Torn) as error:
                if self._moved(folder, target):
                    return
                raise Torn(f"{target}: {type(error).__name__}: {error}") from error
            self.counts["whole"] += 1
            self.seen.setdefault(hash, set()).update(numbers)
            if len(numbers) != 1 and not self._moved(folder, target):
                raise Torn(f"{target}: a mixture of {sorted(numbers)}")

    def _opened(self) -> tuple[str, int | None]:
        """Where the link leads, and the directory there: the link is resolved once."""
        before = ""
        for _ in range(5):
            try:
                target = os.readlink(self.path)
            except FileNotFoundError:
                if self.was_there:
                    raise Torn("the link is missing") from None
                time.sleep(0.001)
                return "", None
            self.was_there = True
            try:
                return target, os.open(os.path.join(os.path.dirname(self.path), target), os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                if target != before:  # Removed, as what is replaced is: the link must lead elsewhere by now.
                    self.counts["gone"] += 1
                before = target
        raise Torn(f"the link leads to nothing: {before}")

    def _glance(self) -> None:
        try:
            os.readlink(self.path)
        except FileNotFoundError:
            raise Missing("the link is missing") from None

    def _moved(self, folder: int, target: str) -> bool:
        """Whether the directory is no longer what the link led to, and may be removed under us."""
        now = os.readlink(f"/proc/self/fd/{folder}")
        if now.endswith(os.path.join("/.worktrees", os.path.basename(target))):
            return False
        removed = "/old-" in now or now.endswith(" (deleted)")
        self.counts["removed" if removed else "exchanged"] += 1
        return True

    def _look_at_directory(self) -> None:
        folder = self._opened_directory()
        if folder is None:
            return
        with contextlib.ExitStack() as closing:
            closing.callback(os.close, folder)
            # Each revision changes this file, so a sync that falls between two looks at it is noticed.
            before = self._stamp(folder)
            try:
                marked = self._marked(folder)
                numbers = self._numbers(folder, checkout=False)
                marked = self._marked(folder) or marked
                settled = not marked and before == self._stamp(folder)
            except FileNotFoundError as error:
                if self._replaced(folder):
                    return
                if self._marked(folder) or before != self._stamp(folder):
                    self.counts["marked"] += 1
                    return
                raise Torn(f"not marked, and {error}") from error
            if not settled:
                self.counts["marked"] += 1
                return
            self.counts["whole"] += 1
            self.seen.setdefault("", set()).update(numbers)
            if len(numbers) != 1 and not self._replaced(folder):
                raise Torn(f"not marked, and a mixture of {sorted(numbers)}")

    def _opened_directory(self) -> int | None:
        for _ in range(5):
            try:
                folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
                self.was_there = True
                return folder
            except FileNotFoundError:
                if not self.was_there:
                    time.sleep(0.001)
                    return None
                # Where it may be a link, its target may be replaced and removed before it is opened.
                if self.mode == "mirror" or not os.path.lexists(self.path):
                    break
        raise Torn("it is missing")

    def _replaced(self, folder: int) -> bool:
        """Whether another directory is there by now: the link has been swapped, or was exchanged for a mirror."""
        if os.readlink(f"/proc/self/fd/{folder}") == os.path.realpath(self.path):
            return False
        self.counts["replaced"] += 1
        return True

    @staticmethod
    def _stamp(folder: int) -> tuple[int, ...]:
        try:
            found = os.stat("first", dir_fd=folder)
        except FileNotFoundError:
            return ()
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns

    @staticmethod
    def _marked(folder: int) -> bool:
        try:
            os.stat(MARKER, dir_fd=folder)
        except FileNotFoundError:
            return False
        return True

    def _numbers(self, folder: int, *, checkout: bool) -> set[str]:
        """Every number that a file tells; raises Torn for a file that is none of any revision, OSError."""
        numbers = {self._number(folder, name) for name in ("first", "z/last", "big")}
        if not os.stat("run", dir_fd=folder).st_mode & stat.S_IXUSR:
            raise Torn("run is not executable")
        numbers |= {self._number(folder, "run"), os.readlink("to", dir_fd=folder)}
        numbers |= self._many(folder)
        for name, text in SAME.items():
            if self._read(folder, name) != str(text).encode():
                raise Torn(f"{name} has changed")
        only = os.open("only", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
        try:
            numbers |= set(os.listdir(only))
        finally:
            os.close(only)
        if checkout and not self._read(folder, ".git").startswith(b"gitdir: "):
            raise Torn(".git is not what it is")
        return numbers

    def _many(self, folder: int) -> set[str]:
        if self.sparse == "always":
            if "many" in os.listdir(folder):
                raise Torn("many is there")
            return set()
        numbers = set()
        for each in range(MANY):
            try:
                numbers.add(self._number(folder, f"many/{each % 7}/{each}"))
            except (FileNotFoundError, Torn) as error:  # Sparse settings that change are applied in place.
                if self.sparse != "varies" or isinstance(error, Missing):
                    raise
        return numbers

    def _number(self, folder: int, name: str) -> str:
        text = self._read(folder, name)
        first, _, rest = text.partition(b"\n")
        if not first.isdigit() or (rest and rest.rstrip(b"\n").rpartition(b"\n")[2] != first):
            raise Torn(f"{name} is half a file: {len(text)} bytes, {text[:12]!r}...{text[-12:]!r}")
        if name == "big" and len(text) < BIG:
            raise Torn(f"big has {len(text)} bytes")
        return first.decode()

    def _read(self, folder: int, name: str) -> bytes:
        if self.mode == "link":  # A moment without a link is short: it is looked for between any two files.
            self._glance()
        with open(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as file:
            return file.read()


# The trial


@dataclass
class Trial:
    """One seed: its writer, its server, the git-syncers that were killed, and what the reader saw."""

    seed: int
    mode: str = "link"
    sparse: str = ""
    lasting: bool = False
    faulty: float = 0.0
    commits: int = 0
    killed: int = 0
    at_points: list[str] = field(default_factory=list)
    restarts: int = 0
    looks: int = 0
    revisions: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    litter: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether all was well at every look, and nothing is left."""
        return not (self.wrong or self.litter)


class Torment:
    """The git-syncer of a trial: started with settings by chance, killed, started again."""

    def __init__(self, trial: Trial, directory: Path, url: str, numbers: dict[str, int], dice: random.Random) -> None:
        self.trial, self.directory, self.url, self.numbers, self.dice = trial, directory, url, numbers, dice
        self.started_at = 0
        self.root = directory / "root"
        self.link = self.root / "pub" / "app"
        self.log = directory / "log"
        self.killed_file = directory / "killed"
        self.process: subprocess.Popen[bytes] | None = None
        self.from_here = 0
        self.armed = self.sparse = False
        (directory / "home").mkdir()
        (directory / "sparse").write_text("/*\n!/many/\n")

    def start(self, *, crash: bool = False, last: bool = False) -> None:
        """Start one; with a crash, it kills itself or is killed by a git that it starts."""
        self.killed_file.write_text("")
        self.started_at = time.time_ns()
        self.from_here = self.log.stat().st_size if self.log.exists() else 0
        self.armed = crash
        command = [sys.executable, "-m", "sidecars.syncer"]
        extra: list[str] = []
        if crash and self.dice.random() < 0.5:
            extra = ["--git", self._deadly_git()]
        elif crash:
            points = POINTS if self.trial.mode == "link" else POINTS + MIRROR_POINTS * 2
            count = str(self.dice.choice((1, 1, 1, 2, 3, 8)))
            command = [sys.executable, CRASHING, str(self.killed_file), self.dice.choice(points), count]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*command, *self._flags(calm=not crash, last=last), *extra], stderr=log, stdout=subprocess.DEVNULL,
                start_new_session=True, env={**os.environ, "HOME": str(self.directory / "home")},
            )  # fmt: skip
        self.trial.restarts += 1

    def _flags(self, *, calm: bool, last: bool) -> list[str]:
        pick, mode = self.dice.choice, self.trial.mode
        flags = {
            "repo": self.url, "ref": pick(("main", "refs/heads/main")), "root": self.root, "link": "pub/app",
            "publish": pick(("link", "mirror")) if mode == "either" else mode,
            "admin": "off", "max-failures": -1, "max-backoff": "200ms",
            "period": pick(("20ms", "100ms", "300ms")), "depth": pick((1, 1, 0, 3)), "touch-file": "touched",
            "stale-worktree-timeout": "1h" if self.trial.lasting else pick(("0s", "0s", "1s")),
            "keep-worktrees": pick((0, 0, 2)), "git-gc": pick(("always", "always", "auto", "off")),
            "submodules": pick(("recursive", "off")), "sync-timeout": "60s" if calm else pick(("700ms", "2s", "60s")),
            "group-write": pick(("true", "false", "false", "false")),
        }  # fmt: skip
        self.sparse = self.trial.sparse == "always" or (self.trial.sparse == "varies" and pick((True, False)))
        if self.sparse:
            flags["sparse-checkout-file"] = self.directory / "sparse"
        if pick((True, *[False] * 7)):
            flags["filter"] = "blob:none"
        if last:
            flags |= {"stale-worktree-timeout": "0s", "keep-worktrees": 0, "git-gc": "always", "one-time": "true"}
        return [f"--{name}={text}" for name, text in flags.items()]

    def _deadly_git(self) -> str:
        """A git that kills who started it, at its n-th command: before it works, beside, after it has worked."""
        when = self.dice.choice(("before", "beside", "beside", "after"))
        number = self.dice.choice((*range(1, 14), *range(14, 40, 4)))
        pause = f"{self.dice.random() ** 2 * 0.05:.4f}"
        count = self.directory / "count"
        count.write_text("0")
        act = {
            "before": 'kill -9 $PPID; exit 1',
            "beside": f'git "$@" & sleep {pause}; kill -9 $PPID; wait',
            "after": 'git "$@"; kill -9 $PPID',
        }[when]  # fmt: skip
        path = self.directory / "git"
        path.write_text(
            f'#!/bin/sh\nread n < {count}\nn=$((n+1))\necho $n > {count}\n[ $n = {number} ] || exec git "$@"\n'
            f'echo "{when} git $1" >> {self.killed_file}\n{act}\n'
        )
        path.chmod(0o755)
        return str(path)

    def kill(self, patience: float) -> None:
        """Let it work for so long; then it is killed, if it has not been."""
        assert self.process
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and not any(line.get("msg") == "starting up" for line in self.said()):
            assert time.monotonic() < deadline, "it does not start"
            time.sleep(0.03)
        deadline = time.monotonic() + patience
        while self.process.poll() is None and time.monotonic() < deadline and self._updates() < _ENOUGH:
            time.sleep(0.03)
        if self.process.poll() is None:
            group = [] if self.dice.random() < 0.5 else psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            for each in group:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            self.process.wait()
        elif self.process.returncode == -signal.SIGKILL and self.armed:
            self.trial.at_points += self.killed_file.read_text().split("\n")[:1]
        else:
            self.trial.wrong.append(f"ended by itself with {self.process.returncode}")
        self.trial.killed += 1

    def _updates(self) -> int:
        return sum(line.get("msg") == "updated successfully" for line in self.said()) if self.armed else 0

    def published(self) -> str:
        """The hash that consumers find; empty while there is none."""
        if not self.link.is_symlink():
            return "" if (self.link / MARKER).exists() else self._said_to_be_mirrored()
        with contextlib.suppress(OSError):
            return os.path.basename(os.readlink(self.link))
        return ""

    def _said_to_be_mirrored(self) -> str:
        for line in reversed(self.said()):
            if line.get("msg") == "updated successfully":
                return str(line["remote"])
        with contextlib.suppress(OSError):
            number = int((self.link / "first").read_text())
            return next((hash for hash, each in self.numbers.items() if each == number), "")
        return ""

    def said(self) -> list[dict[str, object]]:
        """What the present process has logged."""
        with open(self.log, "rb") as log:
            log.seek(self.from_here)
            lines = log.read().splitlines()
        return [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}")]

    def reach(self, hash: str) -> None:
        """The first sync of this process must succeed, and publish this."""
        assert self.process
        deadline = time.monotonic() + PATIENCE
        began = self.root / "touched"
        while self.published() != hash or not self._succeeded(began):
            assert not self.process.poll(), f"ended by itself with {self.process.returncode}"
            assert time.monotonic() < deadline, f"{hash} is not published in time"
            time.sleep(0.03)
        errors = [line["error"] for line in self.said() if line.get("msg") == "error syncing repo, will retry"]
        if errors:
            self.trial.wrong.append(f"the first sync after a restart failed: {errors[0]}")

    def _succeeded(self, touched: Path) -> bool:
        with contextlib.suppress(OSError):
            return touched.stat().st_mtime_ns >= self.started_at
        return False

    def end(self) -> None:
        """Leave nothing behind."""
        if self.process and self.process.poll() is None:
            for each in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            self.process.kill()
            self.process.wait()


def run(seed: int, *, rounds: int = 0, keep_files: bool = False) -> Trial:
    """Run one trial, of so many rounds, or of some."""
    dice = random.Random(seed)
    trial = Trial(seed)
    trial.mode = dice.choice(("link", "link", "link", "mirror", "either"))
    trial.sparse = dice.choice(("", "", "", "always", "varies"))
    trial.lasting = dice.random() < 0.3
    trial.faulty = dice.choice((0.0, 0.0, 0.1, 0.3))
    directory = Path(tempfile.mkdtemp(prefix="syncer-torture-"))
    writer = Writer(directory / "origins", random.Random(seed + 0.5))
    weather = Weather(random.Random(seed + 0.25), trial.faulty)
    with contextlib.ExitStack() as ending:
        server = ending.enter_context(GitServer(directory / "origins"))
        ending.callback(weather.calm.set)
        server.answer = weather.answer
        torment = Torment(trial, directory, server.address("app.git"), writer.numbers, dice)
        ending.callback(torment.end)
        try:
            with _writing(writer, dice):
                with _reading(trial, torment, writer):
                    for _ in range(rounds or dice.randrange(2, 5)):
                        _play(torment, writer, weather, dice)
                _finish(torment, writer, weather)
            trial.litter = _litter(torment)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            trial.wrong.append(f"{type(error).__name__}: {error}")
    trial.commits, trial.done, trial.faults = writer.number, dict(writer.done), dict(weather.faults)
    if keep_files or not trial.passed:
        print(f"files of seed {seed} are in {directory}", file=sys.stderr)
    else:
        shutil.rmtree(directory)
    return trial


@contextlib.contextmanager
def _reading(trial: Trial, torment: Torment, writer: Writer) -> Iterator[None]:
    words = [str(torment.link), trial.mode, trial.sparse, str(int(trial.lasting))]
    reader = subprocess.Popen(
        [sys.executable, HERE, "read", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )  # fmt: skip
    try:
        yield
    finally:
        out, _ = reader.communicate(timeout=60)
        told = json.loads(out)
        trial.wrong += told["wrong"]
        trial.counts, trial.looks = told["counts"], told["counts"].get("whole", 0)
        trial.revisions = len(told["seen"].pop("", told["seen"]))
        for hash, numbers in told["seen"].items():
            if numbers != [str(writer.numbers.get(hash))]:
                trial.wrong.append(f"{hash} is {writer.numbers.get(hash)}, and was read as {numbers}")
        if trial.lasting and trial.counts.get("removed"):
            trial.wrong.append(f"{trial.counts['removed']} worktrees were removed before their time")


@contextlib.contextmanager
def _writing(writer: Writer, dice: random.Random) -> Iterator[None]:
    thread = threading.Thread(target=writer.run, args=(dice.choice((0.1, 0.4, 1.0)),))
    thread.start()
    try:
        yield
    finally:
        writer.over.set()
        thread.join()


@contextlib.contextmanager
def _calm(writer: Writer, weather: Weather) -> Iterator[str]:
    """Nothing happens at the remote, which answers what it should: the hash that it is at."""
    with writer.calm:
        weather.calm.set()
        try:
            yield writer.tip()
        finally:
            weather.calm.clear()


def _play(torment: Torment, writer: Writer, weather: Weather, dice: random.Random) -> None:
    """Crash, sometimes twice; the next sync must succeed; then kill at any time."""
    torment.start(crash=True)
    torment.kill(dice.uniform(3.0, 8.0))
    if dice.random() < 0.3:
        torment.start(crash=True)
        torment.kill(dice.uniform(1.0, 5.0))
    with _calm(writer, weather) as hash:
        torment.start()
        torment.reach(hash)
    torment.kill(dice.uniform(0.0, 1.2))


def _finish(torment: Torment, writer: Writer, weather: Weather) -> None:
    """Let it come to the end, with everything removed that is replaced."""
    with _calm(writer, weather) as hash:
        torment.start(last=True)
        assert torment.process
        code = torment.process.wait(PATIENCE)
        assert code == 0, f"ended with {code}"
        torment.reach(hash)


def _litter(torment: Torment) -> list[str]:
    """Everything under the root that should not be there."""
    root, found = torment.root, []
    own = {".lock", "pin", "history", "mirror", "mirror-files"}
    found += [f"{name} in the root" for name in os.listdir(root) if name not in _ROOT]
    found += [name for name in os.listdir(root / "pub") if name != "app"]
    found += [f"own {name}" for name in os.listdir(root / ".git-syncer") if name.split(".json")[0] not in own]
    number = int((torment.link / "first").read_text())
    wanted = {name for name in (*tree_of(number, None), *SAME) if not (torment.sparse and name.startswith("many/"))}
    there = {
        os.path.relpath(os.path.join(base, name), torment.link)
        for base, _, names in os.walk(f"{torment.link}/")
        for name in names
    }
    found += [f"published {name}" for name in there ^ wanted if name != ".git"]
    worktrees = os.listdir(root / ".worktrees")
    known = os.listdir(root / ".git" / "worktrees")
    if len(worktrees) != 1 or known != worktrees:
        found.append(f"worktrees {worktrees}, known to git {known}")
    for folder, _, files in os.walk(root / ".git"):
        found += [
            os.path.join(folder, name)
            for name in files
            if name.endswith(".lock") or name.startswith(("tmp_", ".tmp-")) or name == "gc.pid"
        ]
    return found


_ROOT = {".git", ".worktrees", ".git-syncer", "pub", "touched"}


def summary(trials: list[Trial]) -> str:
    """Give a Markdown table, and the sentences that count."""
    rows = [
        "| published as | remote | seeds | commits | starts | kills | of them at a named point | whole looks "
        "| revisions read | removed under the reader | exchanged under it | wrong | litter | failed seeds |",
        "| --- " * 14 + "|",
    ]
    for mode in ("link", "mirror", "either"):
        for faulty in (False, True):
            those = [trial for trial in trials if trial.mode == mode and bool(trial.faulty) == faulty]
            failed = [str(trial.seed) for trial in those if not trial.passed]
            cells = (
                mode, "fails at random" if faulty else "works", len(those), sum(t.commits for t in those),
                sum(t.restarts for t in those), sum(t.killed for t in those), sum(len(t.at_points) for t in those),
                sum(t.looks for t in those), sum(t.revisions for t in those),
                sum(t.counts.get(name, 0) for t in those for name in ("removed", "gone", "replaced")),
                sum(t.counts.get("exchanged", 0) for t in those), sum(len(t.wrong) for t in those),
                sum(len(t.litter) for t in those), ", ".join(failed) or "none",
            )  # fmt: skip
            rows.append("| " + " | ".join(f"{c:,}" if isinstance(c, int) else c for c in cells) + " |")
    points = Counter(point for trial in trials for point in trial.at_points)
    done = sum((Counter(trial.done) for trial in trials), Counter[str]())
    faults = sum((Counter(trial.faults) for trial in trials), Counter[str]())
    for what, counter in (("Kills at", points), ("The remote was changed by", done), ("It failed by", faults)):
        rows += ["", f"{what}: " + ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) + "."]
    never = sorted({*POINTS, *MIRROR_POINTS} - set(points))
    rows += ["", "Points never reached: " + (", ".join(never) or "none") + "."]
    looks, wrong = sum(trial.looks for trial in trials), sum(len(trial.wrong) for trial in trials)
    rows += ["", f"{looks:,} looks at what is whole, {sum(trial.killed for trial in trials):,} kills, {wrong} wrong"]
    return "\n".join(rows)


def main() -> int:
    """Run trials from the command line."""
    if sys.argv[1:2] == ["read"]:
        path, mode, sparse, lasting = sys.argv[2:]
        Reader(path, mode, sparse, lasting == "1").run()
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=0, help="run the seeds 1 to N")
    parser.add_argument("--seed", type=int, action="append", default=[], help="run this seed")
    parser.add_argument("--jobs", type=int, default=1, help="trials at a time")
    parser.add_argument("--keep-files", action="store_true")
    options = parser.parse_args()
    seeds = [*options.seed, *range(1, options.seeds + 1)]

    def one(seed: int) -> Trial:
        done = run(seed, keep_files=options.keep_files)
        print(f"{'ok  ' if done.passed else 'FAIL'} {done}", file=sys.stderr, flush=True)
        return done

    with ThreadPoolExecutor(options.jobs) as pool:
        trials = list(pool.map(one, seeds))
    print(summary(trials))
    return 0 if all(trial.passed for trial in trials) else 1


if __name__ == "__main__":
    sys.exit(main())
