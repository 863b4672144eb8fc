"""Looks at files: tests, ls, and grep for a word in one."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from sidecars.pods.recognise.options import parted
from sidecars.pods.recognise.probes.probe import Probe
from sidecars.pods.recognise.scope import UNSURE, Scope, escaped
from sidecars.pods.statements import Command

_TESTS = {"-f": "", "-e": "", "-s": "?nonempty", "-d": "", "-r": "", "-S": "", "-x": "", "-a": ""}
_SAFE = "/:@!$&'()*+,;=~{}"


def target(path: str, option: str, scope: Scope) -> str:
    """Write one target; a path with a glob is unsure, for a test expands it and a target does not."""
    absolute = scope.path(path)
    unsure = UNSURE if any(char in path for char in "*?[") and UNSURE not in absolute else ""
    return f"file://{unsure}{escaped(absolute, _SAFE)}{option}"


def _probe(targets: Sequence[str], scope: Scope, name: str = "a test", alone: bool = True) -> Probe:
    paths = [text.removeprefix("not:").removeprefix("file://").partition("?")[0] for text in targets]
    return Probe(
        pattern=10,
        found=f"a wait for a file by {name}",
        wrong="the file may be half written, or left from the last start, and nothing ends the wait",
        targets=tuple(targets),
        alone=alone,
        doubt=next(filter(None, map(scope.foreign, paths)), ""),
        notes=("stable=2s waits until it has not changed for so long, newer=start for one of this start",),
    )


def tested(command: Command, scope: Scope) -> Probe | None:
    """Read `[ -f /shared/ready ]`, `test ! -s FILE`, `[ -f A -a -f B ]`."""
    words = scope.texts(command)[1:]
    if command.name != "test":
        words = words[:-1]
    negated = words[:1] == ["!"]
    words = words[1:] if negated else words
    pairs = [(words[place], words[place + 1 : place + 2]) for place in range(0, len(words), 3)]
    joined = set(words[2::3]) <= {"-a", "&&"}
    if not pairs or not joined or not all(test in _TESTS and path for test, path in pairs):
        return None
    targets = [target(path[0], _TESTS[test], scope) for test, path in pairs]
    if negated and len(targets) > 1:
        return None
    found = _probe([f"not:{text}" for text in targets] if negated else targets, scope)
    executable = any(test == "-x" for test, _ in pairs)
    return replace(found, doubt=found.doubt or "it waits for the file's mode, too") if executable else found


def listed(command: Command, scope: Scope) -> Probe | None:
    """Read `ls FILE`, `stat FILE`, `cat FILE`, `grep -q WORD FILE`, as conditions of a loop."""
    options = parted(scope.texts(command)[1:], "c")
    if command.name in ("ls", "stat", "cat") and len(options.operands) == 1:
        return _probe([target(options.operands[0], "", scope)], scope, command.name, alone=False)
    if command.name in ("grep", "fgrep") and len(options.operands) == 2 and options.only("q", "F", "s"):
        word, path = options.operands
        plain = UNSURE if any(char in word for char in ".*[]^$\\") and not options.has("F") else ""
        return _probe([target(path, f"?contains={plain}{escaped(word, '')}", scope)], scope, "grep", alone=False)
    return None
