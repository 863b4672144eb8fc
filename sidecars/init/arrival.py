"""How a file that is fetched comes to its place: checked first, and whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat

from sidecars.core.errors import SidecarError
from sidecars.core.log import log
from sidecars.init import filecopy, manifest
from sidecars.init.errand import Errand, Meter, Stamp, short, stamp
from sidecars.init.part import Part, Version
from sidecars.init.part import note as write_note
from sidecars.init.sources import Changed, File
from sidecars.init.tree import STAGING

ATTEMPTS = 3  # for a source that changes while it is fetched
_LONGEST_NAME = 200  # bytes; what is beside a file has a longer name than the file


def fetch_file(errand: Errand, source: File, meter: Meter) -> None:
    """Fetch to one file. Raises SidecarError, OSError."""
    dest = os.path.abspath(place(errand.dest, source.name))
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
            say_unchanged(dest, meter)
            return
        version = obtain(errand, source, part, known, meter)
        if version is None:
            part.remove()
            _note(errand, dest, f"{beside}.json", known)
            say_unchanged(dest, meter)
            return
        size = part.finish()
        found = checked(errand, source, part.path, meter, part)
        part.publish(dest, errand.mode)
        made = errand.stamp._replace(etag=version.etag, modified=version.modified, size=size, sha256=found)
        _note(errand, dest, f"{beside}.json", made)
    log.info("fetched", uri=source.shown, dest=dest, **meter.told(size))


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
    boot = manifest.boot()
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


def _note(errand: Errand, dest: str, beside: str, made: Stamp | None) -> None:
    """Write down what DEST is. What cannot be written down is fetched again by the next run."""
    status = os.stat(dest)
    if stat.S_IMODE(status.st_mode) != errand.mode:
        os.chmod(dest, errand.mode)
    made = made or errand.stamp._replace(size=status.st_size, sha256=errand.wanted)
    made = made._replace(place=_look(dest) or (), boot=manifest.boot())
    with contextlib.suppress(OSError):
        write_note(beside, made.text())


def say_unchanged(dest: str, meter: Meter) -> None:
    """Say that DEST is what the source holds."""
    log.info("unchanged", dest=dest, seconds=meter.seconds())


def obtain(errand: Errand, source: File, part: Part, known: Stamp | None, meter: Meter) -> Version | None:
    """Fetch into the part, going on with what is there; None when DEST is what the source holds."""
    if known is not None and errand.wanted and known.sha256 != errand.wanted:
        known = None
    if part.resume(f"{errand.stamp.uri} {errand.stamp.query}") and not (
        _is_whole(part) and source.look(part.version) is not None
    ):
        log.info("going on", uri=source.shown, bytes=part.there, of=part.version.size)
    else:
        version = source.look(known.version if known else None)
        if version is None:
            return None
        _start(errand, part, version)
    meter.part, meter.before = part, part.there
    for attempt in range(1, ATTEMPTS + 1):
        try:
            source.fill(part)
            return part.version
        except Changed as error:
            if attempt == ATTEMPTS:
                raise SidecarError(f"{error}; fetch it when nobody writes to it") from error
            log.warning("the source has changed while it was fetched", reason=str(error), attempt=attempt)
            _start(errand, part, source.look(None) or Version())
            meter.before = 0
    raise AssertionError("the last attempt returns or raises")


def _is_whole(part: Part) -> bool:
    return all(piece.complete for piece in part.pieces)


def _start(errand: Errand, part: Part, version: Version) -> None:
    bounds, size = errand.bounds, version.size or 1
    if bounds.jobs > 1:
        part.start(version, bounds.first, bounds.rest(size))
    else:
        part.start(version, size, size)


def checked(errand: Errand, source: File, path: str, meter: Meter, part: Part | None = None) -> str:
    """Compute the SHA-256 if one is wanted. Raises SidecarError when it is another."""
    if not errand.wanted:
        return ""
    found = filecopy.digest(path, meter.look)
    if found != errand.wanted:
        if part is not None:
            part.remove()
        raise SidecarError(
            f"{source.shown} has the SHA-256 {found}, expected {errand.wanted}; nothing was published: is it "
            "another version, or the wrong digest?"
        )
    return found
