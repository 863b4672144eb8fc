"""Numbered lines, rotated in every way there is, under a log-tailer that is killed: what arrives, twice, or never.

python tests/servers/torture.py --seeds 100            # a summary as a Markdown table on stdout
python tests/servers/torture.py --seed 4711            # one of them again
python tests/servers/torture.py --seeds 20 --forward   # the same through the forward output
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

KINDS = ("rename", "burst", "later", "symlink", "delete", "copytruncate", "compress")
# Where a killed process can find everything again once it is back: the rotated files outlive its absence.
SURVIVING = ("rename", "burst", "later", "symlink", "copytruncate", "compress")
TAILER = [sys.executable, "-m", "sidecars.tailer"]
RECEIVER = [sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "forward_receiver.py")]
FAULTS = ("close_before_record", "close_before_ack", "ack_then_close", "wrong_ack", "late_ack", "no_ack", "stall",
          "slow", "garbage", "endless", "nil", "exit")  # fmt: skip
# A checkpoint is written a second after the last one; the rest is for a busy machine.
REPEAT_SECONDS = 2.0
PATIENCE = 60.0


# The application


class Writer:
    """An application with one log, which it rotates itself. Run in a process of its own."""

    def __init__(self, name: str, kind: str, directory: str, keep: int, dice: random.Random) -> None:
        self.name, self.kind, self.dice, self.keep = name, kind, dice, keep
        self.path = os.path.join(directory, f"{name}.log")
        self.number = 0
        self.generation = 0
        self.aside: list[str] = []
        self.file = self._create()

    def _create(self) -> int:
        path = self.path
        if self.kind == "symlink":
            self.generation += 1
            path = os.path.join(os.path.dirname(self.path), f"{self.name}-{self.generation:06}.data")
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def _link(self) -> None:
        target = f"{self.name}-{self.generation:06}.data"
        os.symlink(target, self.path + ".new")
        os.rename(self.path + ".new", self.path)

    def lines(self, count: int) -> bytes:
        first, self.number = self.number, self.number + count
        padding = "x" * self.dice.randrange(0, 200)
        return b"".join(b"%b %08d %b.\n" % (self.name.encode(), n, padding.encode()) for n in range(first, self.number))

    def write(self) -> None:
        data = self.lines(self.dice.choice((1, 1, 5, 50, 400)))
        if self.kind != "copytruncate" and self.dice.random() < 0.2:
            half = self.dice.randrange(len(data))
            os.write(self.file, data[:half])
            time.sleep(self.dice.random() * 0.003)
            data = data[half:]
        os.write(self.file, data)

    def rotate(self) -> None:
        if self.kind == "copytruncate":
            self._copytruncate()
            return
        if self.kind != "symlink":
            self._shift()
        if self.kind == "later":
            if self.dice.random() < 0.5:
                self.write()  # a late writer
            time.sleep(self.dice.random() * 0.2)
        old = self.file
        self.file = self._create()
        if self.kind == "symlink":
            self._link()
            stale = os.path.join(os.path.dirname(self.path), f"{self.name}-{self.generation - self.keep:06}.data")
            if os.path.exists(stale):
                os.unlink(stale)
        os.close(old)
        if self.kind == "compress":
            self._compress()

    def _compress(self) -> None:
        """Compress what was rotated, now or, as with delaycompress, at the next rotation; by gzip, zstd, or itself."""
        count = self.dice.choice((0, 1, 1, 2))
        wanted, self.aside = (self.aside, []) if count == 1 else (self.aside[:-1], self.aside[-1:])
        for path in wanted if count else ():
            if self.dice.random() < 0.3:
                with open(path, "rb") as file, gzip.open(path + ".gz", "wb", 1) as archive:
                    shutil.copyfileobj(file, archive)
                os.unlink(path)
            else:
                program = ["gzip"] if self.dice.random() < 0.5 else ["zstd", "-q", "--rm"]
                subprocess.run([*program, path], check=True)

    def _shift(self) -> None:
        os.rename(self.path, self._aside())
        if self.kind == "delete":
            # As long as a file has a name, somebody can open it: this one has for 50 ms.
            time.sleep(0.05)
            os.unlink(self.aside[-1])

    def _aside(self) -> str:
        """Give the name to rotate to, after making room for it: numbers that shift as logrotate's, or a counter."""
        self.generation += 1
        if self.keep > 100 or self.kind == "compress":
            self.aside.append(f"{self.path}-{self.generation:06}")
            return self.aside[-1]
        for number in range(self.keep, 1, -1):
            if os.path.exists(f"{self.path}.{number - 1}"):
                os.rename(f"{self.path}.{number - 1}", f"{self.path}.{number}")
        self.aside.append(f"{self.path}.1")
        return self.aside[-1]

    def _copytruncate(self) -> None:
        shutil.copyfile(self.path, self._aside())
        os.truncate(self.path, 0)
        if self.dice.random() < 0.5:
            os.write(self.file, self.lines(self.dice.choice((10, 2000))))  # refilled, perhaps beyond the old offset

    def run(self, seconds: float, pause: float) -> None:
        if self.kind == "symlink":
            self._link()
        end = time.monotonic() + seconds
        turn = time.monotonic()
        while time.monotonic() < end:
            self.write()
            if self.dice.random() < 0.3:
                time.sleep(self.dice.random() * 0.004)
            if time.monotonic() > turn:
                for _ in range(self.dice.choice((2, 3, 4)) if self.kind == "burst" else 1):
                    self.rotate()
                    self.write()
                turn = time.monotonic() + pause * (0.5 + self.dice.random())
        # The last words of an application have no newline.
        os.write(self.file, b"%b %08d last" % (self.name.encode(), self.number))
        print(self.number + 1, flush=True)


# The trial


@dataclass
class Trial:
    """One seed: its writers, the tailer over them, and what came of it."""

    seed: int
    kills: bool
    forward: bool = False
    kinds: list[str] = field(default_factory=list)
    written: Counter[str] = field(default_factory=Counter)
    killed: int = 0
    missing: int = 0
    missing_inherent: int = 0
    repeated: int = 0
    torn: int = 0
    late_repeats: int = 0
    late_copies: int = 0
    exit_code: int | None = None
    complaint: str = ""

    @property
    def passed(self) -> bool:
        # Where copies were removed before they could be read, the tailer rightly says so by its exit code.
        ended_well = not self.exit_code or (self.exit_code == 1 and self.missing_inherent)
        return bool(ended_well) and not (self.missing or self.torn or self.late_repeats or self.complaint)


class Runs:
    """The tailer's runs, one after another, each with an output file of its own, which is watched as it grows."""

    def __init__(self, directory: str, command: list[str], expected_exit: int = 0) -> None:
        self.directory, self.command = directory, command
        self.outputs: list[str] = []
        self.growth: list[list[tuple[float, int]]] = []
        self.killed_at: list[float] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._end = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def start(self) -> None:
        path = os.path.join(self.directory, f"out.{len(self.outputs)}")
        self.outputs.append(path)
        self.growth.append([])
        with open(path, "wb") as out, open(os.path.join(self.directory, "log"), "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=out, stderr=log)

    def wait_until_watching(self) -> None:
        """Wait for the last start: a signal in the interpreter's first milliseconds ends it, as it ends any program."""
        deadline = time.monotonic() + PATIENCE
        while self.process and self.process.poll() is None:
            assert time.monotonic() < deadline, f"not watching after {PATIENCE} s"
            with open(os.path.join(self.directory, "log"), encoding="utf-8", errors="replace") as log:
                events = log.read().rpartition('"started"')[2]
                if f'"pid": {self.process.pid}' in events and '"watching"' in events:
                    return
            time.sleep(0.02)

    def kill(self) -> None:
        assert self.process
        self.killed_at.append(time.monotonic())
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            return -9

    def end(self) -> None:
        """Leave nothing behind, whatever happened."""
        self._end.set()
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            with contextlib.suppress(FileNotFoundError):  # not made yet, or gone with the trial
                if self.outputs:
                    self.growth[-1].append((time.monotonic(), os.path.getsize(self.outputs[-1])))

    def size_at(self, run: int, moment: float) -> int:
        return max((size for when, size in self.growth[run] if when <= moment), default=0)

    def lines(self, run: int) -> list[bytes]:
        """Give what a run wrote: the last line may be torn if it was killed."""
        return _lines(self.outputs[run], torn=run < len(self.killed_at))

    def early(self, run: int) -> set[bytes]:
        """Give the numbers that were written so long before this run began that it should know of them."""
        if not run:
            return set()
        limit = self.size_at(run - 1, self.killed_at[run - 1] - REPEAT_SECONDS)
        return _numbers(self.outputs[run - 1], limit)


class Receivers:
    """A receiver that misbehaves, and is killed and started again on the same port, each time with other faults."""

    def __init__(self, directory: str, dice: random.Random) -> None:
        self.directory, self.dice = directory, dice
        self.outputs: list[str] = []
        self.port = 0
        self.process = self._start(faults=True)
        self._end = threading.Event()
        self._chaos = threading.Thread(target=self._misbehave, daemon=True)
        self._chaos.start()

    def url(self) -> str:
        options = f"window={self.dice.choice((1, 4))}&compress={self.dice.choice(('gzip', 'off'))}"
        return f"forward://127.0.0.1:{self.port}?tag=torture&ack_timeout=1s&{options}"

    def _start(self, *, faults: bool) -> subprocess.Popen[bytes]:
        path = os.path.join(self.directory, f"received.{len(self.outputs)}")
        self.outputs.append(path)
        command = [*RECEIVER, "--port", str(self.port), "--out", path]
        if faults:
            command += ["--every", str(self.dice.choice((2, 5, 20)))]
            command += [f"--fault={name}" for name in self.dice.sample(FAULTS, self.dice.choice((1, 3)))]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout
        listening = process.stdout.readline()
        self.port = int(json.loads(listening)["port"])
        return process

    def _kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    def _misbehave(self) -> None:
        while not self._end.wait(self.dice.uniform(0.3, 2.0)):
            self._kill()
            self._end.wait(self.dice.choice((0.0, 0.1, 0.7)))
            self.process = self._start(faults=True)

    def recover(self) -> None:
        """End the faults: from now on there is a receiver as it should be."""
        self._end.set()
        self._chaos.join()
        self._kill()
        self.process = self._start(faults=False)

    def end(self) -> None:
        """Leave nothing behind, whatever happened."""
        self._end.set()
        self._chaos.join()
        if self.process.poll() is None:
            self._kill()

    def stop(self) -> str:
        """End; say what the sender did against the protocol, as far as the last receiver saw it."""
        self.process.terminate()
        out, _ = self.process.communicate(timeout=60)
        violations = json.loads(out)["violations"]
        return f"against the protocol: {violations}" if violations else ""

    def lines(self, run: int) -> list[bytes]:
        """Give what a receiver took: the last line may be torn if it was killed, and was not acknowledged then."""
        return _lines(self.outputs[run], torn=run < len(self.outputs) - 1)

    def early(self, run: int) -> set[bytes]:
        """Give nothing: what a receiver took and did not acknowledge is rightly sent again, whenever that is."""
        return set()


def _lines(path: str, *, torn: bool) -> list[bytes]:
    with open(path, "rb") as out:
        lines = out.read().split(b"\n")
    rest = lines.pop()
    return lines if torn or not rest else [*lines, rest]


def run(seed: int, *, kills: bool, forward: bool = False, keep_files: bool = False, kind: str = "") -> Trial:
    """Run one trial."""
    dice = random.Random(f"{seed} {kills} {forward}")
    trial = Trial(seed, kills, forward)
    directory = tempfile.mkdtemp(prefix="torture-")
    os.mkdir(os.path.join(directory, "logs"))
    trial.kinds = [dice.choice(SURVIVING if kills else KINDS) for _ in range(dice.randrange(1, 5))]
    if kind:
        trial.kinds = [kind]
    pause = dice.choice((0.02, 0.1, 0.4))
    with contextlib.ExitStack() as ending:
        receivers = Receivers(directory, random.Random(dice.random())) if forward else None
        runs = Runs(directory, _command(trial, directory, dice, receivers))
        ending.callback(runs.end)
        if receivers:
            ending.callback(receivers.end)
        try:
            _play(trial, runs, os.path.join(directory, "logs"), pause, dice)
            if receivers:
                receivers.recover()
            trial.exit_code = runs.stop()
            if receivers:
                trial.complaint = receivers.stop()
            _judge(trial, receivers or runs)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            trial.complaint = str(error)
    if keep_files or not trial.passed:
        print(f"files of seed {seed} are in {directory}", file=sys.stderr)
    else:
        shutil.rmtree(directory)
    return trial


def _command(trial: Trial, directory: str, dice: random.Random, receivers: Receivers | None) -> list[str]:
    logs = os.path.join(directory, "logs")
    paths = [os.path.join(logs, f"w{index}.log") for index in range(len(trial.kinds))]
    if dice.random() < 0.3 and not {"copytruncate", "symlink"} & set(trial.kinds):
        paths = [os.path.join(logs, "*.log")]
    command = [*TAILER, "--admin", "off", "--state-dir", os.path.join(directory, "state"), "--quiet", "1s", *paths]
    # What has a name for 50 ms, only who is told of it can be sure to find.
    if dice.random() < 0.2 and "delete" not in trial.kinds:
        command += ["--watch", "poll", "--poll-interval", "10ms"]
    if receivers:
        command += ["--output", receivers.url()]
    return command


def _play(trial: Trial, runs: Runs, logs: str, pause: float, dice: random.Random) -> None:
    seconds = dice.uniform(3.0, 6.0) if trial.kills else dice.uniform(1.5, 3.0)
    # While the tailer is dead, all rotated files must outlive its absence; while it runs, half a second of them.
    keep = 1_000_000 if trial.kills else 60
    runs.start()
    runs.wait_until_watching()
    writers = [
        subprocess.Popen(
            [sys.executable, __file__, "write", f"w{index}", kind, logs, str(keep), str(seconds), str(pause),
             str(dice.random())],
            stdout=subprocess.PIPE,
        )
        for index, kind in enumerate(trial.kinds)
    ]  # fmt: skip
    while trial.kills and any(writer.poll() is None for writer in writers):
        time.sleep(dice.uniform(0.2, 3.5))
        runs.kill()
        trial.killed += 1
        time.sleep(dice.choice((0.0, 0.1, 0.5)))
        runs.start()
    for index, writer in enumerate(writers):
        out, _ = writer.communicate(timeout=60)
        trial.written[f"w{index}"] = int(out)
    runs.wait_until_watching()


def _judge(trial: Trial, outputs: Runs | Receivers) -> None:
    seen: Counter[bytes] = Counter()
    for index, path in enumerate(outputs.outputs):
        early = outputs.early(index)
        for line in outputs.lines(index):
            number = line[:11]
            if not line.endswith((b".", b" last")) or line.count(b"w") != 1:
                trial.torn += 1
                trial.complaint = trial.complaint or f"torn line {line[:60]!r} in {path}"
                continue
            if seen[number]:
                trial.repeated += 1
                # A copy holds what its original held: for copytruncate no bound is promised.
                if trial.kinds[int(number[1:2])] == "copytruncate":
                    trial.late_copies += number in early
                else:
                    trial.late_repeats += number in early
            seen[number] += 1
    for name, count in trial.written.items():
        lost = sum(not seen[b"%b %08d" % (name.encode(), number)] for number in range(count))
        if trial.kinds[int(name[1:])] == "copytruncate":
            trial.missing_inherent += lost
        else:
            trial.missing += lost


def _numbers(path: str, size: int) -> set[bytes]:
    with open(path, "rb") as out:
        return {line[:11] for line in out.read(size).split(b"\n")}


def summary(trials: list[Trial]) -> str:
    """Give a Markdown table of all trials by what was done to the tailer."""
    heads = ("tailer", "output", "seeds", "lines written", "kills", "missing", "repeated beyond the checkpoint",
             "repeated", "copytruncate: missing", "copytruncate: repeated beyond", "torn", "failed seeds")  # fmt: skip
    rows = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for forward, kills in ((False, False), (False, True), (True, False), (True, True)):
        those = [trial for trial in trials if (trial.forward, trial.kills) == (forward, kills)]
        if those:
            failed = [str(trial.seed) for trial in those if not trial.passed]
            rows.append(
                f"| {'killed and restarted' if kills else 'left alone'} "
                f"| {'forward, receiver killed and misbehaving' if forward else 'stdout'} | {len(those)} "
                f"| {sum(sum(trial.written.values()) for trial in those):,} | {sum(trial.killed for trial in those)} "
                f"| {sum(trial.missing for trial in those)} | {sum(trial.late_repeats for trial in those)} "
                f"| {sum(trial.repeated for trial in those)} | {sum(trial.missing_inherent for trial in those)} "
                f"| {sum(trial.late_copies for trial in those)} | {sum(trial.torn for trial in those)} "
                f"| {', '.join(failed) or 'none'} |"
            )
    return "\n".join(rows)


def main() -> int:
    """Run trials from the command line."""
    if sys.argv[1:2] == ["write"]:
        name, kind, logs, keep, seconds, pause, seed = sys.argv[2:]
        Writer(name, kind, logs, int(keep), random.Random(seed)).run(float(seconds), float(pause))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=0, help="run the seeds 1 to N")
    parser.add_argument("--seed", type=int, action="append", default=[], help="run this seed")
    parser.add_argument("--kills", choices=("yes", "no", "both"), default="both")
    parser.add_argument("--kind", choices=KINDS, default="", help="one writer, of this kind")
    parser.add_argument("--forward", action="store_true", help="through the forward output, to a bad receiver")
    parser.add_argument("--jobs", type=int, default=1, help="trials at a time")
    parser.add_argument("--keep-files", action="store_true")
    options = parser.parse_args()
    kills = [each for each in (False, True) if options.kills in ("both", "yes" if each else "no")]
    wanted = [(seed, each) for seed in [*options.seed, *range(1, options.seeds + 1)] for each in kills]

    def one(trial: tuple[int, bool]) -> Trial:
        seed, killed = trial
        done = run(seed, kills=killed, forward=options.forward, keep_files=options.keep_files, kind=options.kind)
        print(f"{'ok  ' if done.passed else 'FAIL'} {done}", file=sys.stderr, flush=True)
        return done

    # What a trial does, its processes do: threads are enough to have several at a time.
    with ThreadPoolExecutor(options.jobs) as pool:
        trials = list(pool.map(one, wanted))
    print(summary(trials))
    return 0 if all(trial.passed for trial in trials) else 1


if __name__ == "__main__":
    sys.exit(main())
