"""Kills a consumer with -9 at random moments of its passes, while a reader looks: python -m ... FOLDER KILLS SEED.

A process of its own, because it forks: a child of a process with threads may hang.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import time
from pathlib import Path

from tests.unit.syncer.origin import Consumer, Origin, contents

FILES = [f"{folder}/{number}" for folder in "abc" for number in range(20)]
SETTINGS = {"depth": 0, "git_gc": "auto", "keep_worktrees": 2}


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
        child = os.fork()
        if child == 0:
            sync_for_ever(origin, folder / "root", revisions, kill)
        end = time.monotonic() + chance.uniform(0.01, 0.25)
        while time.monotonic() < end:
            seen.add(look(folder / "root"))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen.add(look(folder / "root"))
    last = Consumer(origin, folder / "root", **SETTINGS)
    for revision in revisions:
        last.sync(revision)
    assert look(folder / "root") == "5", f"seed {seed}"
    assert last.inside("status", "--porcelain") == "", f"seed {seed}"
    assert len(os.listdir(folder / "root/.worktrees")) <= 3, f"seed {seed}"
    print(len(seen), "revisions seen, seed", seed)


def sync_for_ever(origin: Origin, root: Path, revisions: list[str], begin: int) -> None:
    consumer = Consumer(origin, root, **SETTINGS)
    with consumer.store.held():
        for number in itertools.count(begin):
            consumer.sync(revisions[number % len(revisions)])


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
