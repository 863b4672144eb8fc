"""Numbered lines, rotated, under an s3-shipper that is killed, to an S3 that fails: each must be in the bucket once.

python tests/servers/shipper_torture.py --seeds 200 --jobs 2     # a summary as a Markdown table on stdout
python tests/servers/shipper_torture.py --seed 4711              # one of them again
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import typing
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import zstandard

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from sidecars.shipper.points import Point
from tests.servers import torture
from tests.servers.s3 import S3, Server
from tests.servers.s3_proxy import S3Proxy

KINDS = ("rename", "burst", "later", "symlink")
POINTS = typing.get_args(Point)
FORMATS = ("", "%{path}%{time_slice}_%{index}.%{file_extension}", "%{path}$TAG/%Y/%m/%d/$INDEX-{pod}", "%{path}{chunk}")
HERE = os.path.abspath(__file__)
CRASHING = os.path.join(os.path.dirname(HERE), "shipper_crashing.py")
PATIENCE = 90.0


class Writer(torture.Writer):
    """An application whose every line is the same, if it is constant: only how many there are tells.

    One that trickles writes a line now and then, so that chunks are made of small members.
    """

    constant = False
    trickling = False

    def write(self) -> None:
        """Write some lines, as torture.Writer does, or one after a while."""
        if not self.trickling:
            super().write()
            return
        time.sleep(self.dice.random() * 0.05)
        os.write(self.file, self.lines(1))

    def lines(self, count: int) -> bytes:
        """Give so many lines."""
        if not self.constant:
            return super().lines(count)
        self.number += count
        return b"constant.\n" * count


@dataclass
class Trial:
    """One seed: its writers, the shippers over them, and what is in the bucket."""

    seed: int
    kinds: list[str] = field(default_factory=list)
    pods: int = 1
    style: str = "numbered"
    options: list[str] = field(default_factory=list)
    faulty: bool = False
    written: int = 0
    stored: int = 0
    objects: int = 0
    killed: int = 0
    at_points: list[str] = field(default_factory=list)
    missing: int = 0
    twice: int = 0
    torn: int = 0
    complaint: str = ""

    @property
    def passed(self) -> bool:
        """Whether every line is there once."""
        return not (self.missing or self.twice or self.torn or self.complaint)


class Pod:
    """A directory of logs with its writers, and the shipper that is killed over them."""

    def __init__(
        self, trial: Trial, directory: str, command: list[str], keys: dict[str, str], dice: random.Random
    ) -> None:
        self.trial, self.dice = trial, dice
        self.directory = directory
        self.logs = os.path.join(self.directory, "logs")
        os.makedirs(self.logs)
        given = {name.upper(): value for name, value in keys.items()}
        name = os.path.basename(directory)
        self.environ = {**os.environ, **given, "AWS_DEFAULT_REGION": "us-east-1", "POD_NAME": name}
        paths = [os.path.join(self.logs, f"w{index}.log") for index in range(len(trial.kinds))]
        self.arguments = [*paths, "--state-dir", os.path.join(self.directory, "state"), *command]
        self.point = ""
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.writers: list[subprocess.Popen[bytes]] = []
        self.counts: list[int] = []
        # Chunks of small members take some seconds: these are the points that only they reach.
        trickling = trial.style == "trickling"
        self.pace = 3.0 if trickling else 1.0
        self.points = (*POINTS, "", *(("chunk made whole", "whole recorded") * 3 if trickling else ()))

    def start(self, crash: str = "") -> None:
        """Start the shipper; with a point, it kills itself there."""
        command = [sys.executable, "-m", "sidecars.shipper"]
        if crash:
            command = [sys.executable, CRASHING, crash, str(self.dice.choice((1, 1, 2, 5)))]
        self.starts += 1
        self.point = crash
        with open(os.path.join(self.directory, "log"), "ab") as log:
            self.process = subprocess.Popen([*command, *self.arguments], stderr=log, env=self.environ)

    def watching(self) -> None:
        """Wait until it reads."""
        deadline = time.monotonic() + PATIENCE
        while self.process and self.process.poll() is None:
            assert time.monotonic() < deadline, "not watching"
            with open(os.path.join(self.directory, "log"), encoding="utf-8", errors="replace") as log:
                last = log.read().rpartition('"started"')[2]
                if f'"pid": {self.process.pid}' in last and '"watching"' in last:
                    return
            time.sleep(0.02)

    def write(self, seconds: float, pause: float) -> None:
        """Let the applications write."""
        for index, kind in enumerate(self.trial.kinds):
            words = [f"w{index}", kind, self.logs, str(seconds), str(pause), str(self.dice.random()), self.trial.style]
            command = [sys.executable, HERE, "write", *words]
            self.writers.append(subprocess.Popen(command, stdout=subprocess.PIPE))

    def torment(self) -> None:
        """Kill the shipper, at a point or at any time, as long as the applications write."""
        while any(writer.poll() is None for writer in self.writers):
            assert self.process
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(self.dice.uniform(0.2, 2.5) * self.pace)
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            elif self.process.returncode == -signal.SIGKILL:
                self.trial.at_points.append(self.point)
            else:
                self.trial.complaint = f"ended by itself with {self.process.returncode}"
            self.trial.killed += 1
            time.sleep(self.dice.choice((0.0, 0.1, 0.3)))
            self.start(self.dice.choice(self.points))

    def finish(self) -> None:
        """Let the shipper ship the rest and end; it must be content."""
        assert self.process
        for writer in self.writers:
            out, _ = writer.communicate(timeout=60)
            self.counts.append(int(out))
        if self.point:
            self.process.kill()
            self.process.wait()
            self.start()
        self.watching()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE)
        if code:
            self.trial.complaint = self.trial.complaint or f"exit code {code} after the drain"

    def end(self) -> None:
        """Leave nothing behind."""
        for process in (self.process, *self.writers):
            if process and process.poll() is None:
                process.kill()
                process.wait()


def run(seed: int, server: Server, *, keep_files: bool = False) -> Trial:
    """Run one trial."""
    dice = random.Random(seed)
    trial = Trial(seed)
    bucket = f"torture-{uuid.uuid4().hex[:12]}"
    server.make(bucket)
    directory = tempfile.mkdtemp(prefix="shipper-torture-")
    compress = _throw(trial, dice)
    with contextlib.ExitStack() as ending:
        proxy = ending.enter_context(S3Proxy(server.endpoint))
        if trial.faulty:
            proxy.random_faults(seed=seed, every=dice.choice((2, 4, 10)))
        fixed = ["--bucket", bucket, "--endpoint", proxy.endpoint, "--admin", "off", "--quiet", "300ms"]
        command = [*fixed, *trial.options]
        places = [os.path.join(directory, f"pod{number}") for number in range(trial.pods)]
        pods = [Pod(trial, place, command, server.credentials, dice) for place in places]
        try:
            _play(pods, proxy, ending, dice)
            _judge(trial, pods, server.objects(bucket), compress)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            trial.complaint = f"{type(error).__name__}: {error}"
    if keep_files or not trial.passed:
        _keep(server.objects(bucket), directory)
        print(f"files of seed {seed} are in {directory}", file=sys.stderr)
    else:
        shutil.rmtree(directory)
    return trial


def _throw(trial: Trial, dice: random.Random) -> str:
    """Decide what the trial is like; give the compression."""
    trial.kinds = [dice.choice(KINDS) for _ in range(dice.randrange(1, 4))]
    trial.pods = dice.choice((1, 1, 1, 2))
    trial.faulty = dice.random() < 0.6
    trial.style = dice.choice(("numbered", "numbered", "constant", "trickling"))
    compress = dice.choice(("gzip", "gzip", "zstd", "none"))
    slices = ("3s",) if trial.style == "trickling" else ("1s", "3s", "300s")
    trial.options = ["--compress", compress, "--slice", dice.choice(slices)]
    trial.options += ["--chunk-size", dice.choice(("20KiB", "300KiB", "64MiB")), "--tag", "a.b", "--prefix", "p/"]
    if key := dice.choice(FORMATS):
        trial.options += ["--key-format", key]
    if dice.random() < 0.3:
        trial.options += ["--chunk-age", "700ms"]
    return compress


def _play(pods: list[Pod], proxy: S3Proxy, ending: contextlib.ExitStack, dice: random.Random) -> None:
    for pod in pods:
        ending.callback(pod.end)
        # What is rotated away before the very first look is nobody's: the first start is left alone.
        pod.start()
        pod.watching()
        pod.write(dice.uniform(2.0, 5.0) * pod.pace, dice.choice((0.05, 0.2, 0.8)))
    for pod in pods:
        pod.torment()
    proxy.recover()
    for pod in pods:
        pod.finish()


def _keep(objects: dict[str, bytes], directory: str) -> None:
    for key, data in objects.items():
        with open(os.path.join(directory, key.replace("/", "_")), "wb") as file:
            file.write(data)


def _judge(trial: Trial, pods: list[Pod], objects: dict[str, bytes], compress: str) -> None:
    seen: Counter[bytes] = Counter()
    constant = trial.style == "constant"
    trial.objects = len(objects)
    for key, data in objects.items():
        for line in _plain(data, compress).splitlines():
            if not line.endswith((b".", b" last")) or line.count(b"w") + line.count(b"constant") != 1:
                trial.torn += 1
                trial.complaint = trial.complaint or f"torn line {line[:60]!r} in {key}"
            seen[line[:11]] += 1
    expected: Counter[bytes] = Counter()
    for pod in pods:
        for index, count in enumerate(pod.counts):
            if constant:
                expected[b"constant."] += count - 1
                expected[b"w%d %08d" % (index, count - 1)] += 1
            else:
                expected.update(b"w%d %08d" % (index, number) for number in range(count))
    trial.written, trial.stored = expected.total(), seen.total()
    trial.missing, trial.twice = (expected - seen).total(), (seen - expected).total()


def _plain(data: bytes, compress: str) -> bytes:
    if compress == "gzip":
        return gzip.decompress(data)
    if compress == "zstd":
        return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    return data


def summary(trials: list[Trial]) -> str:
    """Give a Markdown table, and the sentence that counts."""
    written, stored = sum(trial.written for trial in trials), sum(trial.stored for trial in trials)
    missing, twice = sum(trial.missing for trial in trials), sum(trial.twice for trial in trials)
    rows = [
        "| S3 | seeds | lines written | lines in S3 | objects | kills | of them at a named point | missing | twice "
        "| torn | failed seeds |",
        "| --- " * 11 + "|",
    ]
    for faulty in (False, True):
        those = [trial for trial in trials if trial.faulty == faulty]
        failed = [str(trial.seed) for trial in those if not trial.passed]
        cells = (
            "fails at random" if faulty else "works", len(those), sum(t.written for t in those),
            sum(t.stored for t in those), sum(t.objects for t in those), sum(t.killed for t in those),
            sum(len(t.at_points) for t in those), sum(t.missing for t in those), sum(t.twice for t in those),
            sum(t.torn for t in those), ", ".join(failed) or "none",
        )  # fmt: skip
        rows.append("| " + " | ".join(f"{c:,}" if isinstance(c, int) else c for c in cells) + " |")
    points = Counter(point for trial in trials for point in trial.at_points)
    rows.append("")
    rows.append("Kills at: " + ", ".join(f"{point} {points[point]}" for point in POINTS) + ".")
    rows.append("")
    rows.append(f"{written:,} lines written, {stored:,} in S3, {missing} missing, {twice} twice")
    return "\n".join(rows)


def _write(words: list[str]) -> None:
    name, kind, logs, seconds, pause, seed, style = words
    Writer.constant, Writer.trickling = style == "constant", style == "trickling"
    Writer(name, kind, logs, 1_000_000, random.Random(seed)).run(float(seconds), float(pause))


def main() -> int:
    """Run trials from the command line."""
    if sys.argv[1:2] == ["write"]:
        _write(sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=0, help="run the seeds 1 to N")
    parser.add_argument("--seed", type=int, action="append", default=[], help="run this seed")
    parser.add_argument("--jobs", type=int, default=1, help="trials at a time")
    parser.add_argument("--keep-files", action="store_true")
    options = parser.parse_args()
    seeds = [*options.seed, *range(1, options.seeds + 1)]
    with S3() as server:

        def one(seed: int) -> Trial:
            done = run(seed, server, keep_files=options.keep_files)
            print(f"{'ok  ' if done.passed else 'FAIL'} {done}", file=sys.stderr, flush=True)
            return done

        with ThreadPoolExecutor(options.jobs) as pool:
            trials = list(pool.map(one, seeds))
    print(summary(trials))
    return 0 if all(trial.passed for trial in trials) else 1


if __name__ == "__main__":
    sys.exit(main())
