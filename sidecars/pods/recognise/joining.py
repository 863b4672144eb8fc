"""Steps that belong together: a download and the tar behind it, a clone and the loop that pulls, waits in a row."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from sidecars.pods.recognise.fetching import unpack
from sidecars.pods.recognise.finding import Change, Finding, Step, Unclear
from sidecars.pods.recognise.scope import Scope, is_below, references, shown
from sidecars.pods.recognise.syncing import follow_clone
from sidecars.pods.recognise.waiting import waits_for_file

_MODES = {"+x": "0755", "a+x": "0755", "u+x": "0755", "ugo+x": "0755", "+rx": "0755"}
_PERSISTS = ("copy", "fetch", "mkdir", "write", "render")
_ELSEWHERE = "what it writes is on no volume that it may write to, and is gone with the container"
_NEAR = 12  # steps back that one may belong to


def joined(found: Sequence[Step], scope: Scope) -> list[Step]:
    """Join the steps of a script."""
    result: list[Step] = []
    for step in found:
        _add(step, result, scope)
    result = _followed(result)
    return [_persistent(_leftover(step, scope), scope) for step in result]


def _add(step: Step, result: list[Step], scope: Scope) -> None:
    """Put a step behind the others, or into the one that it belongs to."""
    last = len(result) - 1
    for place in range(last, max(-1, last - _NEAR), -1):
        together = _together(result[place], step, scope) or (_alike(result[place], step) if place == last else None)
        if together is not None:
            result[place : place + 1] = together
            return
    result.append(step)


def _together(first: Step, second: Step, scope: Scope) -> list[Step] | None:
    match first, second:
        case Finding(), Change("unpack", [archive], _) if first.pattern == 25 and first.paths == (archive,):
            return [unpack(first, second), Change("archive", (archive,))]
        case Change("archive", archives), Change("remove", paths) if set(paths) <= set(archives):
            return [first]
        case Finding(), Change("move", paths, [place]) if first.file and first.paths == paths:
            return _moved(first, place)
        case Finding(), Change("chmod", paths, [mode]):
            return _with_mode(first, paths, mode)
        case Finding(), Finding() if first.pattern == 20 and second.pattern == 21:
            return [follow_clone(first, second, scope)] if first.paths == second.paths else None
        case Change("remove", paths), Finding() if second.pattern == 20:
            return [second] if all(is_below(path.removesuffix("/*"), second.paths[0]) for path in paths) else None
    return None


def _moved(finding: Finding, place: str) -> list[Step] | None:
    """Put what is fetched to one place, and moved to another one, there at once."""
    if finding.args[0] != "fetch":
        return None
    return [replace(finding, args=(*finding.args[:2], place, *finding.args[3:]), paths=(place,))]


def _with_mode(finding: Finding, paths: tuple[str, ...], mode: str) -> list[Step] | None:
    """Put a chmod into what has made the files."""
    octal = _MODES.get(mode, mode if mode.isdecimal() else "")
    made = {path.rstrip("/") for path in finding.paths}
    if not octal or {path.rstrip("/") for path in paths} != made:
        return None
    if not finding.file and finding.args[:1] != ("mkdir",):
        return None
    args = tuple(arg for arg in finding.args if not arg.startswith("--mode="))
    return [replace(finding, args=(*args, f"--mode={octal if len(octal) > 3 else '0' + octal}"))]


def _alike(first: Step, second: Step) -> list[Step] | None:
    """Put two steps in a row together that one container can do."""
    if not isinstance(first, Finding) or not isinstance(second, Finding):
        return None
    if second.sure and second.targets and not first.some and set(second.targets) <= set(first.targets):
        return [first]  # a last look at what was waited for
    return [_merged(first, second)] if _mergeable(first, second) else None


def _mergeable(first: Finding, second: Finding) -> bool:
    if first.targets and second.targets:
        return first.image == second.image and not first.some and not second.some and first.limit == second.limit
    if first.image != second.image or not first.sure or not second.sure:
        return False
    same = _flags(first) == _flags(second)
    return same and (first.image in ("ambassador", "log-tailer") or first.args[0] == second.args[0] == "mkdir")


def _flags(finding: Finding) -> list[str]:
    return [arg for arg in finding.args if arg.startswith("--")]


def _merged(first: Finding, second: Finding) -> Finding:
    notes = tuple(dict.fromkeys(first.notes + second.notes))
    if first.targets:
        targets = tuple(dict.fromkeys(first.targets + second.targets))
        return replace(first, targets=targets, doubt=first.doubt or second.doubt, notes=notes)
    plain = [arg for arg in (*first.args, *second.args[_head(second) :]) if not arg.startswith("--")]
    return replace(
        first,
        args=(*dict.fromkeys(plain), *_flags(first)),
        paths=first.paths + second.paths,
        read_only=tuple(dict.fromkeys(first.read_only + second.read_only)),
        notes=notes,
    )


def _head(finding: Finding) -> int:
    """How many of the args are the subcommand."""
    return 1 if finding.image.startswith("pod-init") else 0


def _followed(found: list[Step]) -> list[Step]:
    """Leave out what makes a file, or waits for one, that is followed then: log-tailer waits by itself."""
    files = {path for step in found if isinstance(step, Finding) and step.image == "log-tailer" for path in step.paths}
    return [step for step in found if not (files and _only_for(step, files))]


def _only_for(step: Step, files: set[str]) -> bool:
    match step:
        case Change("touch", paths):
            return set(paths) <= files
        case Finding() if waits_for_file(step):
            waited = [target.removeprefix("file://").partition("?")[0] for target in step.targets]
            return all(any(is_below(file, path) for file in files) for path in waited)
    return False


def _leftover(step: Step, scope: Scope) -> Step:
    """Say what a change comes to that belongs to no other step."""
    match step:
        case Change("chown", _, [owner]):
            group = owner.rpartition(":")[2] if ":" in owner else owner
            group = shown(group) if group.isdecimal() or references(group) else "GROUP"  # a name says no number
            return _rights(17, "files given to a user by chown", f"fsGroup: {group}", scope)
        case Change("chmod", _, [mode]):
            return _rights(18, f"files made open by chmod {shown(mode)}", "fsGroup: GROUP", scope)
        case Change("archive"):
            return Finding(pattern=26, found="", wrong="")
        case Change(verb):
            return Unclear(verb)
    return step


def _rights(pattern: int, found: str, instead: str, scope: Scope) -> Finding:
    return Finding(
        kind="native",
        pattern=pattern,
        found=found,
        wrong="it needs root, which restricted pods have not, and goes through the whole volume at each start",
        instead=f"securityContext of the pod: {instead} and fsGroupChangePolicy: OnRootMismatch",
    )


def _persistent(step: Step, scope: Scope) -> Step:
    """Doubt what would be lost."""
    if not isinstance(step, Finding) or step.args[:1] not in [(verb,) for verb in _PERSISTS] or not step.sure:
        return step
    lost = [path for path in step.paths if not scope.writable(path)]
    return replace(step, doubt=_ELSEWHERE) if lost else step
