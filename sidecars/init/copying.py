"""pod-init copy: a directory, completely or not at all, as fast as the kernel copies; run again, it looks and ends."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Annotated, Literal, NamedTuple

from sidecars.core.errors import SidecarError, TimedOut, Transient, WrongSettings
from sidecars.core.log import log
from sidecars.core.settings import Help, Seconds
from sidecars.init import publishing, tree
from sidecars.init.advice import said
from sidecars.init.filecopy import copy_file, same
from sidecars.init.publishing import Publication
from sidecars.init.settings import Common
from sidecars.init.tree import Entry, Selection, Tree

WHAT, HOW = "What to copy", "How to copy it"
_HEARTBEAT = 10.0  # seconds between two lines that say how far it is
_ATTEMPTS = 3  # for a file that changes while it is read


class Settings(Common, frozen=True, kw_only=True):
    """Copy a directory, or a file, completely or not at all. Run again, it looks at sizes and times, and ends.

    The contents of SRC come into DEST, whether DEST is there or not, dotfiles too; it never nests. A DEST that has a
    .pod-init.json is complete. In an image made FROM this one, `pod-init` alone copies /payload to /models.

        pod-init copy /usr/src/model /models
        pod-init copy /app/static/ /shared --mirror --exclude '*.map' --mode 0640 --dir-mode 0750
    """

    paths: Annotated[
        tuple[str, ...], Help("From where, and where to: two paths.", WHAT, metavar="SRC DEST", positional=True)
    ] = ()
    include: Annotated[
        tuple[str, ...], Help("Only files like this: by name, or by path if it has a slash.", WHAT, "GLOB")
    ] = ()
    exclude: Annotated[tuple[str, ...], Help("Leave out files and directories like this.", WHAT, "GLOB")] = ()
    links: Annotated[Literal["keep", "follow"], Help("Keep symlinks as they are, or copy what they lead to.", WHAT)] = (
        "keep"
    )
    mirror: Annotated[bool, Help("Remove from DEST what is not in SRC, but for what --exclude names.", HOW)] = False
    verify: Annotated[
        bool, Help("Read everything again and compare SHA-256 digests, which the manifest keeps.", HOW)
    ] = False
    mode: Annotated[str | None, Help("Permissions of files.", HOW, "OCTAL", none="", default="as they are in SRC")] = (
        None
    )
    dir_mode: Annotated[
        str | None, Help("Permissions of directories.", HOW, "OCTAL", none="", default="as they are in SRC")
    ] = None
    jobs: Annotated[int | None, Help("Files at once.", HOW, "N", none="", default="one for each CPU, and one more")] = (
        None
    )
    timeout: Annotated[Seconds | None, Help("End with exit code 124 after this time.", HOW)] = None

    def __post_init__(self) -> None:
        """Check what no single setting can say; WrongSettings."""
        if len(self.paths) != 2 or not all(self.paths):
            raise WrongSettings(
                f"copy needs SRC and DEST, and got {len(self.paths)} paths: pod-init copy /usr/src/model /models"
            )
        tree.checked_mode("--mode", self.mode)
        tree.checked_mode("--dir-mode", self.dir_mode)
        if self.jobs is not None and not 1 <= self.jobs <= 64:
            raise WrongSettings(f"--jobs is {self.jobs}, expected 1 to 64")
        source, dest = os.path.realpath(self.source), os.path.realpath(self.dest)
        for inner, outer, words in ((dest, source, "lies in SRC"), (source, dest, "holds SRC")):
            if inner == outer or (inner.startswith(f"{outer}/") and os.path.isdir(source)):
                what = "is SRC itself" if inner == outer else words
                raise WrongSettings(f"DEST {self.dest} {what} {self.source}; name another directory")

    @property
    def source(self) -> str:
        """From where."""
        return self.paths[0]

    @property
    def dest(self) -> str:
        """Where to."""
        return self.paths[1]


def run(settings: Settings) -> None:
    """Copy. Raises SidecarError."""
    began = time.monotonic()
    try:
        _run(settings, Progress(began, settings.timeout))
    except OSError as error:
        raise SidecarError(said(f"copy {settings.source} to", settings.dest, error)) from error


def _run(settings: Settings, progress: Progress) -> None:
    source = os.path.abspath(settings.source)
    entry = tree.look(source, follow=True)
    if entry is None:
        raise SidecarError(f"SRC {settings.source} does not exist; is it in the image, or is its volume mounted?")
    if entry.kind == "file":
        _copy_one(settings, entry, progress)
        return
    selection = Selection(settings.include, settings.exclude)
    found = tree.scan(source, selection, follow=settings.links == "follow")
    wanted = _mapped(found, settings)
    if not found:
        log.warning("nothing to copy", source=source, reason="it is empty, or everything is left out")
    if publishing.complete(settings.dest, wanted) and not (
        settings.mirror and _extra(settings.dest, wanted, selection)
    ):
        log.info("unchanged", dest=settings.dest, files=_files(wanted), seconds=progress.seconds())
        return
    with Publication(settings.dest, patience=settings.timeout or 3600.0) as publication:
        digests = Copying(settings, source, found, wanted, publication, progress).run()
        publication.commit(
            source,
            wanted,
            digests=digests,
            spare=selection.leaves_out if settings.mirror else None,
            mode=entry.mode if settings.dir_mode is None else tree.mode(settings.dir_mode),
        )
    log.info("copied", dest=settings.dest, **progress.told())


def _mapped(found: Tree, settings: Settings) -> Tree:
    """The entries as they are to be, with the permissions that are asked for."""
    modes = {
        "file": tree.checked_mode("--mode", settings.mode),
        "dir": tree.checked_mode("--dir-mode", settings.dir_mode),
        "link": None,
    }
    return {
        path: entry if modes[entry.kind] is None else entry._replace(mode=modes[entry.kind] or 0)
        for path, entry in found.items()
    }


def _extra(dest: str, wanted: Tree, selection: Selection) -> bool:
    return next(publishing.unwanted(dest, wanted, selection.leaves_out), None) is not None


def _files(wanted: Tree) -> int:
    return sum(entry.kind == "file" for entry in wanted.values())


class Progress:
    """How far it is, for people who wait, and whether there is time left."""

    def __init__(self, began: float, timeout: float | None = None) -> None:
        self._began = began
        self._until = None if timeout is None else began + timeout
        self._lock = threading.Lock()
        self.expected = 0
        self.copied = 0
        self.files = 0
        self.kept = 0

    def add(self, count: int) -> None:
        """Count bytes. Raises TimedOut when the time is up."""
        with self._lock:
            self.copied += count
        if self._until is not None and time.monotonic() > self._until:
            raise TimedOut(f"not done within {self._until - self._began:g} s; give more --timeout, or run it again")

    def seconds(self) -> float:
        """Seconds since the beginning."""
        return round(time.monotonic() - self._began, 3)

    def told(self) -> dict[str, object]:
        """What to say at the end."""
        return {"files": self.files, "kept": self.kept, "bytes": self.copied, "seconds": self.seconds()}

    def beat(self) -> None:
        """Say how far it is."""
        seconds = max(self.seconds(), 0.001)
        rate = self.copied / seconds
        left = round((self.expected - self.copied) / rate) if rate else None
        share = round(100 * self.copied / self.expected) if self.expected else 100
        log.info("copying", percent=share, megabytes_per_second=round(rate / 1e6, 1), seconds_left=left)


class Task(NamedTuple):
    """A file to copy: where from, where to, and what it is to be like."""

    path: str
    source: str
    staged: str
    found: Entry
    wanted: Entry


def _link(place: str, target: str) -> None:
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(place)
    os.symlink(target, place)


class Copying:
    """The work itself: what is not in place and not staged yet is staged, several files at a time."""

    def __init__(
        self, settings: Settings, source: str, found: Tree, wanted: Tree, publication: Publication, progress: Progress
    ) -> None:
        self._settings = settings
        self._source, self._found, self._wanted = source, found, wanted
        self._publication = publication
        self._progress = progress
        self._digests: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        """Stage what is missing; the digests by path, where they are asked for."""
        staging = self._publication.staging
        publishing.remove_unwanted(staging, self._wanted, lambda _: False)
        tasks = list(self._tasks(staging))
        self._progress.expected = sum(task.wanted.size for task in tasks)
        self._check_space(staging)
        workers = self._settings.jobs or len(os.sched_getaffinity(0)) + 1
        with_largest_first = sorted(tasks, key=lambda task: -task.wanted.size)
        pool = ThreadPoolExecutor(workers, thread_name_prefix="copy")
        try:
            self._wait([pool.submit(self._copy, task) for task in with_largest_first])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return self._digests

    def _tasks(self, staging: str) -> Iterator[Task]:
        """Give the files to copy; make directories and links on the way."""
        placed = {} if self._publication.new else tree.there(self._publication.dest, self._wanted)
        staged = tree.there(staging, self._wanted)
        for path, entry in self._wanted.items():
            if self._is_there(path, entry, placed.get(path)):
                continue
            place, before = os.path.join(staging, path), staged.get(path)
            if before is not None and before.kind != entry.kind:
                publishing.remove(place)
                before = None
            if entry.kind == "file":
                if not entry.same_content(before) or self._settings.verify:
                    os.makedirs(os.path.dirname(place), exist_ok=True)
                    yield Task(path, os.path.join(self._source, path), place, self._found[path], entry)
            elif entry.kind == "dir":
                os.makedirs(place, exist_ok=True)
            elif before != entry:
                _link(place, entry.target)

    def _is_there(self, path: str, entry: Entry, placed: Entry | None) -> bool:
        """Whether the entry is in place already, permissions set right."""
        if placed is None or not entry.same_content(placed):
            return False
        place = os.path.join(self._publication.dest, path)
        if entry.kind == "file":
            if self._settings.verify and not self._verified(path, place):
                return False
            if entry.mode != placed.mode:
                return False
            self._progress.kept += 1
        return True

    def _verified(self, path: str, place: str) -> bool:
        equal, self._digests[path] = same(os.path.join(self._source, path), place)
        return equal

    def _check_space(self, staging: str) -> None:
        room = os.statvfs(staging)
        free = room.f_bavail * room.f_frsize
        if self._progress.expected > free:
            raise SidecarError(
                f"DEST {self._settings.dest} has no room: {self._progress.expected:,} bytes are needed, {free:,} are "
                "free; give the volume a larger sizeLimit"
            )

    def _wait(self, futures: list[Future[None]]) -> None:
        pending = set(futures)
        while pending:
            done, pending = wait(pending, timeout=_HEARTBEAT, return_when=FIRST_EXCEPTION)
            for each in done:
                each.result()
            if pending:
                self._progress.beat()

    def _copy(self, task: Task) -> None:
        """Copy a file; one that changes meanwhile is copied again."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._attempt(task)
            except Transient as error:
                log.warning("a file has changed while it was copied", path=task.source, attempt=attempt)
                if attempt == _ATTEMPTS:
                    raise SidecarError(f"{error}; copy it when nobody writes to it") from error
                continue
            self._progress.files += 1
            return

    def _attempt(self, task: Task) -> None:
        """Copy a file once; its time is set last, so that one left half copied is known by it."""
        copy_file(task.source, task.staged, task.found, task.wanted, self._progress.add)
        if self._settings.verify:
            equal, self._digests[task.path] = same(task.source, task.staged)
            if not equal:
                os.unlink(task.staged)
                raise SidecarError(f"{task.source} was copied wrongly, its SHA-256 is another; is the disk sound?")


def _copy_one(settings: Settings, entry: Entry, progress: Progress) -> None:
    """Copy a single file: to a name, or into a directory that is there or is written with a slash at its end."""
    dest = settings.dest
    if dest.endswith("/") or os.path.isdir(dest):
        dest = os.path.join(dest, os.path.basename(settings.source))
    mode = tree.checked_mode("--mode", settings.mode)
    wanted = entry if mode is None else entry._replace(mode=mode)
    if tree.look(dest) == wanted and (not settings.verify or same(settings.source, dest)[0]):
        log.info("unchanged", dest=dest, files=1, seconds=progress.seconds())
        return
    os.makedirs(os.path.dirname(os.path.abspath(dest)), exist_ok=True)
    staged = os.path.join(os.path.dirname(os.path.abspath(dest)), f".{os.path.basename(dest)}{publishing.STAGING}")
    copy_file(settings.source, staged, entry, wanted, progress.add)
    if settings.verify and not same(settings.source, staged)[0]:
        raise SidecarError(f"{settings.source} was copied wrongly; is the disk sound?")
    os.replace(staged, dest)
    progress.files = 1
    log.info("copied", dest=dest, **progress.told())
