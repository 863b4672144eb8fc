"""Kills a consumer with -9 at random moments of its passes, while a reader looks: python -m ... FOLDER KILLS SEED.

A process of its own, because it forks: a child of a process with threads may hang.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import sys
from pathlib import Path

from sidecars.core.disk import Locked
from sidecars.core.git import Event
from tests.unit.syncer.origin import Consumer, Origin, contents

FILES = [f"{folder}/{number}" for folder in "abc" for number in range(20)]
SETTINGS = {"depth": 0, "git_gc": "auto", "keep_worktrees": 4}


def main(folder: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    origin = Origin(folder / "origin")
    # Each commit names itself in two files; the others never change.
    revisions = [
        origin.commit({**dict.fromkeys(FILES, "same\n"), "first": f"{number}", "z/last": f"{number}"})
        for number in range(6)
    ]
    Consumer(origin, folder / "root", **SETTINGS).sync(revisions[0])
    seen: set[str] = set()
    for kill in range(kills):
        moment = chance.randint(1, 60), chance.uniform(1e-6, 0.01)
        child = os.fork()
        if child == 0:
            sync_until(moment, Consumer(origin, folder / "root", **SETTINGS), revisions[kill % 6 :] + revisions)
        while (status := os.waitpid(child, os.WNOHANG)) == (0, 0):
            seen.add(look(folder / "root"))
        assert os.WIFSIGNALED(status[1]), f"seed {seed}"
        seen.add(look(folder / "root"))
    last = Consumer(origin, folder / "root", **SETTINGS)
    for revision in revisions:
        last.sync(revision)
    assert look(folder / "root") == "5", f"seed {seed}"
    assert last.inside("status", "--porcelain") == "", f"seed {seed}"
    assert len(os.listdir(folder / "root/.worktrees")) <= 5, f"seed {seed}"
    print(len(seen), "revisions seen, seed", seed)


def sync_until(moment: tuple[int, float], consumer: Consumer, revisions: list[str]) -> None:
    """Sync until so many seconds after so many beginnings and ends of git commands; the alarm kills as -9 does."""
    events = itertools.count(1)

    def note(event: Event) -> None:
        if next(events) == moment[0]:
            signal.setitimer(signal.ITIMER_REAL, moment[1])

    consumer.git.watch = note
    with contextlib.ExitStack() as holding:
        while True:
            # A git that was about to be started when the last one was killed holds its lock for a moment yet.
            with contextlib.suppress(Locked):
                holding.enter_context(consumer.store.held())
                break
        for revision in itertools.cycle(revisions):
            consumer.sync(revision)


def look(root: Path) -> str:
    """Read all that is published: the number of its commit."""
    folder = os.path.realpath(root / "link")
    files = contents(Path(folder))
    number = files.pop("first", "missing")
    assert files.pop("z/last", "missing") == number, folder
    assert files == dict.fromkeys(FILES, "same\n"), folder
    return number


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
