"""Copies of directories and files: row 16 of the catalogue."""

from __future__ import annotations

import posixpath

from msgspec.structs import replace

from sidecars.pods.recognise.finding import Finding, Step
from sidecars.pods.recognise.options import Options, parted
from sidecars.pods.recognise.scope import Scope, is_base, shown
from sidecars.pods.statements import Command, Statement

_CP = "r R a p f v L H P d u T x recursive archive force verbose preserve dereference update t target-directory"
_RSYNC = "a r l p t v z h P q u c archive recursive delete exclude include progress verbose quiet"
_MOST = 6
_GLOB = frozenset("*?[")
_IMAGE_VOLUME = (1, 35)
_WRONG = "a glob leaves dotfiles out, half a copy counts as one, and a second run may nest"


def copy(statement: Statement, scope: Scope) -> tuple[Step, ...] | None:
    """Recognise cp and rsync."""
    if not isinstance(statement, Command) or statement.redirects or statement.assignments:
        return None
    if statement.name == "cp":
        return _cp(statement, scope)
    return _rsync(statement, scope) if statement.name == "rsync" else None


def _cp(command: Command, scope: Scope) -> tuple[Step, ...] | None:
    options = parted(scope.texts(command)[1:], "tS", ("target-directory", "suffix"))
    into = options.value("t", "target-directory")
    sources = options.operands if into else options.operands[:-1]
    dest = f"{into}/" if into else (options.operands or [""])[-1]
    if not sources or len(sources) > _MOST:
        return None
    doubt = "" if options.only(_CP) else "it keeps what is there" if options.has("n", "no-clobber") else "its options"
    several = len(sources) > 1
    return tuple(_copied(source, dest, options, several, doubt, scope) for source in sources)


def _copied(source: str, dest: str, options: Options, several: bool, doubt: str, scope: Scope) -> Finding:
    recursive = options.has("r", "R", "a", "recursive", "archive")
    target = scope.path(dest)
    into = several or dest.endswith(("/", "/.")) or _is_mount(target, scope)
    folder, _, last = source.rpartition("/")
    links = ("--links=follow",) if not recursive or options.has("L", "dereference") else ()
    if set(last) & _GLOB:
        # What begins with two dots is where a ConfigMap's and a Secret's volume keep what their links lead to.
        extra = () if last == "*" else (f"--include={last}",)
        more = (*extra, *links, "--exclude=..*") if links else extra
        doubt = doubt or ("--include takes files of such names in directories below, too" if extra else "")
        return _finding(folder or "/", target.rstrip("/"), more, doubt, scope)
    if not recursive:
        file = f"{target.rstrip('/')}/{posixpath.basename(source)}" if into else target
        found = _finding(source, f"{target.rstrip('/')}/" if into else target, (), doubt, scope)
        return replace(found, paths=(file,), file=found.kind == "exact")
    if last == "." or options.has("T"):
        return _finding(folder or "/" if last == "." else source, target.rstrip("/"), links, doubt, scope)
    name = posixpath.basename(source.rstrip("/"))
    inside = f"{target.rstrip('/')}/{name}" if into else target
    return _finding(source.rstrip("/"), inside, links, doubt, scope)


def _is_mount(path: str, scope: Scope) -> bool:
    """It exists for sure, so that cp puts a directory into it and not in its place."""
    return any(mount[1].rstrip("/") == path.rstrip("/") for mount in scope.container.mounts)


def _rsync(command: Command, scope: Scope) -> tuple[Step, ...] | None:
    options = parted(scope.texts(command)[1:], "e", ("exclude", "include"))
    if len(options.operands) != 2 or any(":" in text for text in options.operands):
        return None
    source, dest = options.operands
    target = scope.path(dest).rstrip("/")
    if not source.endswith(("/", "/.")):
        target = f"{target}/{posixpath.basename(source)}"
    more: tuple[str, ...] = ("--mirror",) if options.has("delete") else ()
    more += tuple(f"--exclude={text}" for text in options.values.get("exclude", []))
    doubt = "" if options.only(_RSYNC) and not options.has("include") else "its options"
    return (_finding(source.removesuffix(".").rstrip("/") or "/", target, more, doubt, scope),)


def _finding(source: str, dest: str, more: tuple[str, ...], doubt: str, scope: Scope) -> Finding:
    origin = scope.path(source)
    mount = scope.mount(origin)
    finding = Finding(
        pattern=16,
        found="a copy of files",
        wrong=_WRONG,
        args=("copy", origin, dest, *more),
        paths=(dest,),
        doubt=doubt,
        read_only=(mount[1],) if mount and mount != scope.mount(dest) else (),
        notes=("--mirror removes what the source does not have, --verify compares digests",),
    )
    return finding if mount else _own(finding, origin, scope)


def _own(finding: Finding, origin: str, scope: Scope) -> Finding:
    """Tell what to do about a copy out of the container's own image, which our image does not have."""
    image, dest = scope.container.image, shown(finding.paths[0])
    found, wrong = "a copy out of its own image", f"{_WRONG}; and the image needs a shell"
    if scope.container.target >= _IMAGE_VOLUME and not is_base(image):
        volume = (scope.mount(finding.paths[0]) or ("models", "", False))[0]
        instead = (
            f"mount the image itself, without a copy: volumes: [{{name: {volume}, image: {{reference: {image}}}}}], "
            f"with subPath: {shown(origin).strip('/')}; or, where it is written to, build it FROM "
            f"sidecars/pod-init with that as /payload, mounted at /models or with INIT_DEST={dest}"
        )
        return replace(finding, kind="native", args=(), found=found, wrong=wrong, instead=instead)
    instead = (
        f"build the image FROM sidecars/pod-init, with COPY of what is in {shown(origin)} to /payload: it copies that "
        f"to /models, or to INIT_DEST={dest}, by itself"
    )
    return replace(finding, kind="partial", args=(), found=found, wrong=wrong, instead=instead)
