"""pod-init copy: a directory, completely or not at all, as fast as the kernel copies; run again, it looks and ends."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from sidecars.core.errors import SidecarError, Transient, WrongSettings
from sidecars.core.log import log
from sidecars.core.settings import Help, Seconds
from sidecars.init import manifest, publishing, tree
from sidecars.init.advice import said
from sidecars.init.filecopy import copy_file, same
from sidecars.init.placing import unwanted
from sidecars.init.progress import Progress
from sidecars.init.publishing import Publication
from sidecars.init.settings import Common
from sidecars.init.staging import Copying
from sidecars.init.tree import Entry, Selection, Tree

WHAT, HOW = "What to copy", "How to copy it"
_ATTEMPTS = 3  # for a source that changes while it is copied


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
    mirror: Annotated[
        bool,
        Help(
            "Remove from DEST what is not in SRC, but for what --exclude names, or --include does not, and for what "
            "other volumes are mounted at.",
            HOW,
        ),
    ] = False
    verify: Annotated[
        bool,
        Help(
            "Read everything again and compare SHA-256 digests, which the manifest keeps; also what is there already, "
            "for sources whose files all have one time.",
            HOW,
        ),
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
            if inner == outer or (inner.startswith(f"{outer.rstrip('/')}/") and os.path.isdir(source)):
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
    progress = Progress(settings.timeout)
    try:
        entry = tree.look(settings.source, follow=True)
        if entry is None:
            raise SidecarError(f"SRC {settings.source} does not exist; is it in the image, or is its volume mounted?")
        if entry.kind == "dir":
            copy_directory(settings, progress)
        else:
            _copy_one(settings, progress)
    except OSError as error:
        raise SidecarError(said(f"copy {settings.source} to", settings.dest, error)) from error


def copy_directory(settings: Settings, progress: Progress) -> None:
    """Copy what is in a directory. Raises SidecarError, OSError."""
    found = _scan(settings)
    wanted = _mapped(found, settings)
    if not wanted:
        log.warning("nothing to copy", source=settings.source, reason="it is empty, or everything is left out")
    done = not settings.verify and _is_done(settings, wanted)
    progress.kept = sum(entry.kind == "file" for entry in wanted.values()) if done else 0
    if not done:
        with Publication(settings.dest, patience=settings.timeout or 3600.0) as publication:
            # Another process may have done it since.
            done = _is_done(settings, wanted)
            if settings.verify or not done:
                _publish(settings, publication, found, progress)
    publishing.tidy(settings.dest)
    log.info("unchanged" if done and not progress.files else "copied", dest=settings.dest, **progress.told())


def _publish(settings: Settings, publication: Publication, found: Tree, progress: Progress) -> None:
    copying = Copying(os.path.abspath(settings.source), publication, progress, settings.jobs, settings.verify)
    wanted = _stage(settings, copying, found)
    publication.commit(
        os.path.abspath(settings.source),
        wanted,
        digests=copying.digests,
        mirror=Selection(settings.include, settings.exclude) if settings.mirror else None,
        mode=_mode(settings),
    )


def _mode(settings: Settings) -> int:
    root = tree.look(settings.source, follow=True)
    return tree.checked_mode("--dir-mode", settings.dir_mode) or (root.mode if root else 0o755)


def _scan(settings: Settings) -> Tree:
    selection = Selection(settings.include, settings.exclude)
    return tree.scan(os.path.abspath(settings.source), selection, follow=settings.links == "follow")


def _stage(settings: Settings, copying: Copying, found: Tree) -> Tree:
    """Stage the source, and again when it has changed meanwhile; what DEST is to hold, all of one moment."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            wanted = _mapped(found, settings)
            copying.run(found, wanted)
            before, found = found, _scan(settings)
            if found != before:
                raise Transient(f"SRC {settings.source} changes while it is copied")
            return wanted
        except Transient as error:
            if attempt == _ATTEMPTS:
                raise SidecarError(f"{error}; copy it when nobody writes to it") from error
            found = _scan(settings)
            log.warning("the source has changed while it was copied", reason=str(error), attempt=attempt)
    raise AssertionError("the last attempt returns or raises")


def _mapped(found: Tree, settings: Settings) -> Tree:
    """Give the entries as they are to be, with the permissions that are asked for.

    The copy has another owner than the file: the bits that would let everybody act as that owner are not kept.
    """
    modes = {
        "file": tree.checked_mode("--mode", settings.mode),
        "dir": tree.checked_mode("--dir-mode", settings.dir_mode),
    }

    def mapped(entry: Entry) -> Entry:
        mode = modes.get(entry.kind)
        if mode is not None:
            return entry._replace(mode=mode)
        return entry._replace(mode=entry.mode & 0o1777) if entry.kind == "file" else entry

    return {path: mapped(entry) for path, entry in found.items()}


def _is_done(settings: Settings, wanted: Tree) -> bool:
    changed = tree.changed(settings.source, wanted, follow=settings.links == "follow")
    if not manifest.complete(settings.dest, wanted, changed):
        return False
    return not settings.mirror or not unwanted(settings.dest, wanted, Selection(settings.include, settings.exclude))


def _copy_one(settings: Settings, progress: Progress) -> None:
    """Copy a single file: to a name, or into a directory that is there or is written with a slash at its end."""
    dest = settings.dest
    if dest.endswith("/") or os.path.isdir(dest):
        dest = os.path.join(dest, os.path.basename(settings.source))
    folder = os.path.dirname(os.path.abspath(dest))
    os.makedirs(folder, exist_ok=True)
    with publishing.alone(folder, settings.timeout or 3600.0):
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                changed = _replace(settings, dest, progress)
                break
            except Transient as error:
                if attempt == _ATTEMPTS:
                    raise SidecarError(f"{error}; copy it when nobody writes to it") from error
    log.info("copied" if changed else "unchanged", dest=dest, **progress.told())


def _replace(settings: Settings, dest: str, progress: Progress) -> bool:
    """Put the file in place, unless it is there. Raises Transient when it changes meanwhile."""
    found = tree.look(settings.source, follow=True)
    if found is None or found.kind != "file":
        raise SidecarError(f"SRC {settings.source} is neither a file nor a directory; name one")
    wanted = _mapped({"": found}, settings)[""]
    if tree.look(dest) == wanted and (not settings.verify or same(settings.source, dest, progress.look)[0]):
        progress.kept_one()
        return False
    staged = os.path.join(os.path.dirname(os.path.abspath(dest)), f".file{tree.STAGING}")
    copy_file(settings.source, staged, found, wanted, progress.add)
    if settings.verify and not same(settings.source, staged, progress.look)[0]:
        raise SidecarError(f"{settings.source} was copied wrongly, its SHA-256 is another; is the disk sound?")
    os.replace(staged, dest)
    progress.copied_one()
    return True
