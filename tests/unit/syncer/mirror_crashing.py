"""Publish by mirror in a child that is killed at its first, second, third ... step, until it needs no more steps.

    python mirror_crashing.py DIRECTORY mirror|link|nothing

A step is what Python tells its auditors of: opening, renaming, removing, ... After each death, what consumers find is
checked, and the next publishing must put it right. Prints a JSON object with the counts.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from sidecars.syncer.mirror import Mirror
from tests.unit.syncer.test_mirror import FIRST, ONE, SECOND, TWO, worktree
from tests.unit.syncer.trees import read

_STEPS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.chmod", "os.setxattr", "ctypes.")


def publish_until(step: int, root: Path) -> bool:
    """Publish the second revision in a child that is killed at a step; True if it needed fewer."""
    child = os.fork()
    if not child:
        left = [step]

        def count(event: str, _arguments: object) -> None:
            if event.startswith(_STEPS):
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        Mirror(str(root / "site"), str(root)).publish(str(root / ".worktrees" / TWO), TWO)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status == 0


def check(root: Path, start: str) -> bool:
    """Check what consumers find: whole, or marked as mixed, and then each file of one revision. True if it is mixed."""
    found = read(root / "site") if (root / "site").exists() else {}
    current = Mirror(str(root / "site"), str(root)).current()
    whole = {"mirror": FIRST, "link": FIRST, "nothing": {}}[start], SECOND
    marked = found.pop(".syncing", None)
    temporary = [path for path in found if os.path.basename(path).startswith(".syncing-")]
    for path in temporary:
        del found[path]
    if current is not None:
        assert found == {ONE: FIRST, TWO: SECOND}[current], found
        assert not temporary
    if found in whole:
        return False
    assert start == "mirror", found
    assert marked == f"old {ONE}\nnew {TWO}\n", found
    for path, content in found.items():
        assert content is None or content in (FIRST.get(path), SECOND.get(path)), path
    return True


def main(directory: Path, start: str) -> dict[str, int]:
    """Kill at each step; at every third of those that make a whole directory beside."""
    mixed = 0
    for deaths, step in enumerate(range(1, 2000, 1 if start == "mirror" else 3)):
        root = directory / f"root-{step}"
        one, _ = worktree(root, ONE, FIRST), worktree(root, TWO, SECOND)
        if start == "mirror":
            Mirror(str(root / "site"), str(root)).publish(one, ONE)
        elif start == "link":
            (root / "site").symlink_to(f".worktrees/{ONE}")
        done = publish_until(step, root)
        mixed += check(root, start)
        after = Mirror(str(root / "site"), str(root))
        after.publish(str(root / ".worktrees" / TWO), TWO)
        assert after.current() == TWO
        assert read(root / "site") == SECOND
        assert sorted(os.listdir(root)) == [".git-syncer", ".worktrees", "site"]
        shutil.rmtree(root)
        if done:
            return {"steps": step - 1, "deaths": deaths, "mixed": mixed}
    raise AssertionError("it never ends")


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
