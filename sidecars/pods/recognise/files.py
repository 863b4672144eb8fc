"""Directories and files that are made, written and changed: rows 17 to 19 and 27 to 29 of the catalogue."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from sidecars.pods.recognise import idle
from sidecars.pods.recognise.finding import Change, Finding, Step
from sidecars.pods.recognise.options import parted
from sidecars.pods.recognise.scope import Scope
from sidecars.pods.recognise.writing import write
from sidecars.pods.statements import Command, Pipeline, Redirect, Statement

_NAME = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")
_OCTAL = re.compile(r"[0-7]{3,4}")
_MODE = "2775"


def change(statement: Statement, scope: Scope) -> tuple[Step, ...] | None:
    """Recognise what is done to directories and files."""
    match statement:
        case Command() if statement.name in _COMMANDS and not statement.assignments:
            return _COMMANDS[statement.name](statement, scope)
        case Pipeline([Command() as first, Command() as last]) if first.name == "cat" and last.name == "envsubst":
            match first.words:
                case [_, template]:
                    return _substituted(last, scope.text(template), scope)
    return write(statement, scope)


def _mkdir(command: Command, scope: Scope) -> tuple[Step, ...] | None:
    options = parted(scope.texts(command)[1:], "m", ("mode",))
    if not options.operands or not idle.quiet(command.redirects):
        return None
    mode = options.value("m", "mode") or _MODE
    paths = tuple(path for each in options.operands if not _is_mounted(path := scope.path(each).rstrip("/"), scope))
    if not paths:
        return ()
    finding = Finding(
        pattern=17,
        found="directories made by a shell",
        wrong="made by root, no other user may write to them, and nobody says whose they are",
        args=("mkdir", *paths, f"--mode={mode}"),
        paths=paths,
        doubt="" if options.only("p v m mode parents verbose") and _OCTAL.fullmatch(mode) else "its options",
        notes=("the pod's fsGroup owns what is made on a volume, and 2775 hands the group down",),
    )
    return (finding,)


def _is_mounted(path: str, scope: Scope) -> bool:
    """The directory is there already, and is not ours to change."""
    return any(mount[1].rstrip("/") == path for mount in scope.container.mounts)


def _owner(command: Command, scope: Scope) -> tuple[Step, ...] | None:
    options = parted(scope.texts(command)[1:], "", ("reference", "from"))
    if len(options.operands) < 2:
        return None
    owner, *paths = options.operands
    detail = f":{owner}" if command.name == "chgrp" else owner
    return (Change("chown", tuple(map(scope.path, paths)), (detail,)),)


def _chmod(command: Command, scope: Scope) -> tuple[Step, ...] | None:
    options = parted(scope.texts(command)[1:], "", ("reference",))
    if len(options.operands) < 2:
        return None
    mode, *paths = options.operands
    return (Change("chmod", tuple(map(scope.path, paths)), (mode,)),)


def _remove(command: Command, scope: Scope) -> tuple[Step, ...] | None:
    paths = parted(scope.texts(command)[1:]).operands
    if not paths:
        return None
    if not all(path.rstrip("/").endswith("/lost+found") for path in paths):
        return (Change("remove", tuple(map(scope.path, paths))),)
    finding = Finding(
        kind="native",
        pattern=19,
        found="lost+found removed from a data directory",
        wrong="it deletes in a data directory at each start",
        instead="mount the volume with a subPath, or let the application use a directory below it, as PGDATA does",
    )
    return (finding,)


def _envsubst(command: Command, scope: Scope) -> tuple[Step, ...] | None:
    sources = [redirect for redirect in command.redirects if redirect.operator == "<"]
    return _substituted(command, scope.text(sources[0].word), scope) if len(sources) == 1 else None


def _substituted(command: Command, template: str, scope: Scope) -> tuple[Step, ...] | None:
    """Read `envsubst '$A $B' < TEMPLATE > OUT`."""
    output = output_of(command.redirects)
    if output is None:
        return None
    words = scope.texts(command)[1:]
    listed = [name for word in command.words[1:] for name in _NAME.findall(str(word))]
    names = list(dict.fromkeys(listed)) or sorted(scope.container.env)
    doubt = "it replaces every variable: say which, by --vars" if not listed and scope.container.env_from else ""
    unknown = [name for name in names if name not in scope.container.env]
    if not names or unknown:
        doubt = doubt or "which variables it replaces is not in the manifest: say so by --vars"
    if len(words) > 1:
        doubt = doubt or "its options"
    source, dest = scope.path(template), scope.path(scope.text(output.word))
    doubt = doubt or scope.foreign(source)
    scope.used -= set(names)
    finding = Finding(
        pattern=27,
        found="a template filled by envsubst",
        wrong="it wipes what looks like a variable, as nginx's $uri, and puts nothing for one that is not set",
        args=("render", f"{source}:{dest}", f"--vars={','.join(names) or 'NAME'}", "--mode=0644"),
        paths=(dest,),
        doubt=doubt,
        notes=("what is not in --vars stays as it is; --mode=0640 and fsGroup for what holds a secret",),
    )
    return (finding,)


def output_of(redirects: tuple[Redirect, ...]) -> Redirect | None:
    """Give the one redirect of stdout to a file."""
    found = [each for each in redirects if each.operator in (">", ">|") and each.descriptor in ("", "1")]
    others = [each for each in redirects if each not in found and each.operator not in ("<", "<<", "<<-", "<<<")]
    return found[0] if len(found) == 1 and idle.quiet(others) else None


def _sed(command: Command, scope: Scope) -> tuple[Step, ...] | None:
    options = parted(scope.texts(command)[1:], "ef", ("expression", "file"))
    if not options.has("i", "in-place") and output_of(command.redirects) is None:
        return None
    finding = Finding(
        kind="partial",
        pattern=28,
        found="values put into a file by sed",
        wrong="a / or & in a value breaks the file, and a second run finds nothing to replace",
        instead="write ${NAME} in the template, and: pod-init render TEMPLATE:FILE --vars=NAME",
    )
    return (finding,)


def _move(command: Command, scope: Scope) -> tuple[Step, ...] | None:
    options = parted(scope.texts(command)[1:], "t")
    into = options.value("t")
    sources, dest = (options.operands, into) if into else (options.operands[:-1], (options.operands or [""])[-1])
    if not sources or not options.only("f v t"):
        return None
    target = scope.path(dest)
    mount = scope.mount(target)
    inside = bool(into) or len(sources) > 1 or dest.endswith("/") or (mount is not None and mount[1] == target)
    places = [f"{target.rstrip('/')}/{posixpath.basename(source)}" if inside else target for source in sources]
    return tuple(Change("move", (scope.path(source),), (place,)) for source, place in zip(sources, places, strict=True))


_COMMANDS: dict[str, Callable[[Command, Scope], tuple[Step, ...] | None]] = {
    "mkdir": _mkdir,
    "chown": _owner,
    "chgrp": _owner,
    "chmod": _chmod,
    "rm": _remove,
    "envsubst": _envsubst,
    "sed": _sed,
    "mv": _move,
}
