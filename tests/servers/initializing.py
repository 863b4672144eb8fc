"""pod-init under test, as a process that ends, and trees to copy."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "sidecars.init")
OURS = {".pod-init.json", ".pod-init"}
PATIENCE = 30.0
# As another user, who may not do what root may; the interpreter may lie where others cannot go, so reading stays.
AS_OTHER = (
    "setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search", "--",
)  # fmt: skip


class Done:
    """How a run of pod-init has ended.

    code, events  its exit code, and what it has logged
    stderr        all that it wrote there
    message       the termination message
    """

    def __init__(self, code: int, stderr: str, message: str) -> None:
        self.code, self.stderr, self.message = code, stderr, message
        self.events: list[dict[str, Any]] = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]

    def said(self, event: str) -> dict[str, Any]:
        """The first event of this name."""
        found = [each for each in self.events if each["event"] == event]
        assert found, self.stderr
        return found[0]

    def well(self) -> Done:
        """This, which ended well and left no message."""
        assert (self.code, self.message) == (0, ""), self.stderr
        return self

    def failed(self, code: int) -> str:
        """The reason of a failure with this code: in the termination message, and on stderr."""
        assert self.code == code, self.stderr
        assert self.message and (self.message in self.stderr or self.said("failed")["reason"] == self.message)
        return self.message


def start(
    folder: Path, *words: str | Path | bytes, under: Sequence[str] = (), env: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start pod-init with these words; the termination message goes into the folder."""
    told = {"INIT_TERMINATION_LOG": str(folder / "termination"), "INIT_LOG_FORMAT": "json", **(env or {})}
    options: dict[str, Any] = {"cwd": ROOT, "env": {**os.environ, **told}, "stdin": subprocess.DEVNULL}
    return subprocess.Popen([*under, *COMMAND, *words], stderr=subprocess.PIPE, **options)


def ended(folder: Path, process: subprocess.Popen[bytes]) -> Done:
    """Wait until it has ended."""
    try:
        stderr = process.communicate(timeout=PATIENCE)[1]
    finally:
        process.kill()
    message = folder / "termination"
    return Done(process.returncode, stderr.decode(), message.read_text() if message.exists() else "")


def init(folder: Path, *words: str | Path | bytes, **options: Any) -> Done:
    """Run pod-init with these words."""
    (folder / "termination").unlink(missing_ok=True)
    return ended(folder, start(folder, *words, **options))


def content(root: Path | bytes, ours: bool = False) -> dict[bytes, tuple[Any, ...]]:
    """All that is below a directory: kind, permissions, content and time of each entry, by path."""
    found: dict[bytes, tuple[Any, ...]] = {}
    top = os.fsencode(root)
    for base, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = os.path.join(base, name)
            status = os.lstat(path)
            relative = os.path.relpath(path, top)
            if os.path.islink(path):
                found[relative] = ("link", os.readlink(path))
            elif os.path.isdir(path):
                found[relative] = ("dir", status.st_mode & 0o7777)
            else:
                with open(path, "rb") as file:
                    found[relative] = ("file", status.st_mode & 0o7777, status.st_mtime_ns, file.read())
    return {path: entry for path, entry in found.items() if ours or path.split(b"/")[0].decode("latin-1") not in OURS}


def tree(root: Path, dice: random.Random, files: int = 12) -> None:
    """Make a directory with files, empty ones, directories, also such as nobody may write to, and links."""
    root.mkdir(exist_ok=True)
    folders = [root]
    for number in range(dice.randrange(6)):
        folders.append(dice.choice(folders) / f"d{number}")
        folders[-1].mkdir(exist_ok=True)
    for number in range(dice.randrange(1, files)):
        change(dice.choice(folders) / f"f{number}", dice)
    for number in range(dice.randrange(3)):
        (dice.choice(folders) / f"l{number}").symlink_to(dice.choice(["nowhere", "/etc/hostname", "f0", "d0", ".."]))
    for folder in folders[1:]:
        folder.chmod(dice.choice((0o755, 0o755, 0o700, 0o555, 0o2775)))


def change(path: Path, dice: random.Random) -> None:
    """Give a file another content, and sometimes another mode."""
    size = dice.choice((0, 1, 5, dice.randrange(10_000), dice.randrange(200_000)))
    path.unlink(missing_ok=True)
    path.write_bytes(dice.randbytes(size))
    path.chmod(dice.choice((0o644, 0o644, 0o640, 0o755, 0o444)))
