"""The work of a copy: what is not in place and not staged yet is staged, several files at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from sidecars.core.errors import SidecarError, Transient
from sidecars.init import manifest, placing, tree
from sidecars.init.filecopy import copy_file, same
from sidecars.init.progress import Progress
from sidecars.init.publishing import Publication
from sidecars.init.tree import ALL, Entry, Tree

_SMALL, _TOGETHER = 64 << 10, 64  # bytes of a file that is copied with others, to spare its share of a thread's work
_HEARTBEAT = 10.0  # seconds between two lines that say how far it is


class Task(NamedTuple):
    """A file to copy: where from, where to, and what it is to be like.

    there  where it is already, by its size and time: it is to be read before that is believed
    """

    path: str
    source: str
    staged: str
    found: Entry
    wanted: Entry
    there: str = ""


class Copying:
    """Fills the staging directory of a publication.

    found, wanted  the entries of the source, as they are and as they are to be
    verify         read both ends of each file, and compare
    digests        SHA-256 of files by path, in hex, where they were computed
    """

    def __init__(self, source: str, publication: Publication, progress: Progress, jobs: int | None, verify: bool):
        self._source, self._publication, self._progress = source, publication, progress
        self._jobs = jobs or processors() + 1
        self._verify = verify
        self._doubted = manifest.doubted(publication.dest)
        self._booted = manifest.booted()
        self.digests: dict[str, str] = {}

    def run(self, found: Tree, wanted: Tree) -> None:
        """Stage what is missing. Raises Transient when the source changes meanwhile."""
        staging = self._publication.staging
        self.digests.clear()
        self._progress.kept = 0
        placing.remove_unwanted(staging, wanted, ALL)
        tasks = list(self._tasks(staging, found, wanted))
        self._progress.expected = self._progress.copied + sum(task.found.size for task in tasks if not task.there)
        self._check_space([task for task in tasks if not task.there])
        pool = ThreadPoolExecutor(self._jobs, thread_name_prefix="copy")
        try:
            self._wait([pool.submit(self._do_each, several) for several in _batches(tasks)])
        except Transient:
            pool.shutdown(cancel_futures=True)  # None may write any more when this is begun anew.
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _tasks(self, staging: str, found: Tree, wanted: Tree) -> Iterator[Task]:
        """Give the files to copy; make directories and links on the way."""
        placed = {} if self._publication.new else tree.there(self._publication.dest, wanted)
        staged = tree.there(staging, wanted)
        for path, entry in wanted.items():
            place, before = os.path.join(staging, path), staged.get(path)
            if before is not None and before.kind != entry.kind:
                placing.remove(place)
                before = None
            if entry.kind == "file":
                yield from self._task(Task(path, os.path.join(self._source, path), place, found[path], entry),
                                      placed.get(path), before)  # fmt: skip
            elif entry.same_content(placed.get(path)):
                continue
            elif entry.kind == "dir":
                os.makedirs(place, exist_ok=True)
            elif before != entry:
                _link(place, entry.target)

    def _task(self, task: Task, placed: Entry | None, staged: Entry | None) -> Iterator[Task]:
        """Give what there is to do for a file: nothing, to read it, or to copy it."""
        place = os.path.join(self._publication.dest, task.path)
        for before, there in ((placed, place), (staged, task.staged)):
            if task.wanted.same_content(before):
                if self._verify or self._doubts(there, task.source):
                    yield task._replace(there=there)
                else:
                    self._progress.kept_one()
                return
        yield task

    def _doubts(self, path: str, source: str) -> bool:
        """Whether a file is older than this boot or than the source: size and time may be the same by chance.

        After a crash they may be there without the content; and all files of a reproducible image have one time.
        """
        with contextlib.suppress(FileNotFoundError):
            return self._doubted or os.lstat(path).st_ctime < max(self._booted, os.stat(source).st_ctime)
        return True

    def _check_space(self, tasks: list[Task]) -> None:
        staging = self._publication.staging
        room = os.statvfs(staging)
        free = room.f_bavail * room.f_frsize
        # A file system that tells nothing has no blocks; and on the source's own it may need none, for clones.
        if sum(task.found.size for task in tasks) <= free or not room.f_blocks or _on_one(self._source, staging):
            return
        needed = sum(_allocated(task.source) for task in tasks)
        if needed > free:
            raise SidecarError(
                f"DEST {self._publication.dest} has no room: {needed:,} bytes are needed, {free:,} are free; give the "
                "volume a larger sizeLimit"
            )

    def _wait(self, futures: list[Future[None]]) -> None:
        pending = set(futures)
        while pending:
            done, pending = wait(pending, timeout=_HEARTBEAT, return_when=FIRST_EXCEPTION)
            for each in done:
                each.result()
            if pending:
                self._progress.beat()

    def _do_each(self, tasks: list[Task]) -> None:
        for task in tasks:
            self._do(task)

    def _do(self, task: Task) -> None:
        if task.there and self._is_same(task, task.there):
            self._progress.kept_one()
            return
        copy_file(task.source, task.staged, task.found, task.wanted, self._progress.add)
        if self._verify and not self._is_same(task, task.staged):
            os.unlink(task.staged)
            raise SidecarError(f"{task.source} was copied wrongly, its SHA-256 is another; is the disk sound?")
        self._progress.copied_one()

    def _is_same(self, task: Task, place: str) -> bool:
        try:
            equal, digest = same(task.source, place, self._progress.look)
        except FileNotFoundError as error:
            raise Transient(f"{task.source} was removed while it was to be copied") from error
        if self._verify:
            self.digests[task.path] = digest
        return equal


def _batches(tasks: list[Task]) -> Iterator[list[Task]]:
    """Give large files one by one, the largest first, and then the small ones, several at a time."""
    small = [task for task in tasks if task.found.size < _SMALL]
    large = (task for task in tasks if task.found.size >= _SMALL)
    yield from ([task] for task in sorted(large, key=lambda task: -task.found.size))
    yield from (small[start : start + _TOGETHER] for start in range(0, len(small), _TOGETHER))


def _link(place: str, target: str) -> None:
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(place)
    os.symlink(target, place)


def _allocated(path: str) -> int:
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(path)
        return min(status.st_size, status.st_blocks * 512)
    return 0


def _on_one(source: str, target: str) -> bool:
    return os.stat(source).st_dev == os.stat(target).st_dev


def processors() -> int:
    """Give how many CPUs this process may use: those of its affinity, or fewer where its cgroup has a quota."""
    count = len(os.sched_getaffinity(0))
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        return max(1, min(count, -(-int(quota) // int(period))))
    except (OSError, ValueError):
        return count  # No cgroup v2, or "max".
