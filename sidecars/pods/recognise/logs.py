"""Files that are shown on stdout as they grow: rows 12 to 14 of the catalogue."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence

from sidecars.pods.recognise import idle
from sidecars.pods.recognise.finding import Change, Finding, Step
from sidecars.pods.recognise.options import Options, parted
from sidecars.pods.recognise.scope import UNSURE, Scope
from sidecars.pods.statements import Chain, Command, Group, If, Pipeline, Redirect, Statement

_LONG = ("lines", "bytes", "pid", "sleep-interval", "max-unchanged-stats")
_KNOWN = "f F n q v s follow retry lines sleep-interval quiet silent verbose max-unchanged-stats 0 1 2 3 4 5 6 7 8 9"
_GLOB = frozenset("*?[")
_NO_LOGS = ("/proc/", "/sys/", "/dev/")
_STOPS = (
    "tail -f stays on the file that was rotated away, misses what comes at the end, and repeats lines after a restart"
)
_HEADERS = "tail -F writes its own lines between those of the log, and repeats lines after a restart"
_ENDS = "tail without -F prints ten lines and ends, and fails when the file is not there yet"
_REPEATS = "each turn prints the whole file again, and what is rotated away in between is never seen"


def follow(statement: Statement, scope: Scope) -> tuple[Step, ...] | None:
    """Recognise tail, and loops of cat."""
    match statement:
        case Command() if statement.name == "tail":
            found = _tail(statement, scope)
        case Command() if statement.name == "touch":
            paths = parted(scope.texts(statement)[1:], "drt").operands
            return (Change("touch", tuple(map(scope.path, paths))),) if paths else None
        case Command() if statement.name == "watch":
            found = _watched(statement, scope)
        case Pipeline([Command() as first, *_]) if first.name == "tail" and _follows(first, scope):
            found = _tail(first, scope, "its lines go through other commands")
        case _:
            found = _loop(statement, scope)
    return (found,) if found else None


def _options(command: Command, scope: Scope) -> Options:
    return parted(scope.texts(command)[1:], "ncsb", _LONG)


def _follows(command: Command, scope: Scope) -> bool:
    return _options(command, scope).has("f", "F", "follow")


def _tail(command: Command, scope: Scope, doubt: str = "") -> Finding | None:
    options = _options(command, scope)
    follows = _follows(command, scope)
    if not follows and (scope.container.init or scope.container.only or not options.operands):
        return None
    if not follows:
        wrong = _ENDS
    else:
        wrong = _HEADERS if options.has("F", "retry") or options.value("follow") == "name" else _STOPS
    if not options.only(_KNOWN):
        doubt = doubt or "its options"
    more = ["--from=end"] if options.value("n", "lines") == "0" else []
    several = [] if options.has("q", "quiet", "silent") else _labels(options.operands)
    doubt = doubt or ("" if _to_stdout(command.redirects) else "its lines do not go to stdout")
    pattern = 13 if wrong == _HEADERS or _globbed(options.operands) else 12
    return _finding(pattern, "tail of a log", wrong, options.operands, [*several, *more], doubt, scope)


def _globbed(paths: Sequence[str]) -> bool:
    return any(set(path) & _GLOB for path in paths)


def _labels(paths: Sequence[str]) -> list[str]:
    """Tell files apart, as tail's headers do."""
    if len(paths) < 2 and not _globbed(paths):
        return []
    return ["--label=name" if len({posixpath.dirname(path) for path in paths}) == 1 else "--label=path"]


def _to_stdout(redirects: Sequence[Redirect]) -> bool:
    """Say whether lines go where they go without a redirect; what tail complains of may go anywhere."""
    for redirect in redirects:
        target = redirect.word.literal
        if redirect.descriptor == "2" or redirect.operator == "<":
            continue
        if target not in ("/dev/stdout", "/proc/1/fd/1", "/proc/self/fd/1", "/dev/fd/1"):
            return False
    return True


def _watched(command: Command, scope: Scope) -> Finding | None:
    """Read `watch -n 5 cat FILE`."""
    match parted(scope.texts(command)[1:], "n", ("interval",)).operands:
        case ["cat", *paths] if paths:
            return _finding(14, "a file shown again and again", _REPEATS, paths, _labels(paths), "", scope)
    return None


def _loop(statement: Statement, scope: Scope) -> Finding | None:
    """Read `while true; do cat FILE; sleep 30; done`."""
    turns = idle.endless(statement)
    if turns is None:
        return None
    does = [each for turn in turns for each in effects(turn)]
    shows = [each for each in does if isinstance(each, Command) and _shows(each)]
    paths = [text for each in shows for text in parted(scope.texts(each)[1:], "n", ("lines",)).operands]
    paths = list(dict.fromkeys(paths))
    if not paths:
        return None
    doubt = "it does more than that in each turn" if len(shows) < len(does) else ""
    return _finding(14, "a file shown again and again", _REPEATS, paths, _labels(paths), doubt, scope)


def effects(statement: Statement) -> Iterator[Statement]:
    """Give what a statement does, without what is idle and without the conditions that it is under."""
    match statement:
        case _ if idle.idle(statement):
            return
        case Chain(_, left, right):
            yield from (*effects(left), *effects(right))
        case Group(body, redirects) if idle.quiet(redirects):
            for each in body:
                yield from effects(each)
        case If() if all(idle.idle(each) for condition, _ in statement.branches for each in condition):
            for each in idle.inside(statement):
                yield from effects(each)
        case _:
            yield statement


def _shows(command: Command) -> bool:
    if command.name not in ("cat", "tail") or not _to_stdout(command.redirects):
        return False
    options = parted([str(word) for word in command.words[1:]], "nc")
    return not options.has("c", "f", "F")


def _finding(
    pattern: int, found: str, wrong: str, paths: Sequence[str], more: list[str], doubt: str, scope: Scope
) -> Finding | None:
    files = list(map(scope.path, paths))
    if not files or any(path == "-" for path in paths) or any(file.startswith(_NO_LOGS) for file in files):
        return None
    unknown = any(UNSURE not in file and scope.mount(file) is None for file in files)
    mounts = [mount for file in files if (mount := scope.mount(file))]
    return Finding(
        pattern=pattern,
        found=found,
        wrong=wrong,
        image="log-tailer",
        args=(*files, *more),
        paths=tuple(files),
        loops=True,
        doubt=doubt or ("it is on no volume, where nobody else could write to it" if unknown else ""),
        read_only=tuple(dict.fromkeys(path for _, path, _ in mounts)),
        notes=(
            "a volume at /state keeps how far it came over a restart",
            *(
                ()
                if "--from=end" in more
                else ("it begins with the first line of the file, --from=end with the next one",)
            ),
        ),
    )
