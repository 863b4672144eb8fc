"""pod-init copy killed at every point and run again: a manifest never lies, and the last run leaves what SRC has.

python tests/servers/init_torture.py --seeds 200 --jobs 2     # a summary as a Markdown table on stdout
python tests/servers/init_torture.py --seed 4711              # one of them again
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from sidecars.init import manifest
from sidecars.init.tree import STAGING, Tree, scan
from tests.servers.initializing import AS_OTHER, change, content, tree

CRASHING = os.path.join(os.path.dirname(os.path.abspath(__file__)), "init_crashing.py")
USER = 12345
LATE = ("remove Publication.commit", "rename move", "chmod _chmod", "write write", "rename Publication.commit",
        "rename Publication._rename", "rmtree remove")  # fmt: skip
# "EVENT FUNCTION": what is about to be done, and where: see init_crashing.py.
POINTS = (
    "mkdir Publication._take", "mkdir Copying._tasks", "mkdir _created", "write _created", "remove copy_file",
    "chmod copy_file", "utime copy_file", "symlink _link", "remove _link", "remove Publication.commit", "remove remove",
    "rmtree remove", "rmdir remove", "rename move", "chmod _chmod", "write write", "chmod write",
    "rename Publication.commit", "rename Publication._rename", "mkdir Publication._place_staging",
)  # fmt: skip


@dataclass
class Trial:
    """What was done with one seed, and what was wrong."""

    seed: int
    dest: str = ""
    words: tuple[str, ...] = ()
    user: int = 0
    runs: int = 0
    killed: int = 0
    believed: int = 0
    changes: int = 0
    points: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.wrong

    def __str__(self) -> str:
        told = f"seed {self.seed}: DEST {self.dest}, {' '.join(self.words)}, uid {self.user}, {self.runs} runs"
        return f"{told}, {self.killed} killed, {len(self.points)} at a point; wrong: {self.wrong}"


class Crasher:
    """The process that starts one pod-init after the other. As root's, or as another user's."""

    def __init__(self, user: int) -> None:
        under = AS_OTHER if user and os.geteuid() == 0 else ()
        self._process = subprocess.Popen(
            [*under, sys.executable, CRASHING], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)

    def run(self, **asked: Any) -> dict[str, Any]:
        """Run one; how it ended."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


class Crashers:
    """Crashers to be used again by whoever needs one next."""

    def __init__(self) -> None:
        self._free: dict[int, list[Crasher]] = {0: [], USER: []}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def one(self, user: int) -> Iterator[Crasher]:
        with self._lock:
            crasher = self._free[user].pop() if self._free[user] else Crasher(user)
        yield crasher
        with self._lock:
            self._free[user].append(crasher)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (*self._free[0], *self._free[USER]):
            each.__exit__()


class Torment:
    """One trial: a source that changes now and then, and copies of it that are killed."""

    def __init__(self, trial: Trial, folder: Path, crasher: Crasher, dice: random.Random) -> None:
        self.trial, self.crasher, self.dice = trial, crasher, dice
        self.source, self.dest = folder / "src", folder / "dest"
        tree(self.source, dice, dice.choice((4, 15, 40)))
        self.versions: list[tuple[Tree, dict[bytes, tuple[Any, ...]]]] = []
        self.keep()

    def keep(self) -> None:
        """Remember the source as it is."""
        self.versions.append((scan(str(self.source)), content(self.source)))

    def alter(self) -> None:
        """Change the source: files, their kinds and permissions, what is there at all."""
        self.trial.changes += 1
        for _ in range(self.dice.randrange(1, 5)):
            path = self.dice.choice(list(self.source.rglob("*")) or [self.source / "f"])
            if self.dice.random() < 0.3:
                path = path.with_name(f"n{self.dice.randrange(9)}")
            if not path.parent.is_dir() or path.parent.is_symlink():
                continue
            self._alter(path, self.dice.choice(("file", "file", "gone", "link", "dir", "chmod")))
        self.keep()

    def _alter(self, path: Path, kind: str) -> None:
        is_folder = path.is_dir() and not path.is_symlink()
        if kind == "chmod":
            if not path.is_symlink() and path.exists():
                path.chmod(0o755 if self.dice.random() < 0.5 else 0o500 if is_folder else 0o440)
            return
        if is_folder:
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        if kind == "file":
            change(path, self.dice)
        elif kind == "dir":
            path.mkdir()
            change(path / "f0", self.dice)
        elif kind == "link":
            path.symlink_to(self.dice.choice(("nowhere", "..", "/etc")))

    def crash(self) -> None:
        """Run it, and kill it: at a point, at any of them, or some time later; sometimes another runs beside it."""
        asked: dict[str, Any] = {"beside": self.dice.random() < 0.15}
        kind = self.dice.choice(("point", "late", "late", "any", "any", "time"))
        if kind in ("point", "late"):
            asked |= {
                "point": self.dice.choice(POINTS if kind == "point" else LATE),
                "count": self.dice.choice((1, 1, 1, 2, 3, self.dice.randrange(1, 20))),
            }
        elif kind == "any":
            asked |= {"point": "*", "count": int(2 ** self.dice.uniform(0, 7))}
        else:
            asked |= {"after": self.dice.random() * 0.03}
        done = self.run(**asked)
        if done["code"] == -9:
            self.trial.killed += 1
            self.trial.points += done["points"]
        elif done["code"]:
            self.trial.wrong.append(f"ended by itself with {done['code']}: {done['log']}")
        if done["beside"]:
            self.trial.wrong.append(f"the one beside it ended with {done['beside']}: {done['log']}")
        self.look(f"after {asked}")
        # With --verify who comes second does it all again.
        beside = asked["beside"] and "--verify" not in self.trial.words
        if beside and not manifest.complete(str(self.dest), self.versions[-1][0]):
            self.trial.wrong.append(f"the one beside has not completed it, after {asked}")

    def run(self, **asked: Any) -> dict[str, Any]:
        self.trial.runs += 1
        return self.crasher.run(words=["copy", str(self.source), str(self.dest), *self.trial.words], **asked)

    def look(self, when: str) -> None:
        """A manifest that is believed tells the truth: it is of one version of the source, and all of that is there."""
        read = manifest.believed(str(self.dest))
        if read is None:
            return
        self.trial.believed += 1
        entries = manifest.entries_of(read)
        version = next((whole for known, whole in self.versions if known == entries), None)
        if version is None:
            self.trial.wrong.append(f"{when}: a manifest of no version of the source")
            return
        found = content(self.dest)
        different = [path for path in version if plain(found.get(path)) != plain(version[path])]
        if different:
            self.trial.wrong.append(f"{when}: a manifest lies about {different}")
        if "--mirror" in self.trial.words and found.keys() - version.keys():
            self.trial.wrong.append(f"{when}: not in the manifest: {found.keys() - version.keys()}")

    def finish(self, old: dict[bytes, tuple[Any, ...]]) -> None:
        """Let it come to its end: DEST is as SRC, what was there besides is there still, nothing else is, anywhere."""
        done = self.run()
        if done["code"]:
            self.trial.wrong.append(f"the last run ended with {done['code']}: {done['log']}")
        self.look("at the end")
        whole, found = self.versions[-1][1], content(self.dest)
        if any(plain(found.get(path)) != plain(whole[path]) for path in whole):
            self.trial.wrong.append("DEST is not as SRC in the end")
        if "--mirror" in self.trial.words and found.keys() != whole.keys():
            self.trial.wrong.append(f"DEST has more than SRC in the end: {found.keys() - whole.keys()}")
        litter = [name for name in os.listdir(self.dest.parent) if name not in ("src", "dest")]
        litter += [path for path in content(self.dest, ours=True) if STAGING.encode() in path.split(b"/")[0]
                   and path != b".pod-init.json"]  # fmt: skip
        known = set(old).union(*(version for _, version in self.versions))
        litter += [path for path in found if path not in known]
        if litter:
            self.trial.wrong.append(f"litter: {litter}")
        if (again := self.run())["code"] or '"unchanged"' not in again["log"]:
            self.trial.wrong.append(f"run again, it is not unchanged: {again['log']}")


def run(seed: int, crashers: Crashers, *, rounds: int = 0, keep_files: bool = False) -> Trial:
    """Run one trial, of so many rounds, or of some."""
    dice = random.Random(seed)
    trial = Trial(seed)
    trial.dest = dice.choice(("new", "there", "there", "complete"))
    trial.words = (*dice.choice(((), (), ("--mirror",))), *dice.choice(((), (), ("--verify",))),
                   *dice.choice(((), ("--jobs", "1"))))  # fmt: skip
    trial.user = dice.choice((0, USER)) if os.geteuid() == 0 else 0
    # Mostly in memory, sometimes on a disk, whose file system may do otherwise.
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    folder = Path(tempfile.mkdtemp(prefix="init-torture-", dir=dice.choice((memory, memory, None))))
    with crashers.one(trial.user) as crasher:
        torment = Torment(trial, folder, crasher, dice)
        if trial.dest == "there":
            tree(torment.dest, dice, 20)
        old = content(torment.dest)
        own(folder, trial.user)
        if trial.dest == "complete":
            torment.run()
        for _ in range(rounds or dice.randrange(2, 8)):
            if dice.random() < 0.7:
                torment.alter()
            torment.crash()
        torment.finish(old)
    if keep_files or not trial.passed:
        print(f"files of seed {seed} are in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return trial


def plain(entry: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    """An entry without the bit of a directory that hands the group down: it belongs to the volume."""
    return (entry[0], entry[1] & 0o1777) if entry and entry[0] == "dir" else entry


def own(folder: Path, user: int) -> None:
    """Give DEST to that user; SRC is root's, as in an image."""
    if user:
        for path in (folder, folder / "dest", *(folder / "dest").rglob("*")):
            if os.path.lexists(path):
                os.chown(path, user, user, follow_symlinks=False)


def summary(trials: list[Trial]) -> str:
    """Give a Markdown table, and the sentences that count."""
    rows = [
        "| DEST | as | seeds | changes of SRC | runs | kills | of them at a named point | manifests believed and "
        "compared | wrong | failed seeds |",
        "| --- " * 10 + "|",
    ]
    for dest in ("new", "there", "complete"):
        for user in (0, USER):
            those = [trial for trial in trials if (trial.dest, trial.user) == (dest, user)]
            failed = [str(trial.seed) for trial in those if not trial.passed]
            cells = (
                dest, "another user" if user else "root", len(those), sum(t.changes for t in those),
                sum(t.runs for t in those), sum(t.killed for t in those), sum(len(t.points) for t in those),
                sum(t.believed for t in those), sum(len(t.wrong) for t in those), ", ".join(failed) or "none",
            )  # fmt: skip
            rows.append("| " + " | ".join(f"{c:,}" if isinstance(c, int) else c for c in cells) + " |")
    points = Counter(point for trial in trials for point in trial.points)
    rows += ["", "Kills at: " + ", ".join(f"{name} {count}" for name, count in sorted(points.items())) + "."]
    rows += ["", "Points never reached: " + (", ".join(sorted(set(POINTS) - set(points))) or "none") + "."]
    kills, wrong = sum(trial.killed for trial in trials), sum(len(trial.wrong) for trial in trials)
    rows += ["", f"{kills:,} kills, {sum(trial.believed for trial in trials):,} manifests compared, {wrong} wrong"]
    return "\n".join(rows)


def main() -> int:
    """Run trials from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=0, help="run the seeds 1 to N")
    parser.add_argument("--seed", type=int, action="append", default=[], help="run this seed")
    parser.add_argument("--jobs", type=int, default=1, help="trials at a time")
    parser.add_argument("--keep-files", action="store_true")
    options = parser.parse_args()

    def one(seed: int) -> Trial:
        done = run(seed, crashers, keep_files=options.keep_files)
        print(f"{'ok  ' if done.passed else 'FAIL'} {done}", file=sys.stderr, flush=True)
        return done

    with Crashers() as crashers, ThreadPoolExecutor(options.jobs) as pool:
        trials = list(pool.map(one, [*options.seed, *range(1, options.seeds + 1)]))
    print(summary(trials))
    return 0 if all(trial.passed for trial in trials) else 1


if __name__ == "__main__":
    sys.exit(main())
