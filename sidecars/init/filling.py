"""How what is fetched comes to fill a directory: unpacked from an archive, or file by file."""

from __future__ import annotations

import contextlib
import os

from sidecars.core.errors import SidecarError
from sidecars.core.log import log
from sidecars.init import archives, formats, manifest, placing, publishing, tree
from sidecars.init.archives import Budget
from sidecars.init.arrival import ATTEMPTS, checked, obtain, say_unchanged
from sidecars.init.errand import Errand, Meter, Stamp, stamp
from sidecars.init.part import Part
from sidecars.init.publishing import Publication
from sidecars.init.sources import Changed, Directory, File
from sidecars.init.sources.file import LocalFile
from sidecars.init.tree import STAGING, Entry, Tree

_PART = "part"


def fetch_archive(errand: Errand, source: File, meter: Meter) -> None:
    """Fetch an archive, and unpack it into the directory DEST. Raises SidecarError, OSError."""
    before = manifest.read(os.path.realpath(errand.dest))
    known = _unpacked(errand, before)
    if known is not None and errand.wanted and known.sha256 == errand.wanted:
        say_unchanged(errand.dest, meter)
        return
    with Publication(errand.dest, patience=errand.patience) as publication:
        area = os.path.join(publication.staging, STAGING)
        os.makedirs(area, exist_ok=True)
        try:
            if isinstance(source, LocalFile):
                done = _unpack_local(errand, source, publication, known, meter)
            else:
                done = _unpack_fetched(errand, source, publication, known, meter)
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
        say_unchanged(errand.dest, meter)
    else:
        files = sum(entry.kind == "file" for entry in done[1].values())
        log.info("fetched", uri=source.shown, dest=errand.dest, files=files, **meter.told(done[0].size or 0))


def _unpacked(errand: Errand, before: dict[str, object] | None) -> Stamp | None:
    """What DEST was unpacked from, if that was as it is to be now, and it still holds it."""
    known = stamp(before.get("source")) if before else None
    if before is None or known is None or known.key != errand.stamp.key:
        return None
    return known if manifest.holds(errand.dest, str(before["source"])) else None


Done = tuple[Stamp, Tree] | None


def _unpack_local(
    errand: Errand, source: LocalFile, publication: Publication, known: Stamp | None, meter: Meter
) -> Done:
    """Unpack a file of this machine from where it lies."""
    if known is not None and errand.wanted and known.sha256 != errand.wanted:
        known = None
    version = source.look(known.version if known else None)
    if version is None:
        return None
    found = checked(errand, source, source.path, meter)
    wanted = _unpack(errand, source, source.path, publication.staging, meter)
    if source.look(version) is not None:
        raise SidecarError(f"{source.path} changes while it is unpacked; run this when nobody writes to it")
    return errand.stamp._replace(modified=version.modified, size=version.size, sha256=found), wanted


def _unpack_fetched(errand: Errand, source: File, publication: Publication, known: Stamp | None, meter: Meter) -> Done:
    path = os.path.join(publication.staging, STAGING, _PART)
    with Part(path, patience=errand.patience, limit=errand.bounds.limit) as part:
        version = obtain(errand, source, part, known, meter)
        if version is None:
            return None
        size = part.finish()
        found = checked(errand, source, path, meter, part)
        try:
            wanted = _unpack(errand, source, path, publication.staging, meter)
        except SidecarError:
            part.remove()  # It would be no better the next time.
            raise
    return errand.stamp._replace(etag=version.etag, modified=version.modified, size=size, sha256=found), wanted


def _unpack(errand: Errand, source: File, path: str, staging: str, meter: Meter) -> Tree:
    # What a killed run has unpacked is unpacked again: nothing says which of it is whole.
    placing.remove_unwanted(staging, {}, tree.ALL)
    with open(path, "rb", buffering=1 << 20) as file:
        meter.budget = Budget(errand.rules.limits, os.fstat(file.fileno()).st_size)
        archive = formats.opened(file, source.name, meter.budget)
        try:
            wanted = archives.unpack(archive, staging, errand.rules, meter.budget)
        except (SidecarError, OSError):
            placing.remove_unwanted(staging, {}, tree.ALL)
            raise
    if not wanted:
        log.warning("nothing unpacked", reason="the archive is empty, or everything is left out")
    return wanted


def fetch_directory(errand: Errand, source: Directory, meter: Meter) -> None:
    """Fetch a tree of files into the directory DEST. Raises SidecarError, OSError."""
    before = manifest.read(os.path.realpath(errand.dest))
    known = _unpacked(errand, before)
    version = source.look(errand.rules)
    if known is not None and known.etag == version:
        publishing.tidy(errand.dest)
        say_unchanged(errand.dest, meter)
        return
    with Publication(errand.dest, patience=errand.patience) as publication:
        there = None if publication.new else publication.dest
        for attempt in range(1, ATTEMPTS + 1):
            try:
                wanted = source.stage(publication.staging, there, errand.rules)
                break
            except Changed as error:
                if attempt == ATTEMPTS:
                    raise SidecarError(f"{error}; fetch it when nobody writes to it") from error
                log.warning("the source has changed while it was fetched", reason=str(error), attempt=attempt)
                version = source.look(errand.rules)
        mode = 0o755 if errand.rules.dir_mode is None else errand.rules.dir_mode
        made = errand.stamp._replace(etag=version)
        publication.commit(made.text(), wanted, mirror=errand.mirror, mode=mode)
        _remove_gone(publication.dest, before, wanted)
    publishing.tidy(errand.dest)
    files = sum(entry.kind == "file" for entry in wanted.values())
    told = meter.told(meter.part.there) if meter.part else {"seconds": meter.seconds()}
    log.info("fetched", uri=source.shown, dest=errand.dest, version=version, files=files, **told)


def _remove_gone(dest: str, before: dict[str, object] | None, wanted: Tree) -> None:
    """Remove what an earlier version has put into DEST, if it is still what it was, and is not in this one."""
    old: dict[str, Entry] = manifest.entries_of(before) if before else {}
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
        folder = wanted.get(os.path.dirname(path))
        if folder is not None:
            placing.finish(os.path.dirname(whole), folder.mode)


def _is_real(dest: str, path: str) -> bool:
    """Whether the path leads through no link: the manifest may have been written by somebody else."""
    parent = os.path.realpath(os.path.join(dest, os.path.dirname(path)))
    if path.startswith("/") or ".." in path.split("/"):
        return False
    return parent == os.path.join(os.path.realpath(dest), os.path.dirname(path)).rstrip("/")
