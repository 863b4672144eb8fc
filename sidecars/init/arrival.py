"""How what is fetched comes to DEST: as one file, or unpacked into a directory; checked first, and whole or not."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from typing import NamedTuple

from sidecars.core.errors import SidecarError, TimedOut
from sidecars.core.log import log
from sidecars.init import archives, filecopy, formats, placing, publishing, tree
from sidecars.init.archives import Budget, Rules
from sidecars.init.part import Part, Version
from sidecars.init.publishing import Publication
from sidecars.init.sources import Bounds, Changed, File
from sidecars.init.sources.file import LocalFile
from sidecars.init.tree import STAGING, Entry, Selection, Tree

_ATTEMPTS = 3  # for a source that changes while it is fetched
_PART = "part"
_LONGEST_NAME = 200  # bytes; what is beside a file has a longer name than the file


class Stamp(NamedTuple):
    """What was fetched, from where, and how: written down to know it again.

    query, how  digests: a query may hold a secret, and options are many
    place       size, time and inode of the file; of a directory, the manifest tells
    """

    uri: str
    query: str = ""
    how: str = ""
    etag: str = ""
    modified: str = ""
    size: int | None = None
    sha256: str = ""
    place: tuple[int, ...] = ()
    boot: str = ""

    @property
    def key(self) -> str:
        """What was asked for, and how."""
        return f"{self.uri} {self.query} {self.how}"

    @property
    def version(self) -> Version:
        """What the source held."""
        return Version(self.etag, self.modified, self.size)

    def text(self) -> str:
        """Write it as JSON, of which nothing is secret."""
        return json.dumps({name: value for name, value in self._asdict().items() if value not in ("", None, ())})


def stamp(text: object) -> Stamp | None:
    """Read what text() wrote; None for what is none."""
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        read = json.loads(str(text))
        return Stamp(**{**read, "place": tuple(read.get("place", ()))})
    return None


def short(text: str) -> str:
    """A digest of a text that is not to be seen, or is long; empty for none."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32] if text else ""


class Meter:
    """How far it is, for people who wait, and whether there is time left."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self.began = time.monotonic()
        self.part: Part | None = None
        self.before = 0  # bytes that an earlier run has fetched
        self.budget: Budget | None = None

    def seconds(self) -> float:
        """Seconds since the beginning."""
        return round(time.monotonic() - self.began, 3)

    def look(self) -> None:
        """Raise TimedOut when the time is up."""
        if self._timeout is not None and self.seconds() > self._timeout:
            raise TimedOut(
                f"not done within {self._timeout:g} s; give more --timeout, or run it again: it goes on there"
            )

    def save(self) -> None:
        """Note what is there, for a run after this one."""
        if self.part is not None:
            self.part.save()

    def beat(self) -> None:
        """Say how far it is."""
        if self.budget is not None:
            log.info("unpacking", bytes=self.budget.size, seconds=self.seconds())
        elif self.part is not None:
            there, size = self.part.there, self.part.version.size
            rate = (there - self.before) / max(self.seconds(), 0.001)
            left = round((size - there) / rate) if rate > 0 and size is not None else None
            share = min(100, round(100 * there / size)) if size else None
            log.info(
                "fetching", percent=share, bytes=there, megabytes_per_second=round(rate / 1e6, 1), seconds_left=left
            )

    def told(self, size: int) -> dict[str, object]:
        """What to say at the end."""
        rate = (size - self.before) / max(self.seconds(), 0.001)
        return {"bytes": size, "seconds": self.seconds(), "megabytes_per_second": round(rate / 1e6, 1)}


class Errand(NamedTuple):
    """What is to be done.

    wanted    the SHA-256 that it must have, in hex; empty: any
    mode      of a file; of those of an archive: in rules
    mirror    what of DEST is removed when it is not in the archive; None: only what an earlier version left
    """

    stamp: Stamp
    source: File
    dest: str
    bounds: Bounds
    patience: float
    wanted: str = ""
    mode: int = 0o644
    rules: Rules = Rules()
    mirror: Selection | None = None


def fetch_file(errand: Errand, meter: Meter) -> None:
    """Fetch to one file. Raises SidecarError, OSError."""
    dest = os.path.abspath(place(errand.dest, errand.source.name))
    folder, name = os.path.split(dest)
    if os.path.isdir(dest):
        raise SidecarError(f"{dest} is a directory; remove it, or name a file")
    os.makedirs(folder, exist_ok=True)
    beside = os.path.join(folder, f".{_fitting(name)}{STAGING}")
    with Part(f"{beside}.part", patience=errand.patience, limit=errand.bounds.limit) as part:
        known = _known(errand, dest, f"{beside}.json")
        if _is_right(errand, known, dest, meter):
            part.remove()
            _note(errand, dest, f"{beside}.json", known)
            _say_unchanged(dest, meter)
            return
        version = _obtain(errand, part, known, meter)
        if version is None:
            part.remove()
            _note(errand, dest, f"{beside}.json", known)
            _say_unchanged(dest, meter)
            return
        size = part.finish()
        found = _checked(errand, part.path, meter, part)
        part.publish(dest, errand.mode)
        made = errand.stamp._replace(etag=version.etag, modified=version.modified, size=size, sha256=found)
        _note(errand, dest, f"{beside}.json", made)
    log.info("fetched", uri=errand.source.shown, dest=dest, **meter.told(size))


def place(dest: str, name: str) -> str:
    """The path of the file: DEST itself, or in DEST when that is a directory or ends as one."""
    if not dest.endswith("/") and not os.path.isdir(dest):
        return dest
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise SidecarError(f"the URI ends without the name of a file, {name[:80]!r}; name DEST whole")
    return os.path.join(dest, name)


def _fitting(name: str) -> str:
    return name if len(os.fsencode(name)) <= _LONGEST_NAME else short(name)


def _known(errand: Errand, dest: str, note: str) -> Stamp | None:
    """What DEST is, if it was fetched as it is to be now, and nobody has changed it."""
    try:
        with open(note, encoding="utf-8") as file:
            known = stamp(file.read())
    except (OSError, ValueError):
        return None
    boot = publishing.boot()
    if known is None or known.key != errand.stamp.key or known.place != _look(dest) or not boot or known.boot != boot:
        return None
    return known


def _look(dest: str) -> tuple[int, ...] | None:
    try:
        status = os.lstat(dest)
    except FileNotFoundError:
        return None
    return (status.st_size, status.st_mtime_ns, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def _is_right(errand: Errand, known: Stamp | None, dest: str, meter: Meter) -> bool:
    """Whether DEST has the SHA-256 that is wanted, so that nothing has to be asked for."""
    if not errand.wanted:
        return False
    if known is not None and known.sha256:
        return known.sha256 == errand.wanted
    return _look(dest) is not None and filecopy.digest(dest, meter.look) == errand.wanted


def _note(errand: Errand, dest: str, note: str, made: Stamp | None) -> None:
    """Write down what DEST is. What cannot be written down is fetched again by the next run."""
    status = os.stat(dest)
    if stat.S_IMODE(status.st_mode) != errand.mode:
        os.chmod(dest, errand.mode)
    made = made or errand.stamp._replace(size=status.st_size, sha256=errand.wanted)
    made = made._replace(place=_look(dest) or (), boot=publishing.boot())
    with contextlib.suppress(OSError):
        temporary = f"{note}.new"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(made.text())
        os.replace(temporary, note)


def _say_unchanged(dest: str, meter: Meter) -> None:
    log.info("unchanged", dest=dest, seconds=meter.seconds())


def _obtain(errand: Errand, part: Part, known: Stamp | None, meter: Meter) -> Version | None:
    """Fetch into the part, going on with what is there; None when DEST is what the source holds."""
    source = errand.source
    if known is not None and errand.wanted and known.sha256 != errand.wanted:
        known = None
    if part.resume(errand.stamp.key) and not (_is_whole(part) and source.look(part.version) is not None):
        log.info("going on", uri=source.shown, bytes=part.there, of=part.version.size)
    else:
        version = source.look(known.version if known else None)
        if version is None:
            return None
        _start(errand, part, version)
    meter.part, meter.before = part, part.there
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            source.fill(part)
            return part.version
        except Changed as error:
            if attempt == _ATTEMPTS:
                raise SidecarError(f"{error}; fetch it when nobody writes to it") from error
            log.warning("the source has changed while it was fetched", reason=str(error), attempt=attempt)
            _start(errand, part, source.look(None) or Version())
            meter.before = 0
    raise AssertionError("the last attempt returns or raises")


def _is_whole(part: Part) -> bool:
    return all(piece.complete for piece in part.pieces)


def _start(errand: Errand, part: Part, version: Version) -> None:
    jobs, piece = errand.bounds.jobs, errand.bounds.piece
    part.start(version, piece if jobs > 1 else max(1, version.size or 1))


def _checked(errand: Errand, path: str, meter: Meter, part: Part | None = None) -> str:
    """Compute the SHA-256 if one is wanted. Raises SidecarError when it is another."""
    if not errand.wanted:
        return ""
    found = filecopy.digest(path, meter.look)
    if found != errand.wanted:
        if part is not None:
            part.remove()
        raise SidecarError(
            f"{errand.source.shown} has the SHA-256 {found}, expected {errand.wanted}; nothing was published: is it "
            "another version, or the wrong digest?"
        )
    return found


def fetch_archive(errand: Errand, meter: Meter) -> None:
    """Fetch an archive, and unpack it into the directory DEST. Raises SidecarError, OSError."""
    before = publishing.read_manifest(os.path.realpath(errand.dest))
    known = _unpacked(errand, before)
    if known is not None and errand.wanted and known.sha256 == errand.wanted:
        _say_unchanged(errand.dest, meter)
        return
    with Publication(errand.dest, patience=errand.patience) as publication:
        area = os.path.join(publication.staging, STAGING)
        os.makedirs(area, exist_ok=True)
        unpack = _unpack_local if isinstance(errand.source, LocalFile) else _unpack_fetched
        try:
            done = unpack(errand, publication, known, meter)
        except (SidecarError, OSError):
            if not os.path.exists(os.path.join(area, _PART)):
                placing.remove(publication.staging)
            raise
        if done is not None:
            made, wanted = done
            placing.remove(area)
            mode = 0o755 if errand.rules.dir_mode is None else errand.rules.dir_mode
            publication.commit(made.text(), wanted, mirror=errand.mirror, mode=mode)
            _remove_gone(publication.dest, before, wanted)
    publishing.tidy(errand.dest)
    if done is None:
        _say_unchanged(errand.dest, meter)
    else:
        files = sum(entry.kind == "file" for entry in done[1].values())
        log.info("fetched", uri=errand.source.shown, dest=errand.dest, files=files, **meter.told(done[0].size or 0))


def _unpacked(errand: Errand, before: dict[str, object] | None) -> Stamp | None:
    """What DEST was unpacked from, if that was as it is to be now, and it still holds it."""
    known = stamp(before["source"]) if before else None
    if before is None or known is None or known.key != errand.stamp.key:
        return None
    return known if publishing.holds(errand.dest, str(before["source"])) else None


Done = tuple[Stamp, Tree] | None


def _unpack_local(errand: Errand, publication: Publication, known: Stamp | None, meter: Meter) -> Done:
    """Unpack a file of this machine from where it lies."""
    assert isinstance(errand.source, LocalFile)  # noqa: S101  (for mypy)
    if known is not None and errand.wanted and known.sha256 != errand.wanted:
        known = None
    version = errand.source.look(known.version if known else None)
    if version is None:
        return None
    found = _checked(errand, errand.source.path, meter)
    wanted = _unpack(errand, errand.source.path, publication.staging, meter)
    if errand.source.look(version) is not None:
        raise SidecarError(f"{errand.source.path} changes while it is unpacked; run this when nobody writes to it")
    return errand.stamp._replace(modified=version.modified, size=version.size, sha256=found), wanted


def _unpack_fetched(errand: Errand, publication: Publication, known: Stamp | None, meter: Meter) -> Done:
    path = os.path.join(publication.staging, STAGING, _PART)
    with Part(path, patience=errand.patience, limit=errand.bounds.limit) as part:
        version = _obtain(errand, part, known, meter)
        if version is None:
            return None
        size = part.finish()
        found = _checked(errand, path, meter, part)
        try:
            wanted = _unpack(errand, path, publication.staging, meter)
        except SidecarError:
            part.remove()  # It would be no better the next time.
            raise
    return errand.stamp._replace(etag=version.etag, modified=version.modified, size=size, sha256=found), wanted


def _unpack(errand: Errand, path: str, staging: str, meter: Meter) -> Tree:
    # What a killed run has unpacked is unpacked again: nothing says which of it is whole.
    placing.remove_unwanted(staging, {}, tree.ALL)
    with open(path, "rb", buffering=1 << 20) as file:
        meter.budget = Budget(errand.rules.limits, os.fstat(file.fileno()).st_size)
        archive = formats.opened(file, errand.source.name, meter.budget)
        try:
            wanted = archives.unpack(archive, staging, errand.rules, meter.budget)
        except (SidecarError, OSError):
            placing.remove_unwanted(staging, {}, tree.ALL)
            raise
    if not wanted:
        log.warning("nothing unpacked", reason="the archive is empty, or everything is left out")
    return wanted


def _remove_gone(dest: str, before: dict[str, object] | None, wanted: Tree) -> None:
    """Remove what an earlier version has put into DEST, if it is still what it was, and is not in this one."""
    old: dict[str, Entry] = publishing.entries_of(before) if before else {}
    for path, entry in reversed(old.items()):
        whole = os.path.join(dest, path)
        if path in wanted or not _is_real(dest, path):
            continue
        with contextlib.suppress(OSError):  # A directory may hold what is somebody else's.
            placing.let_in(os.path.dirname(whole))
            if entry.kind == "dir":
                os.rmdir(whole)
            elif entry.same_content(tree.look(whole)):
                os.unlink(whole)


def _is_real(dest: str, path: str) -> bool:
    """Whether the path leads through no link: the manifest may have been written by somebody else."""
    parent = os.path.realpath(os.path.join(dest, os.path.dirname(path)))
    return ".." not in path.split("/") and parent == os.path.join(os.path.realpath(dest), os.path.dirname(path)).rstrip(
        "/"
    )
